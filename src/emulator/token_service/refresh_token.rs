//! A refresh token, for the next tokens of a user who is not there.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{Place, RefreshRotation};
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::Proof;
use crate::emulator::token_service::grants::{REFRESH_IDLE, REFRESH_SPA, RefreshToken};
use crate::emulator::token_service::scopes::Scopes;
use crate::emulator::token_service::user_tokens::UserGrant;

pub(crate) async fn redeem(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let (client_id, app) = core.named_app(asked)?;
    let text = asked.form.get("refresh_token").ok_or_else(|| EntraError::missing("refresh_token"))?;
    let token = core.grants.refresh_token(text).ok_or_else(|| EntraError::aadsts(70000))?;
    // A refresh token is bound to user and client, and to no tenant.
    let tenant = core.tenant_for(&place, app.as_ref(), &token.signed_in.tenant)?;
    let app = core.present(app, &client_id, &tenant)?;
    let proof = if token.spa { Proof::Optional } else { Proof::OfConfidential };
    let acr = core.authenticate(asked, &app, &tenant, proof).await?;
    if token.client_id != app.client_id {
        return Err(EntraError::aadsts(70000)
            .because("client_mismatch")
            .saying("The provided refresh token was issued to another client."));
    }
    check(core, &token)?;

    // It always goes on: whoever refreshes gets the next refresh token, too.
    let mut scope = asked.form.get("scope").unwrap_or(&token.scope).to_owned();
    if !Scopes::parse(&scope)?.sign_in.offline_access {
        scope.push_str(" offline_access");
    }
    let grant = UserGrant {
        app: &app,
        acr,
        tenant: &tenant,
        signed_in: &token.signed_in,
        scope: &scope,
        nonce: None,
        claims: ClaimsRequest::parse(asked.form.get("claims"))?,
        family: Some(&token.family),
        spa: token.spa,
    };
    let answer = core.user_tokens(asked, grant).await.map_err(silent)?;
    let now = core.time.now();
    let replaced = core.grants.change_refresh_token(text, |token| {
        token.used = now;
        std::mem::replace(&mut token.replaced, true)
    });
    // Of two requests that came at once only one can have been the first.
    if replaced == Some(true) {
        refuse_used(core, &token)?;
    }
    Ok(answer)
}

/// Entra calls it a bad grant where a policy wants the user back, and nobody is there to ask.
fn silent(error: EntraError) -> EntraError {
    match error.code() {
        Some(50074 | 50076 | 50079 | 50158 | 53003) => error.called("invalid_grant"),
        _ => error,
    }
}

/// With rotation that means it, a refresh token that comes again was stolen from somebody: everyone has to sign in anew.
fn refuse_used(core: &Core, token: &RefreshToken) -> Result<(), EntraError> {
    if core.directory.refresh_rotation() != RefreshRotation::RevokeFamily {
        return Ok(());
    }
    core.grants.revoke_family(&token.family);
    Err(EntraError::aadsts(70000).because("bad_token").saying(
        "The provided refresh token was used before. All refresh tokens of this sign-in are revoked.",
    ))
}

fn check(core: &Core, token: &RefreshToken) -> Result<(), EntraError> {
    if core.grants.is_family_revoked(&token.family) {
        return Err(EntraError::aadsts(50173));
    }
    if token.replaced {
        refuse_used(core, token)?;
    }
    let since = |then| core.time.now().duration_since(then).unwrap_or_default();
    if token.spa && since(token.signed_in.at) > REFRESH_SPA {
        return Err(EntraError::aadsts(700084));
    }
    if since(token.used) > REFRESH_IDLE {
        return Err(EntraError::aadsts(700082));
    }
    Ok(())
}
