//! Redeeming an authorization code.

use crate::emulator::answer::Answer;
use crate::emulator::directory::Place;
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::Proof;
use crate::emulator::token_service::grants::{CODE_LIFETIME, Challenge, Code};
use crate::emulator::token_service::scopes::Scopes;
use crate::emulator::token_service::user_tokens::UserGrant;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

pub(crate) async fn redeem(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let (client_id, app) = core.named_app(asked)?;
    let text = asked.form.get("code").ok_or_else(|| EntraError::missing("code"))?;
    let code = core.grants.code(text).ok_or_else(|| EntraError::aadsts(70000))?;
    let home = &code.signed_in.tenant;
    let tenant = core.tenant_for(&place, app.as_ref(), home)?;
    let app = core.present(app, &client_id, &tenant)?;
    let proof = if code.spa { Proof::Optional } else { Proof::OfConfidential };
    let acr = core.authenticate(asked, &app, &tenant, proof).await?;
    if code.client_id != app.client_id {
        return Err(
            EntraError::aadsts(70000).saying("The provided authorization code was issued to another client.")
        );
    }
    if tenant != *home {
        return Err(EntraError::aadsts(700005));
    }
    check(core, asked, &code)?;
    let scope = scope(asked, &code)?;
    let claims = ClaimsRequest::parse(asked.form.get("claims").or(code.claims.as_deref()))?;
    // Only now, so that a request that was refused can be mended and sent again.
    if !core.grants.redeem_code(text) {
        return Err(EntraError::aadsts(54005));
    }
    let grant = UserGrant {
        app: &app,
        acr,
        tenant: &tenant,
        signed_in: &code.signed_in,
        scope: &scope,
        nonce: code.nonce.as_deref(),
        claims,
        family: None,
        spa: code.spa,
    };
    core.user_tokens(asked, grant).await
}

/// What the code is bound to, beside its client and tenant.
fn check(core: &Core, asked: &Asked, code: &Code) -> Result<(), EntraError> {
    let redirect_uri = asked.form.get("redirect_uri").ok_or_else(|| EntraError::missing("redirect_uri"))?;
    if !is_same(redirect_uri, &code.redirect_uri) {
        return Err(EntraError::aadsts(500112).saying(format!(
            "The reply address '{}' does not match the reply address '{}' provided when requesting Authorization code.",
            echo(redirect_uri),
            echo(&code.redirect_uri)
        )));
    }
    if code.redeemed {
        return Err(EntraError::aadsts(54005));
    }
    if core.time.now().duration_since(code.issued).unwrap_or_default() > CODE_LIFETIME {
        return Err(EntraError::aadsts(70008));
    }
    verifier(asked.form.get("code_verifier"), code)
}

/// To the letter, but for the path `/` that a browser gives a URI without a path, and that some clients take from there.
fn is_same(one: &str, other: &str) -> bool {
    let without_path =
        |uri: &str| Url::parse(uri).is_ok_and(|url| url.path() == "/" && url.query().is_none());
    one == other
        || [(one, other), (other, one)]
            .iter()
            .any(|(short, long)| long.strip_suffix('/') == Some(short) && without_path(short))
}

fn verifier(sent: Option<&str>, code: &Code) -> Result<(), EntraError> {
    match (sent, &code.challenge) {
        (None, None) if code.spa => Err(EntraError::aadsts(9002325)),
        (None, None) => Ok(()),
        // RFC 7636 gives a verifier 43 to 128 characters.
        (Some(verifier), _) if !(43..=128).contains(&verifier.len()) => Err(EntraError::aadsts(50147)),
        (Some(verifier), Some(Challenge::Plain(challenge))) if verifier == challenge => Ok(()),
        (Some(verifier), Some(Challenge::S256(challenge)))
            if URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())) == *challenge =>
        {
            Ok(())
        }
        _ => Err(EntraError::aadsts(501481)),
    }
}

/// The scopes of the token: those of the redemption, else those of the sign-in.
fn scope(asked: &Asked, code: &Code) -> Result<String, EntraError> {
    match asked.form.get("scope") {
        None if asked.form.has("scope") => Err(EntraError::aadsts(28003)),
        None => Ok(code.scope.clone()),
        Some(scope) => match Scopes::parse(scope) {
            Ok(_) => Ok(scope.to_owned()),
            Err(_) => Err(EntraError::aadsts(28002).saying(format!(
                "The provided value for the input parameter scope '{}' is not valid when requesting an access token using the provided authorization code. Please specify a valid scope.",
                echo(scope)
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_compared_to_the_letter_but_for_an_empty_path() {
        assert!(is_same("http://localhost:1", "http://localhost:1/"));
        assert!(is_same("http://localhost:1/", "http://localhost:1"));
        assert!(is_same("http://localhost:1/cb", "http://localhost:1/cb"));
        for other in ["http://localhost:1/cb/", "http://localhost:2/cb", "http://LOCALHOST:1/cb", ""] {
            assert!(!is_same("http://localhost:1/cb", other), "{other}");
        }
        assert!(!is_same("http://localhost:1?a=b", "http://localhost:1?a=b/"));
    }
}
