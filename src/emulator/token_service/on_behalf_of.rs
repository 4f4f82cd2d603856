//! On behalf of: an API exchanges the token that it was called with for one to call further.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{App, Place, Requirement};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::jws::{Jws, Lifetime, Span};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::time::timestamp;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::Proof;
use crate::emulator::token_service::grants::SignedIn;
use crate::emulator::token_service::user_tokens::UserGrant;
use jsonwebtoken::Algorithm;
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) async fn redeem(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let (client_id, app) = core.named_app(asked)?;
    let required = |name: &str| asked.form.get(name).ok_or_else(|| EntraError::missing(name));
    let assertion = required("assertion")?;
    let token_use = required("requested_token_use")?;
    if token_use != "on_behalf_of" {
        return Err(EntraError::aadsts(90100).saying(format!(
            "The parameter 'requested_token_use' is not valid: '{}'. 'on_behalf_of' is expected.",
            echo(token_use)
        )));
    }
    let scope = required("scope")?;
    let jws = Jws::parse(assertion).ok_or_else(|| refused("The assertion is not a JSON Web Token."))?;
    // Not to be believed yet; it only says where to look.
    let known = jws.claim("tid").unwrap_or_default();
    let tenant = core.tenant_for(&place, app.as_ref(), known)?;
    let app = core.present(app, &client_id, &tenant)?;
    let acr = core.authenticate(asked, &app, &tenant, Proof::Required).await?;
    verify(core, &app, &tenant, &jws).await?;
    let signed_in = core.signed_in(&jws, &tenant)?;
    let grant = UserGrant {
        app: &app,
        acr,
        tenant: &tenant,
        signed_in: &signed_in,
        scope,
        nonce: None,
        claims: ClaimsRequest::parse(asked.form.get("claims"))?,
        family: None,
        spa: false,
    };
    core.user_tokens(asked, grant).await
}

/// Whether the assertion is an access token that a user's client was given for this app.
///
/// # Errors
///
/// 50013 signature, tenant, and what is no access token; 500133 time, 7000114 an app's token, 500131 another audience.
async fn verify(core: &Core, app: &App, tenant: &str, jws: &Jws<'_>) -> Result<(), EntraError> {
    if jws.algorithm() != Some(Algorithm::RS256) {
        return Err(refused("The signature algorithm is not supported."));
    }
    let kid = jws.header("kid").unwrap_or_default();
    let key = core.directory.keys().find(kid).await?.ok_or_else(|| {
        refused(&format!("The key was not found., Thumbprint of key used by client: '{}'", echo(kid)))
    })?;
    if !jws.is_signed_by(key.public(), Algorithm::RS256) {
        return Err(refused("The provided signature value did not match the expected signature value."));
    }
    let span = jws.span().ok_or_else(|| refused("The token says no time of expiry."))?;
    let now = core.time.now();
    // Made by this clock, so that there is no skew to allow for.
    if span.at(now, Duration::ZERO) != Lifetime::Current {
        let Span { from, until } = span;
        return Err(EntraError::aadsts(500133).saying(format!(
            "Assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of assertion {}.",
            timestamp(now),
            timestamp(from),
            timestamp(until)
        )));
    }
    if jws.claim("tid") != Some(tenant) {
        return Err(refused("The token issuer is not the tenant of the request."));
    }
    let audience = jws.claim("aud").unwrap_or_default();
    let resource = core.directory.resource(audience);
    if audience != app.client_id && resource.is_none_or(|resource| resource.app_id != app.client_id) {
        return Err(EntraError::aadsts(500131).saying(format!(
            "Assertion audience does not match the Client app presenting the assertion. The audience in the assertion was '{}' and the expected audience is '{}' or one of the Application Uris of this application with App ID '{}'({}). The downstream client must request a token for the expected audience and this application should use that token as the assertion.",
            echo(audience),
            app.client_id,
            app.client_id,
            app.name
        )));
    }
    if jws.claim("idtyp") == Some("app") {
        return Err(EntraError::aadsts(7000114).saying(format!(
            "Application '{}' is not allowed to make application on-behalf-of calls.",
            app.client_id
        )));
    }
    // An id token has this audience, too, and is nobody's permission to call anything.
    if jws.claim("scp").is_none() {
        return Err(refused("The token is not an access token."));
    }
    Ok(())
}

fn refused(reason: &str) -> EntraError {
    EntraError::aadsts(50013).saying(format!("Assertion failed signature validation. [Reason - {reason}]"))
}

impl Core {
    /// The sign-in that a verified access token goes back to.
    fn signed_in(&self, jws: &Jws<'_>, tenant: &str) -> Result<SignedIn, EntraError> {
        let sid = jws.claim("sid").unwrap_or_default();
        if let Some(signed_in) = self.grants.sign_in(sid) {
            return Ok(signed_in);
        }
        // One of before this emulator started, or long forgotten: what the token says of the user is what there is.
        let name = jws.claim("preferred_username").or(jws.claim("upn")).unwrap_or_default();
        let user = self.directory.user(name).filter(|user| jws.claim("oid") == Some(&user.object_id));
        let user = user.ok_or_else(|| {
            EntraError::aadsts(50034)
                .saying(format!("The user account {} does not exist in the directory {tenant}.", echo(name)))
        })?;
        Ok(SignedIn {
            sid: sid.to_owned(),
            user: user.name,
            tenant: tenant.to_owned(),
            at: jws.span().map_or_else(|| self.time.now(), |span| span.from),
            fulfilled: BTreeSet::<Requirement>::new(),
            revoked: user.revoked,
        })
    }
}
