//! Managed identity on each platform, against the emulator's endpoints.

mod answers;
mod federated;
mod platforms;
mod refused;

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use entra_broker::{
    AccessToken, Broker, CallOptions, Env, Error, ManagedIdentity, ManagedIdentityId,
    emulator::{self, Emulator, sample},
};

use crate::support::*;

pub(crate) const PLATFORMS: [&str; 6] =
    ["imds", "app-service", "azure-arc", "cloud-shell", "azure-ml", "service-fabric"];

/// An emulator with all six endpoints, and where Azure Arc's key files are.
struct Place {
    world: World,
    keys: PathBuf,
}

impl Place {
    async fn new() -> Self {
        let keys = keys();
        Self { world: World::with(Emulator::builder().arc_key_dir(&keys)).await, keys }
    }

    async fn on_sockets(change: impl FnOnce(emulator::Builder) -> emulator::Builder) -> Self {
        let keys = keys();
        let builder = Emulator::builder().arc_key_dir(&keys).identity_tls_listen(([127, 0, 0, 1], 0).into());
        Self { world: World::on_sockets_with(change(builder)).await, keys }
    }

    fn emulator(&self) -> &Emulator {
        &self.world.emulator
    }

    /// What the platform sets for what runs on it.
    fn env(&self, platform: &str) -> Env {
        let at = |path: &str| format!("{}{path}", self.emulator().identity_endpoint());
        let header = sample::APP_SERVICE_HEADER;
        match platform {
            "imds" => Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", at("")),
            "app-service" => {
                Env::empty().set("IDENTITY_ENDPOINT", at("/msi/token")).set("IDENTITY_HEADER", header)
            }
            "azure-arc" => {
                Env::empty().set("IDENTITY_ENDPOINT", at("/arc/token")).set("IMDS_ENDPOINT", at(""))
            }
            "cloud-shell" => Env::empty().set("MSI_ENDPOINT", at("/cloudshell")),
            "azure-ml" => Env::empty().set("MSI_ENDPOINT", at("/ml/token")).set("MSI_SECRET", header),
            "service-fabric" => {
                let tls = self.emulator().identity_tls_endpoint().unwrap_or("https://127.0.0.1:2");
                let thumbprint = "0".repeat(40);
                let thumbprint = self.emulator().identity_tls_thumbprint().unwrap_or(&thumbprint);
                Env::empty()
                    .set("IDENTITY_ENDPOINT", format!("{tls}/sf/token"))
                    .set("IDENTITY_HEADER", header)
                    .set("IDENTITY_SERVER_THUMBPRINT", thumbprint)
            }
            other => panic!("{other} is no platform"),
        }
    }

    fn identity(&self, platform: &str, id: ManagedIdentityId) -> Result<ManagedIdentity, Error> {
        let identity = ManagedIdentity::from_env(id, &self.env(platform))?;
        assert_eq!(identity.platform(), platform);
        identity.dangerous().trust_arc_keys_in(&self.keys)
    }

    fn system(&self, platform: &str) -> ManagedIdentity {
        self.identity(platform, ManagedIdentityId::system()).unwrap()
    }

    fn broker(&self, platform: &str) -> Broker {
        self.world.builder().build(self.system(platform)).unwrap()
    }

    /// A call that waits for as long as a fetch may take.
    async fn get(&self, broker: &Broker, scope: &str) -> Result<AccessToken, Error> {
        self.get_with(broker, scope, CallOptions::new()).await
    }

    async fn get_with(
        &self,
        broker: &Broker,
        scope: &str,
        options: CallOptions,
    ) -> Result<AccessToken, Error> {
        let (options, broker, request) = (options.timeout(secs(100)), broker.clone(), request(scope));
        let call = async move { broker.get_token_with(&request, &options).await };
        self.world.get_over_the_wire(call).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.keys);
    }
}

fn keys() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("entra-broker-keys-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

/// Each way of naming an identity, and whose token it has to bring.
pub(crate) fn ids() -> [(ManagedIdentityId, &'static str); 4] {
    [
        (ManagedIdentityId::system(), sample::SYSTEM_IDENTITY),
        (ManagedIdentityId::client_id(sample::USER_IDENTITY).unwrap(), sample::USER_IDENTITY),
        (ManagedIdentityId::object_id(sample::USER_IDENTITY_OBJECT_ID).unwrap(), sample::USER_IDENTITY),
        (ManagedIdentityId::resource_id(sample::USER_IDENTITY_RESOURCE_ID).unwrap(), sample::USER_IDENTITY),
    ]
}

/// The claims of a token, unchecked: the emulator made it.
fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Whose token it is.
fn who(token: &AccessToken) -> String {
    let claims = claims(token.secret());
    claims["appid"].as_str().or_else(|| claims["azp"].as_str()).unwrap().to_owned()
}
