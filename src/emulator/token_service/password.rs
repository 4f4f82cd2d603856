//! User name and password, sent by the app itself: discouraged, and still used by tests that have no browser.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{Accounts, Place};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::Proof;
use crate::emulator::token_service::user_tokens::UserGrant;
use std::collections::BTreeSet;

pub(crate) async fn redeem(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let (client_id, app) = core.named_app(asked)?;
    let required = |name: &str| asked.form.get(name).ok_or_else(|| EntraError::missing(name));
    let (username, password, scope) = (required("username")?, required("password")?, required("scope")?);
    let named = match &place {
        Place::Tenant(tenant) => Some(tenant.as_str()),
        Place::Any(Accounts::Organizations) => None,
        Place::Any(_) => return Err(EntraError::aadsts(9001023)),
    };
    let unknown = || {
        EntraError::aadsts(50034)
            .saying(format!("The user account {} does not exist in the directory.", echo(username)))
    };
    let user = core.directory.user_typed(username, named).ok_or_else(unknown)?;
    let home = core.directory.home_of(&user).unwrap_or_default();
    let tenant = core.tenant_for(&place, app.as_ref(), &home)?;
    let app = core.present(app, &client_id, &tenant)?;
    let acr = core.authenticate(asked, &app, &tenant, Proof::OfConfidential).await?;
    let signed_in = core.sign_in(&user, password, &tenant, BTreeSet::new())?;
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
