//! Which user stands behind a request, as far as it can be told before it is served.

use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::grants::DeviceState;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

impl Core {
    /// The name of a user that the directory has; what else was typed for a user's name may be anything, and a password too.
    pub(crate) fn who(&self, asked: &Asked) -> Option<String> {
        let form = &asked.form;
        if let Some(typed) = form.get("username") {
            let tenant = asked.tenant().and_then(|tenant| self.directory.tenant_id(tenant));
            return self.directory.user_typed(typed, tenant.as_deref()).map(|user| user.name);
        }
        if let Some(token) = form.get("refresh_token").and_then(|text| self.grants.refresh_token(text)) {
            return Some(token.signed_in.user);
        }
        if let Some(code) = form.get("code").and_then(|text| self.grants.code(text)) {
            return Some(code.signed_in.user);
        }
        if let Some(device) = form.get("device_code").or(form.get("code")) {
            return self.grants.with_device(device, |device| match &device.state {
                DeviceState::Approved(signed_in) => Some(signed_in.user.clone()),
                _ => None,
            })?;
        }
        self.of_assertion(form.get("assertion")?)
    }

    /// Whose token it is that an app brings along. Whether it is good is not for here to say.
    fn of_assertion(&self, token: &str) -> Option<String> {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let name = claims.get("upn").or(claims.get("preferred_username"))?.as_str()?;
        self.directory.user(name).map(|user| user.name)
    }
}
