//! The page for the code that a device shows.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::flow::{Flow, Purpose};
use crate::emulator::sign_in::pages;
use crate::emulator::sign_in::run::Run;
use crate::emulator::token_service::client::single_tenant;
use crate::emulator::token_service::grants::{DEVICE_LIFETIME, Device, DeviceState};
use axum::Extension;
use axum::extract::State;
use std::sync::Arc;

/// The page's path, behind the tenant.
pub(crate) const PATH: &str = "/oauth2/deviceauth";

pub(crate) async fn page(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    match core.directory.place(asked.tenant().unwrap_or_default()) {
        Ok(_) => pages::device(&asked.path, asked.query.get("user_code"), None),
        Err(error) => pages::error(&error, Some(&asked)),
    }
}

pub(crate) async fn enter(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let typed = asked.form.get("user_code");
    match core.device_flow(typed.unwrap_or_default()) {
        Ok(flow) => Run::new(&core, &asked, flow).begin(),
        Err(error) => pages::device(&asked.path, typed, Some(&error)),
    }
}

/// It is this app that the user began with.
pub(crate) async fn confirm(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Answer {
    let Some(mut run) = Run::of_form(&core, &asked) else {
        return pages::expired();
    };
    run.flow.confirmed = true;
    run.proceed()
}

pub(crate) fn decline(core: &Core, device_code: &str) -> Answer {
    let declined = core.grants.with_device(device_code, |device| {
        let open = matches!(device.state, DeviceState::Pending | DeviceState::Declined);
        if open {
            device.state = DeviceState::Declined;
        }
        open
    });
    if declined == Some(true) { pages::device_declined() } else { pages::device_gone() }
}

impl Core {
    fn device_flow(&self, typed: &str) -> Result<Flow, EntraError> {
        let wrong = || {
            EntraError::aadsts(70018)
                .saying("That code is not right. Check what your device shows, and try again.")
        };
        let (device_code, device) = self.grants.device_by_user_code(typed).ok_or_else(wrong)?;
        let now = self.time.now();
        if now.duration_since(device.issued).unwrap_or_default() > DEVICE_LIFETIME {
            return Err(EntraError::aadsts(70019)
                .saying("That code has expired. Start again on your device, and enter the new code."));
        }
        if !matches!(device.state, DeviceState::Pending) {
            return Err(EntraError::aadsts(70018).saying("That code was used already."));
        }
        self.flow_of(device_code, device)
    }

    fn flow_of(&self, device_code: String, device: Device) -> Result<Flow, EntraError> {
        let place = self.directory.place(&device.tenant)?;
        let app = self.directory.app(&device.client_id).ok_or_else(|| EntraError::aadsts(700016))?;
        let purpose = Purpose::Device(device_code);
        let now = self.time.now();
        let flow = Flow::new(purpose, device.tenant, place, device.client_id, device.scope, now);
        let flow = Flow { claims: device.claims, ..flow };
        if flow.tenant().is_none() && !app.multi_tenant {
            return Err(single_tenant(&app.client_id));
        }
        Ok(flow)
    }
}
