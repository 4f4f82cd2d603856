//! Which tenants a request may name besides the provider's own.

use std::{collections::HashSet, fmt};

use arc_swap::ArcSwap;

use super::Broker;
use crate::{
    error::{Blame, Error, ErrorKind},
    refresh::Entry,
    sync::Arc,
    tenant::TenantId,
    text::guid,
    wire::jwt,
};

/// The list, which may change while the broker runs: customers come and go.
pub(super) struct Tenants(ArcSwap<List>);

#[derive(Debug, Clone, Default)]
pub(super) struct List {
    pub(super) all: bool,
    pub(super) allowed: HashSet<TenantId>,
    denied: HashSet<TenantId>,
}

impl Tenants {
    pub(super) fn new(list: List) -> Self {
        Self(ArcSwap::from_pointee(list))
    }

    pub(super) fn check(&self, tenant: &TenantId) -> Result<(), Error> {
        let list = self.0.load();
        let denied = list.denied.contains(tenant);
        if !denied && (list.all || list.allowed.contains(tenant)) {
            return Ok(());
        }
        let error =
            Error::new(ErrorKind::Policy, format!("tenant {tenant} is not one that this broker may ask"));
        Err(error.with_blame(Blame::Configuration).with_advice(match denied {
            true => "It was denied with `Broker::deny_tenant`; `Broker::allow_tenant` takes that back.",
            false => {
                "List it with `Broker::builder().allow_tenants(…)` or `Broker::allow_tenant`, or take it out of the \
                 request."
            }
        }))
    }

    /// Where a token turns out to be of a tenant that was denied by its id, and asked for by another name.
    pub(super) fn check_id(&self, id: &str) -> Result<(), Error> {
        match TenantId::parse(id) {
            Ok(tenant) if self.0.load().denied.contains(&tenant) => self.check(&tenant),
            _ => Ok(()),
        }
    }

    /// Gives the list that was.
    fn change(&self, change: impl Fn(&mut List)) -> Arc<List> {
        self.0.rcu(|list| {
            let mut list = List::clone(list);
            change(&mut list);
            list
        })
    }
}

impl Broker {
    /// Lets requests name `tenant` from now on, as [`Builder::allow_tenants`](super::Builder::allow_tenants) does: for a
    /// customer who has just been [checked](Self::check_tenant).
    pub fn allow_tenant(&self, tenant: &TenantId) {
        let before = self.0.tenants.change(|list| {
            list.denied.remove(tenant);
            list.allowed.insert(tenant.clone());
        });
        if before.denied.contains(tenant) {
            // That it was denied may be remembered as a failure.
            self.0.engine.cache.remove_where(|cell: &Entry| cell.key().tenant() == Some(tenant));
        }
    }

    /// Lets no request name `tenant` any more, whatever was allowed before, and throws away the tokens that are cached for
    /// it: for a customer who has left. Says how many entries went. Tokens that were handed out live until they expire. The
    /// provider's own tenant cannot be denied.
    ///
    /// Denied by its id, it is denied by its domains as well, wherever a token can be read and says whose it is. A domain is
    /// denied by that name alone: so name the id.
    pub fn deny_tenant(&self, tenant: &TenantId) -> usize {
        self.0.tenants.change(|list| {
            list.allowed.remove(tenant);
            list.denied.insert(tenant.clone());
        });
        let id = guid(tenant.as_str());
        self.0.engine.cache.remove_where(|cell: &Entry| match cell.key().tenant() {
            None => false,
            Some(named) if named == tenant => true,
            // Under another name of it.
            Some(_) => id.is_some() && cell.peek().and_then(|token| jwt::tenant(token.secret())) == id,
        })
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self.0.load(), f)
    }
}
