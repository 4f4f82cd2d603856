//! The identity cache under the clients of the AWS SDK, with a resolver in memory.

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime::client::{
    auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme},
    identity::IdentityCache,
    orchestrator::endpoints::StaticUriEndpointResolver,
    retries::strategy::NeverRetryStrategy,
};
use aws_smithy_runtime_api::client::{
    auth::static_resolver::StaticAuthSchemeOptionResolver,
    identity::SharedIdentityResolver,
    identity::{Identity, IdentityFuture, ResolveCachedIdentity as _, ResolveIdentity, SharedIdentityCache},
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::config_bag::ConfigBag;
use tokio::runtime::Runtime;

use super::over_and_over;
use crate::{Failure, service::TOKEN_LENGTH, windows::Contestant};

pub(super) struct Smithy {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
}

impl Smithy {
    pub(super) async fn new() -> Result<Self, Failure> {
        let cache = IdentityCache::lazy().build();
        let resolver = SharedIdentityResolver::new(Resolver);
        // Most of it is for a client's other parts, which are not asked here.
        let components = RuntimeComponentsBuilder::new("peers")
            .with_identity_cache(Some(cache.clone()))
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_resolver(NO_AUTH_SCHEME_ID, resolver.clone())
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::uri("https://localhost")))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .build()?;
        let smithy = Self { cache, resolver, components, config: ConfigBag::base() };
        let identity = smithy.identity().await?;
        assert_eq!(identity.data::<Token>().map(|token| token.0.len()), Some(TOKEN_LENGTH));
        Ok(smithy)
    }

    fn identity(&self) -> IdentityFuture<'_> {
        let Self { cache, resolver, components, config } = black_box(self);
        cache.resolve_cached_identity(resolver.clone(), components, config)
    }

    /// Every hit makes a timer, so there has to be a runtime.
    pub(super) fn contestant<'a>(&'a self, runtime: &'a Runtime) -> Contestant<'a> {
        Contestant::new("aws_smithy.lazy_cache", move |hits| {
            let _entered = runtime.enter();
            over_and_over(hits, || self.identity());
        })
    }
}

#[derive(Debug)]
struct Token(String);

#[derive(Debug)]
struct Resolver;

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
        let expiry = SystemTime::now() + Duration::from_secs(86_399);
        IdentityFuture::ready(Ok(Identity::new(Token("e".repeat(TOKEN_LENGTH)), Some(expiry))))
    }
}
