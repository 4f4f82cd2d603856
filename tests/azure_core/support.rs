//! A small Azure: an emulator, a vault that believes it, a broker, and a clock for all three.

use std::{
    error::Error as StdError,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use azure_core::http::ClientMethodOptions;
use azure_security_keyvault_secrets::{SecretClient, models::SecretClientGetSecretOptions};
use entra_broker::{
    Authority, AzureOptions, BoxFuture, Broker, Builder, CallOptions, ClientSecret, Clock,
    ConfidentialClient, Error, FetchContext, Fetched, Grant, Identity, ManualClock, Provider, TenantId,
    TokenRequest,
    emulator::{Emulator, sample},
};

use crate::vault::{Vault, Visit};

pub(crate) const VAULT: &str = "https://vault.azure.net/.default";

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) struct Azure {
    pub(crate) clock: Clock,
    pub(crate) time: ManualClock,
    pub(crate) emulator: Emulator,
    pub(crate) vault: Vault,
    /// The challenges that the provider was given, one for each fetch.
    pub(crate) challenges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Azure {
    /// The SDK's clients look at the machine's clock: from there the others start. A client keeps its token until five
    /// minutes before its end, so with tokens that live for less it asks the broker for each request.
    pub(crate) async fn with_tokens_of(lifetime: Duration) -> Self {
        let (clock, time) = Clock::manual(Clock::system().now().wall());
        let (now, sleep) = (clock.clone(), clock.clone());
        let emulator = Emulator::builder()
            .lifetime(lifetime)
            .time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
            .start()
            .await
            .unwrap();
        let vault = Vault::start(&emulator, &clock).await.unwrap();
        Self { clock, time, emulator, vault, challenges: Arc::default() }
    }

    pub(crate) fn provider_with(&self, secret: &str) -> impl Provider + use<> {
        let authority = Authority::dangerous().allow_plain_http(self.emulator.authority()).unwrap();
        let client = ClientSecret::new(sample::TENANT, sample::SECRET_APP, secret).unwrap();
        Listening { inner: client.authority(authority), challenges: Arc::clone(&self.challenges) }
    }

    pub(crate) fn builder(&self) -> Builder {
        Broker::builder().clock(self.clock.clone()).seed(7)
    }

    pub(crate) fn broker(&self) -> Broker {
        self.builder().build(self.provider_with(sample::SECRET)).unwrap()
    }

    /// How many tokens were asked for. The vault's questions for keys are not among them.
    pub(crate) fn token_requests(&self) -> usize {
        self.emulator.journal().count(|entry| entry.grant_type.is_some())
    }

    /// The only visit since the last look, which has to have been let in.
    pub(crate) fn visit(&self) -> Visit {
        let visits = self.vault.visits();
        assert!(visits.len() == 1 && visits[0].refused.is_none(), "{visits:?}");
        visits.into_iter().next().unwrap()
    }
}

/// Hears which challenges come along.
#[derive(Debug)]
struct Listening {
    inner: ConfidentialClient,
    challenges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Provider for Listening {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        self.challenges.lock().unwrap().push(cx.challenge().map(ToString::to_string));
        self.inner.fetch(cx, request, grant)
    }
}

pub(crate) async fn read(client: &SecretClient) -> azure_core::Result<String> {
    Ok(client.get_secret("door", None).await?.into_model()?.value.unwrap_or_default())
}

/// With options in the context of the call.
pub(crate) async fn read_with(client: &SecretClient, options: AzureOptions) -> azure_core::Result<String> {
    let mut method_options = ClientMethodOptions::default();
    method_options.context.insert(options);
    let options = SecretClientGetSecretOptions { method_options, ..SecretClientGetSecretOptions::default() };
    Ok(client.get_secret("door", Some(options)).await?.into_model()?.value.unwrap_or_default())
}

pub(crate) fn forced() -> AzureOptions {
    AzureOptions::new().call(CallOptions::new().force_refresh())
}

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// The broker's error, wherever in the chain it stands.
pub(crate) fn ours(error: &azure_core::Error) -> Error {
    let mut layer: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(at) = layer {
        if let Some(error) = at.downcast_ref::<Error>() {
            return error.clone();
        }
        layer = at.source();
    }
    panic!("none of ours in {error:?}")
}

/// The output of a future that is ready on its first poll.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it was not ready on its first poll"),
    }
}
