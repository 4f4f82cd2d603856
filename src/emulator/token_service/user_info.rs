//! The user info endpoint of OpenID Connect: in Azure it is Graph's, here it must not lead away from this machine.

use crate::emulator::answer::Answer;
use crate::emulator::jws::{Jws, Lifetime};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::token::pairwise;
use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Where it is, behind the authority.
pub(crate) const PATH: &str = "/oidc/userinfo";

/// The app id of Graph, whose tokens are good here.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

pub(crate) async fn user_info(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Answer {
    match claims(&core, &asked).await {
        Some(claims) => Answer::ok(&claims),
        None => {
            let message = "A valid access token for Graph is needed.";
            let body = json!({"error": {"code": "InvalidAuthenticationToken", "message": message}});
            Answer::json(StatusCode::UNAUTHORIZED, &body)
                .header(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
        }
    }
}

/// What the token's user is, to the app that shows it.
async fn claims(core: &Core, asked: &Asked) -> Option<Value> {
    let (scheme, token) = asked.header("authorization")?.split_once(' ')?;
    let jws = Jws::parse(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
    let key = core.directory.keys().find(jws.header("kid")?).await.ok()??;
    let is_good = jws.algorithm() == Some(Algorithm::RS256)
        && jws.is_signed_by(key.public(), Algorithm::RS256)
        && jws.span()?.at(core.time.now(), Duration::ZERO) == Lifetime::Current
        && core.directory.resource(jws.claim("aud")?)?.app_id == GRAPH
        && jws.claim("scp").is_some();
    let name = jws.claim("upn").or(jws.claim("preferred_username"))?;
    let user = core.directory.user(name).filter(|_| is_good)?;
    let client_id = jws.claim("appid").or(jws.claim("azp"))?;
    // The subject of the id token: clients compare the two.
    let mut claims = json!({"sub": pairwise(&user, client_id), "name": user.display_name});
    if let Some(email) = &user.email {
        claims["email"] = json!(email);
    }
    Some(claims)
}
