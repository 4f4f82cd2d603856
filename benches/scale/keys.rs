//! The keys: tenant × viewer × scope, and a broker that is given a token for each at once.

use std::{error::Error, time::Duration};

use entra_broker::{
    BoxFuture, Broker, FetchContext, Fetched, Grant, Identity, Provider, Subject, TenantId, TokenRequest,
    UserAssertion,
};

/// As long as one of Entra's for an application with a few roles.
pub(crate) const TOKEN_LENGTH: usize = 1500;

const SCOPES: [&str; 2] =
    ["https://graph.microsoft.com/.default", "api://aaaaaaaa-0000-0000-0000-000000000001/.default"];

/// Requests of one tenant and scope each, from which those of viewers are made.
pub(crate) struct Keys {
    places: Vec<TokenRequest>,
}

impl Keys {
    /// Of a hundred tenants.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let mut places = Vec::new();
        for tenant in 0..100 {
            for scope in SCOPES {
                let tenant = TenantId::parse(&format!("{tenant:08x}-1111-2222-3333-444455556666"))?;
                places.push(TokenRequest::new(scope)?.tenant(tenant));
            }
        }
        Ok(Self { places })
    }

    /// The request of the key with this number, as a service makes it when a viewer's request comes in.
    #[inline]
    pub(crate) fn request(&self, n: usize) -> Result<TokenRequest, entra_broker::Error> {
        let viewer = UserAssertion::new(viewer(n))?;
        Ok(self.places[n % self.places.len()].clone().subject(Subject::OnBehalfOf(viewer)))
    }

    /// All that tells key `n` from others, as text.
    pub(crate) fn text(&self, n: usize) -> String {
        let place = &self.places[n % self.places.len()];
        let tenant = place.requested_tenant().map_or("", TenantId::as_str);
        format!("{tenant}|{}|{}", viewer(n), place.scopes())
    }
}

/// 36 bytes, as an object id has.
fn viewer(n: usize) -> String {
    format!("{n:08x}-aaaa-bbbb-cccc-ddddeeeeffff")
}

/// Gives everyone a token at once, that lives for so long where the scope is one of Microsoft's, and else as the second says.
#[derive(Debug)]
struct Giver {
    token: String,
    lives: [Duration; 2],
}

impl Provider for Giver {
    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        _: Grant,
    ) -> BoxFuture<'a, Result<Fetched, entra_broker::Error>> {
        let lives = self.lives[usize::from(request.scopes().as_str() == SCOPES[1])];
        Box::pin(async move { Ok(Fetched::new(&*self.token, cx.clock().now(), lives)) })
    }
}

/// A broker with room for so many keys.
pub(crate) fn broker(capacity: usize, lives: [Duration; 2]) -> Result<Broker, entra_broker::Error> {
    let giver = Giver { token: "e".repeat(TOKEN_LENGTH), lives };
    Broker::builder().capacity(capacity).allow_all_tenants().build(giver)
}

/// Long enough that nothing expires while it is measured.
pub(crate) const LONG: Duration = Duration::from_secs(86_400);

/// Numbers below `n` in an order without order.
pub(crate) fn shuffled(n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut order);
    order
}
