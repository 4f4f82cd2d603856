//! An app that acts for itself.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{Accounts, Place};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::{Proof, single_tenant};
use crate::emulator::token_service::scopes::only_resource;
use crate::emulator::token_service::token::AccessToken;

pub(crate) async fn redeem(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let (client_id, app) = core.named_app(asked)?;
    let scope = asked.form.get("scope").ok_or_else(|| EntraError::missing("scope"))?;
    let tenant = match place {
        Place::Tenant(tenant) => tenant,
        Place::Any(_) if app.as_ref().is_some_and(|app| !app.multi_tenant) => {
            return Err(single_tenant(&client_id));
        }
        Place::Any(Accounts::Organizations) => return Err(EntraError::aadsts(50059)),
        Place::Any(_) => return Err(EntraError::aadsts(9001023)),
    };
    let app = core.present(app, &client_id, &tenant)?;
    let acr = core.authenticate(asked, &app, &tenant, Proof::Required).await?;

    let asked_as = only_resource(scope)?;
    let known = core.directory.resource(&asked_as).filter(|resource| resource.is_in(&tenant));
    let resource = known.ok_or_else(|| {
        EntraError::aadsts(500011).saying(format!(
            "The resource principal named {} was not found in the tenant named {tenant}.",
            echo(&asked_as)
        ))
    })?;
    if !resource.enabled {
        return Err(EntraError::aadsts(50001).saying(format!(
            "The resource named {} is disabled in the tenant named {tenant}.",
            echo(&asked_as)
        )));
    }
    if core.directory.is_app_blocked(&tenant, &app.client_id, |name| resource.is(name)) {
        return Err(EntraError::aadsts(53003));
    }
    let claims = ClaimsRequest::parse(asked.form.get("claims"))?;
    let minted = core
        .mint(AccessToken {
            authority: &asked.authority,
            tenant: &tenant,
            client_id: &app.client_id,
            acr,
            resource: &resource,
            asked_as: &asked_as,
            claims: &claims,
            user: None,
        })
        .await?;
    Ok(Answer::ok(&minted.answer()))
}
