//! Device codes: begun on a device without a keyboard, approved in a browser, fetched by polling.

use crate::emulator::answer::Answer;
use crate::emulator::directory::Place;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::Proof;
use crate::emulator::token_service::grants::{self, DEVICE_LIFETIME, Device, DeviceState, SignedIn};
use crate::emulator::token_service::scopes::Scopes;
use crate::emulator::token_service::user_tokens::UserGrant;
use axum::Extension;
use axum::extract::State;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Where a user enters the code, behind the authority.
pub(crate) const PAGE: &str = "/common/oauth2/deviceauth";

/// So much earlier than the interval says a client may ask: timers and networks are not that exact.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How much longer the interval becomes when it was not kept: RFC 8628 section 3.5.
const SLOWER: Duration = Duration::from_secs(5);

pub(crate) async fn start(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let path = asked.tenant().unwrap_or_default();
    let place = core.directory.place(path)?;
    if let Some(name) = asked.form.too_long() {
        return Err(EntraError::too_long(name));
    }
    let (client_id, app) = core.named_app(&asked)?;
    let scope = asked.form.get("scope").ok_or_else(|| EntraError::missing("scope"))?;
    Scopes::parse(scope)?;
    let home = app.as_ref().map(|app| app.home_tenant.clone()).unwrap_or_default();
    let tenant = core.tenant_for(&place, app.as_ref(), &home)?;
    let app = core.present(app, &client_id, &tenant)?;
    let claims = asked.form.get("claims");
    ClaimsRequest::parse(claims)?;
    let interval = core.directory.device_interval();
    let user_code = grants::user_code();
    let device_code = core.grants.add_device(Device {
        user_code: user_code.clone(),
        client_id: app.client_id,
        tenant: path.to_owned(),
        scope: scope.to_owned(),
        claims: claims.map(str::to_owned),
        issued: core.time.now(),
        interval,
        polled: None,
        state: DeviceState::Pending,
    });
    let page = format!("{}{PAGE}", asked.authority);
    Ok(Answer::ok(&json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": page,
        "expires_in": DEVICE_LIFETIME.as_secs(),
        "interval": interval.as_secs(),
        "message": format!("To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."),
    })))
}

/// What a poll found.
enum Poll {
    Refused(u32),
    TooFast,
    OtherClient,
    Approved(Box<(Device, SignedIn)>),
}

pub(crate) async fn redeem(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let (client_id, app) = core.named_app(asked)?;
    // MSAL for Python sends it by both names, the v1 clients by the second only.
    let sent = asked.form.get("device_code").or(asked.form.get("code"));
    let sent = sent.ok_or_else(|| EntraError::missing("device_code"))?;
    let now = core.time.now();
    let poll = core.grants.with_device(sent, |device| {
        let since = |then| now.duration_since(then).unwrap_or_default();
        if !device.client_id.eq_ignore_ascii_case(&client_id) {
            return Poll::OtherClient;
        }
        if since(device.issued) > DEVICE_LIFETIME {
            return Poll::Refused(70019);
        }
        let last = device.polled.replace(now);
        match &device.state {
            DeviceState::Declined => Poll::Refused(65004),
            DeviceState::Redeemed => Poll::Refused(54005),
            DeviceState::Approved(signed_in) => Poll::Approved(Box::new((device.clone(), signed_in.clone()))),
            DeviceState::Pending => {
                if last.is_some_and(|last| since(last).saturating_add(TOLERANCE) < device.interval) {
                    device.interval = device.interval.saturating_add(SLOWER);
                    return Poll::TooFast;
                }
                Poll::Refused(70016)
            }
        }
    });
    let (device, signed_in) = match poll {
        None => return Err(EntraError::aadsts(70018)),
        Some(Poll::OtherClient) => return Err(EntraError::aadsts(70018)),
        Some(Poll::Refused(65004)) => return Err(EntraError::aadsts(65004).called("authorization_declined")),
        Some(Poll::Refused(code)) => return Err(EntraError::aadsts(code)),
        Some(Poll::TooFast) => {
            return Err(EntraError::aadsts(70016).called("slow_down").saying(
                "The client asks more often than the interval allows: it is 5 seconds longer from now on.",
            ));
        }
        Some(Poll::Approved(found)) => *found,
    };
    let tenant = core.tenant_for(&place, app.as_ref(), &signed_in.tenant)?;
    if tenant != signed_in.tenant {
        return Err(EntraError::aadsts(700005));
    }
    let app = core.present(app, &client_id, &tenant)?;
    let acr = core.authenticate(asked, &app, &tenant, Proof::OfConfidential).await?;
    let claims = ClaimsRequest::parse(asked.form.get("claims").or(device.claims.as_deref()))?;
    // Once only, even if two polls come at the same time.
    let first = core.grants.with_device(sent, |device| {
        let before = std::mem::replace(&mut device.state, DeviceState::Redeemed);
        matches!(before, DeviceState::Approved(_))
    });
    if first != Some(true) {
        return Err(EntraError::aadsts(54005));
    }
    let grant = UserGrant {
        app: &app,
        acr,
        tenant: &tenant,
        signed_in: &signed_in,
        scope: asked.form.get("scope").unwrap_or(&device.scope),
        nonce: None,
        claims,
        family: None,
        spa: false,
    };
    core.user_tokens(asked, grant).await
}
