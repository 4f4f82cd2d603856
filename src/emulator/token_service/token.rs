//! Access tokens: real JWTs, in the shape that their resource wants.

use crate::emulator::directory::Resource;
use crate::emulator::error::EntraError;
use crate::emulator::ids;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Who an app token speaks for, and to whom.
pub(crate) struct AppToken<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) client_id: &'a str,
    /// How the client proved itself: 1 with a secret, 2 with a certificate or assertion.
    pub(crate) acr: u8,
    pub(crate) resource: &'a Resource,
    /// The resource as the request spelled it, which is what a v1 audience repeats.
    pub(crate) asked_as: &'a str,
}

/// A token and the time that is left to it.
#[derive(Clone)]
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) from: SystemTime,
    pub(crate) lifetime: Duration,
}

impl Minted {
    pub(crate) fn expires(&self) -> SystemTime {
        // A lifetime beyond what the clock can hold expires at once rather than bringing the emulator down.
        self.from.checked_add(self.lifetime).unwrap_or(self.from)
    }
}

impl Core {
    pub(crate) async fn mint(&self, wanted: AppToken<'_>) -> Result<Minted, EntraError> {
        let key = self.directory.keys().signing().await?;
        let minted = Minted {
            token: String::new(),
            from: self.time.now(),
            lifetime: Duration::from_secs(self.directory.lifetime().as_secs()),
        };
        let token = key.sign(&self.claims(&wanted, &minted))?;
        Ok(Minted { token, ..minted })
    }

    fn claims(&self, wanted: &AppToken<'_>, minted: &Minted) -> Value {
        let &AppToken { tenant, client_id, resource, .. } = wanted;
        let principal = self.directory.principal(tenant, client_id);
        let object_id = principal.as_ref().map_or(client_id, |principal| &principal.object_id);
        let roles = principal.as_ref().and_then(|principal| principal.roles.get(&resource.app_id));
        let from = unix_seconds(minted.from);
        let mut claims = json!({
            "iat": from,
            "nbf": from,
            "exp": unix_seconds(minted.expires()),
            "idtyp": "app",
            "oid": object_id,
            "sub": object_id,
            "tid": tenant,
            // Without it two tokens of one second would be the same token.
            "uti": URL_SAFE_NO_PAD.encode(ids::random::<16>()),
        });
        let acr = wanted.acr.to_string();
        let shape = if resource.v2 {
            json!({
                "aud": resource.app_id,
                "iss": format!("{}/{tenant}/v2.0", self.authority),
                "azp": client_id,
                "azpacr": acr,
                "ver": "2.0",
            })
        } else {
            let issuer = format!("https://sts.windows.net/{tenant}/");
            json!({
                "aud": wanted.asked_as,
                "iss": issuer,
                "idp": issuer,
                "appid": client_id,
                "appidacr": acr,
                "ver": "1.0",
            })
        };
        let roles = match roles {
            Some(roles) => json!({ "roles": roles }),
            None => json!({}),
        };
        for more in [shape, roles] {
            if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
                claims.extend(more);
            }
        }
        claims
    }
}
