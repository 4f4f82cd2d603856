//! Who takes part, and how each is asked for a token that it has.

mod azure;
mod generic;
mod google;
mod ours;
mod smithy;
mod storage;

use std::future::Future;

pub(crate) use azure::Azure;
pub(crate) use generic::{Cached, KEY_LENGTH, key, live};
pub(crate) use ours::Ours;
use tokio::runtime::Runtime;

use crate::{Failure, service::Memory, windows::Contestant};

/// To which all others are compared.
pub(crate) const PEER: &str = "azure_identity";

/// What `azure_identity`'s policy is asked beside the token: subtracted from it.
pub(crate) const BUILDING: &str = "building a request";
pub(crate) const POLICY: &str = "azure_identity.policy";

/// Everyone's name, in the order of the table, with what is done.
pub(crate) const WHAT: &[(&str, &str)] = &[
    ("entra_broker.request", "broker.get_token(&request).await, a TokenRequest made once"),
    ("entra_broker.str", "broker.get_token(\"https://vault.azure.net/.default\").await"),
    ("entra_broker.handle", "handle.get().await, a Handle bound once"),
    ("entra_broker.handle_with", "handle.with(|token| …), which lends the token instead of giving it"),
    ("entra_broker.reader", "reader.get(), a worker's own Reader, which lends the token, too"),
    (
        "entra_broker.authorization",
        "broker.get_token(&request).await, then token.authorization(): a header's value",
    ),
    (
        "entra_broker.azure_core",
        "get_token(&[\"https://vault.azure.net/.default\"], None).await through Arc<dyn TokenCredential>",
    ),
    (PEER, "ClientSecretCredential 1.0.0, get_token(&[\"https://vault.azure.net/.default\"], None).await"),
    ("azure_identity.dyn", "the same through Arc<dyn TokenCredential>, as Azure's clients hold it"),
    (POLICY, "azure_core's bearer policy over it: a header in a request; less building request and answer"),
    ("google_cloud_auth.headers", "Credentials::headers of a user account: a map of headers"),
    (
        "google_cloud_auth.not_modified",
        "the same with the entity tag of the headers at hand: nothing to copy",
    ),
    ("google_cloud_auth.access_token", "AccessTokenCredentials::access_token of a user account"),
    ("aws_smithy.lazy_cache", "IdentityCache::lazy() of the AWS SDK over a resolver in memory"),
    ("object_store.azure", "the Azure credential of object_store: one token, for storage only"),
    ("moka.sync", "a cache for anything: String of 111 bytes to Arc, expiry by Instant::now()"),
    ("moka.future", "the same, its asynchronous kind"),
    ("quick_cache.sync", "another cache for anything, asked likewise"),
    #[cfg(target_os = "linux")]
    ("quick_cache.coarse", "the same, expiry by the kernel's coarse clock, which entra_broker reads, too"),
];

/// All of them, warmed up.
pub(crate) struct Fixture {
    ours: Ours,
    azure: Azure,
    google: google::Google,
    smithy: smithy::Smithy,
    storage: storage::Storage,
    generic: generic::Generic,
    /// On which all were warmed up, and which some need on every hit.
    runtime: Runtime,
}

impl Fixture {
    pub(crate) fn new() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let service = Memory::new();
        let (ours, azure, google, smithy, storage, generic) = runtime.block_on(async {
            Ok::<_, Failure>((
                Ours::new(service.clone()).await?,
                Azure::new(service.clone()).await?,
                google::Google::new(&service).await?,
                smithy::Smithy::new().await?,
                storage::Storage::new(service).await?,
                generic::Generic::new().await,
            ))
        })?;
        Ok(Self { ours, azure, google, smithy, storage, generic, runtime })
    }

    pub(crate) fn contestants(&self) -> Vec<Contestant<'_>> {
        let mut all = self.ours.contestants();
        all.extend(self.azure.contestants());
        all.extend(self.google.contestants());
        all.push(self.smithy.contestant(&self.runtime));
        all.push(self.storage.contestant());
        all.extend(self.generic.contestants());
        all
    }
}

/// As [`windows::ready`](crate::windows::ready), in a loop: so is everyone asked.
fn over_and_over<T, E: std::fmt::Debug, F>(hits: u64, ask: impl Fn() -> F)
where
    F: Future<Output = Result<T, E>>,
{
    crate::windows::ready(async {
        for _ in 0..hits {
            crate::windows::take(ask().await);
        }
    });
}
