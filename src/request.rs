//! What is asked for, and how one call is made. The first is the cache's key, the second never is.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash},
    time::Duration,
};

use foldhash::{SharedSeed, fast::SeedableRandomState};

use crate::{
    cell::ErasedCell,
    claims::Claims,
    clock::Now,
    error::Error,
    scope::ScopeSet,
    subject::Subject,
    sync::{Arc, ArcSwapOption, OnceLock},
    tenant::TenantId,
    token::Token,
};

/// What is asked for: scopes, and where it matters tenant, subject and claims.
///
/// Two requests that ask for the same are the same entry of the cache, in whatever order their scopes were
/// written. Prepare a request once and use it for every call: it remembers where its entry is, so a hit
/// neither parses nor hashes.
#[derive(Clone)]
#[repr(C)]
pub struct TokenRequest {
    /// First, so that a hit on one of many requests reads one line of them.
    memo: Memo,
    key: Key,
    /// As they were given: what an app token drops of them, a user's token needs.
    scopes: ScopeSet,
}

/// Where a request's entry was found.
#[derive(Default)]
#[repr(C)]
struct Memo {
    /// Of the broker with this number, which was the first to answer.
    first: OnceLock<(u64, Arc<ErasedCell>)>,
    /// Where that one was evicted, the latest that took its place. Apart, since reading it costs more.
    later: ArcSwapOption<Arc<ErasedCell>>,
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), later: ArcSwapOption::new(self.later.load_full()) }
    }
}

/// All of a request that makes a token a different one. The provider's identity, the other half of a key, is the
/// broker's own and the same for all keys in its cache.
#[derive(Clone)]
pub(crate) struct Key {
    hash: u64,
    place: Arc<Place>,
    subject: Subject,
}

/// What the keys of many subjects have in common: where a token is asked for, and for what.
pub(crate) struct Place {
    hash: u64,
    tenant: Option<TenantId>,
    scopes: ScopeSet,
    claims: Option<Claims>,
    /// The scopes that were granted here first, and mostly are again: they share one text.
    granted: OnceLock<ScopeSet>,
}

/// One seed for the process: unknown to those who choose user ids, the same for all keys.
fn hash_one(of: impl Hash) -> u64 {
    SeedableRandomState::with_seed(0, SharedSeed::global_random()).hash_one(of)
}

impl TokenRequest {
    /// A request of the application's own token for `scopes`: one, or several separated by spaces, such as
    /// `https://vault.azure.net/.default`. Beside those of a resource, `openid profile email offline_access` are
    /// accepted and, in an app token, dropped.
    ///
    /// # Errors
    ///
    /// `Config` where a scope is malformed, or scopes do not go together.
    pub fn new(scopes: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self::build(None, Subject::App, ScopeSet::parse(scopes.as_ref())?, None))
    }

    /// In another tenant than the provider's own. The broker must have been told to allow it.
    #[must_use]
    pub fn tenant(self, tenant: TenantId) -> Self {
        let claims = self.key.place.claims.clone();
        Self::build(Some(tenant), self.key.subject, self.scopes, claims)
    }

    /// For somebody else than the application.
    #[must_use]
    pub fn subject(self, subject: Subject) -> Self {
        let Self { key: Key { place, .. }, scopes, .. } = self;
        if wanted(&subject, &scopes) == place.scopes {
            return Self { key: Key::new(place, subject), scopes, memo: Memo::default() };
        }
        Self::build(place.tenant.clone(), subject, scopes, place.claims.clone())
    }

    /// With claims that each such token shall carry. They are part of the key; what a resource demands of one token
    /// is a [challenge](CallOptions::challenge) instead.
    #[must_use]
    pub fn claims(self, claims: Claims) -> Self {
        let tenant = self.key.place.tenant.clone();
        Self::build(tenant, self.key.subject, self.scopes, Some(claims))
    }

    fn build(tenant: Option<TenantId>, subject: Subject, scopes: ScopeSet, claims: Option<Claims>) -> Self {
        let place = Place::new(tenant, wanted(&subject, &scopes), claims);
        Self { key: Key::new(Arc::new(place), subject), scopes, memo: Memo::default() }
    }

    /// The request that a key stands for.
    pub(crate) fn of(key: Key) -> Self {
        Self { scopes: key.scopes().clone(), key, memo: Memo::default() }
    }

    /// The tenant that was asked for, if not the provider's own.
    pub fn requested_tenant(&self) -> Option<&TenantId> {
        self.key.tenant()
    }

    /// Whose token is asked for.
    pub fn requested_subject(&self) -> &Subject {
        &self.key.subject
    }

    /// The scopes to ask for: sorted, each once, and for an app token without those of OpenID Connect.
    pub fn scopes(&self) -> &ScopeSet {
        self.key.scopes()
    }

    /// The claims that each such token shall carry.
    pub fn requested_claims(&self) -> Option<&Claims> {
        self.key.claims()
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// As [`Cell::take`](crate::cell::Cell::take) of the entry that this request was last found in, where that was in
    /// the cache of `broker`.
    #[inline]
    pub(crate) fn take(&self, broker: u64, now: Now) -> Option<Arc<Token>> {
        let (_, first) = self.memo.first.get().filter(|(owner, _)| *owner == broker)?;
        first.take(now).or_else(|| self.take_later(first, now))
    }

    #[cold]
    fn take_later(&self, first: &ErasedCell, now: Now) -> Option<Arc<Token>> {
        if first.is_attached() {
            return None;
        }
        self.memo.later.load().as_ref()?.take(now)
    }

    /// The first broker to answer is the one that is remembered.
    pub(crate) fn remember(&self, broker: u64, cell: &Arc<ErasedCell>) {
        let (owner, first) = self.memo.first.get_or_init(|| (broker, Arc::clone(cell)));
        if *owner != broker || first.is_attached() {
            return;
        }
        let known = self.memo.later.load();
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(&**known, cell)) {
            self.memo.later.store(Some(Arc::new(Arc::clone(cell))));
        }
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("tenant", &self.key.tenant())
            .field("subject", &self.key.subject)
            .field("scopes", &self.scopes)
            .field("claims", &self.key.claims())
            .finish_non_exhaustive()
    }
}

impl std::str::FromStr for TokenRequest {
    type Err = Error;

    fn from_str(scopes: &str) -> Result<Self, Error> {
        Self::new(scopes)
    }
}

/// An app token is for no person, so scopes that concern the person who signs in are left out.
fn wanted(subject: &Subject, scopes: &ScopeSet) -> ScopeSet {
    match subject {
        Subject::App => scopes.without_oidc().unwrap_or_else(|| scopes.clone()),
        _ => scopes.clone(),
    }
}

impl Place {
    fn new(tenant: Option<TenantId>, scopes: ScopeSet, claims: Option<Claims>) -> Self {
        let hash = hash_one((&tenant, &scopes, &claims));
        Self { hash, tenant, scopes, claims, granted: OnceLock::new() }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for Place {
    /// Part by part: no two different places can be spelled alike.
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.scopes == other.scopes
            && self.tenant == other.tenant
            && self.claims == other.claims
    }
}

impl Key {
    fn new(place: Arc<Place>, subject: Subject) -> Self {
        Self { hash: hash_one((place.hash, &subject)), place, subject }
    }

    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        self.place.tenant.as_ref()
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) fn scopes(&self) -> &ScopeSet {
        &self.place.scopes
    }

    fn claims(&self) -> Option<&Claims> {
        self.place.claims.as_ref()
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// The same key as a cache keeps it: with the copy of its place that all share, and with nothing that could be spent.
    pub(crate) fn kept(&self, place: Arc<Place>) -> Self {
        Self { hash: self.hash, place, subject: self.subject.unspendable() }
    }

    /// The same key as somebody asks with it.
    pub(crate) fn asked_by(&self, subject: Subject) -> Self {
        debug_assert!(subject == self.subject, "another key");
        Self { hash: self.hash, place: Arc::clone(&self.place), subject }
    }

    /// The same in the provider's own tenant.
    pub(crate) fn at_home(&self) -> Self {
        let place = Place::new(None, self.scopes().clone(), self.claims().cloned());
        Self::new(Arc::new(place), self.subject.clone())
    }

    /// `granted`, with the text that others have of it, if they have.
    pub(crate) fn share(&self, granted: ScopeSet) -> ScopeSet {
        let first = self.place.granted.get_or_init(|| granted.clone());
        [self.scopes(), first].into_iter().find(|known| **known == granted).cloned().unwrap_or(granted)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.subject == other.subject
            && (Arc::ptr_eq(&self.place, &other.place) || self.place == other.place)
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("tenant", &self.tenant())
            .field("subject", &self.subject)
            .field("scopes", &self.scopes())
            .field("claims", &self.claims())
            .finish_non_exhaustive()
    }
}

/// What `get_token` takes: a prepared request, or scopes as text.
#[derive(Debug, Clone, Copy)]
pub struct RequestRef<'a>(pub(crate) Asked<'a>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    Text(&'a str),
    Request(&'a TokenRequest),
}

impl<'a> Asked<'a> {
    /// Whose token is asked for. Text is the application's.
    pub(crate) fn subject(self) -> &'a Subject {
        match self {
            Self::Text(_) => &Subject::App,
            Self::Request(request) => request.requested_subject(),
        }
    }
}

impl<'a> From<&'a str> for RequestRef<'a> {
    fn from(scopes: &'a str) -> Self {
        Self(Asked::Text(scopes))
    }
}

impl<'a> From<&'a String> for RequestRef<'a> {
    fn from(scopes: &'a String) -> Self {
        Self(Asked::Text(scopes))
    }
}

impl<'a> From<&'a TokenRequest> for RequestRef<'a> {
    fn from(request: &'a TokenRequest) -> Self {
        Self(Asked::Request(request))
    }
}

/// How one call is made. None of it is part of the cache's key.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    timeout: Option<Duration>,
    challenge: Option<Challenge>,
    label: Option<Cow<'static, str>>,
}

/// Why the cached token will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The caller said so.
    Refresh,
    /// A resource demands these.
    Claims(Claims),
}

impl Challenge {
    pub(crate) fn claims(&self) -> Option<&Claims> {
        match self {
            Self::Refresh => None,
            Self::Claims(claims) => Some(claims),
        }
    }
}

impl CallOptions {
    /// As a plain `get_token`.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long this caller waits at most, to some milliseconds: see [`Clock`](crate::Clock). The fetch that it waits for
    /// goes on without it. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The claims that a resource demanded when it refused the token (`error="insufficient_claims"`). The cached
    /// token is passed over, and what comes back replaces it for everyone.
    #[must_use]
    pub fn challenge(mut self, claims: Claims) -> Self {
        self.challenge = Some(Challenge::Claims(claims));
        self
    }

    /// The cached token is passed over though it looks good, and what comes replaces it for everyone: a role was just
    /// given, a session was revoked. Callers who force at once share one fetch, which began for the first of them; a
    /// refresh that was under way before is waited for, and then another token is fetched. Should the source return
    /// the same token again, that is an error of kind `TokenRefused`; on any error the cached token stays.
    ///
    /// Who holds a token that was refused has [`Broker::invalidate`](crate::Broker::invalidate), which costs a fetch
    /// only where nobody has replaced that token yet. A [challenge](Self::challenge) does all that this does.
    #[must_use]
    pub fn force_refresh(mut self) -> Self {
        self.challenge.get_or_insert(Challenge::Refresh);
        self
    }

    /// What this call is for, as it is to stand in logs.
    #[must_use]
    pub fn label(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn get_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn get_challenge(&self) -> Option<&Challenge> {
        self.challenge.as_ref()
    }

    pub(crate) fn get_label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}
