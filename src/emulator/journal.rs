//! What was asked of the emulator, without anything secret.

use crate::emulator::Endpoint;
use crate::emulator::answer::Answer;
use crate::emulator::request::{Asked, short_grant};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// So many entries are kept; older ones are forgotten, but stay counted.
const KEPT: usize = 100_000;

/// The longest text that an entry keeps of a parameter or header.
const LONGEST: usize = 512;

/// So many bytes of such texts are kept; of entries with long ones fewer are, so that a hostile client cannot fill the memory.
const BYTES: usize = 64 * 1024 * 1024;

/// Headers that identify a client or a call, and none that could hold a secret.
const HEADERS: &[&str] = &[
    "accept",
    "client-request-id",
    "content-type",
    "host",
    "metadata",
    "return-client-request-id",
    "user-agent",
    "x-app-name",
    "x-app-ver",
    "x-client-cpu",
    "x-client-current-telemetry",
    "x-client-last-telemetry",
    "x-client-os",
    "x-client-sku",
    "x-client-ver",
    "x-forwarded-for",
    "x-ms-client-request-id",
    "x-ms-lib-capability",
];

/// One request that arrived, and what became of it.
///
/// No entry holds a client secret, an `Authorization` or `X-IDENTITY-HEADER` value, an assertion or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Counts requests from 1, over the emulator's whole life.
    pub number: u64,
    /// When it arrived, by the emulator's clock.
    pub at: SystemTime,
    /// Where it arrived.
    pub endpoint: Endpoint,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The tenant as the path spells it; none at the identity endpoint.
    pub tenant: Option<String>,
    /// The client id of the form, the Basic header or the query.
    pub client_id: Option<String>,
    /// The `grant_type` parameter.
    pub grant_type: Option<String>,
    /// The `scope` parameter, or the `resource` of a managed-identity request.
    pub scope: Option<String>,
    /// The user who stands behind the request, where one does: nobody else's text, which may be a mistyped password.
    pub user: Option<String>,
    /// Headers that identify a client or a call, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status answered; none while the answer is pending, and none where the connection was cut instead.
    pub status: Option<u16>,
    /// How long the answer took, by the emulator's clock; what a fault does to the body is not counted.
    pub took: Option<Duration>,
    /// The AADSTS number answered.
    pub aadsts: Option<u32>,
    /// The `error` value answered.
    pub error: Option<String>,
}

impl Entry {
    /// The value of a header that was kept.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The bytes of its texts, as they arrived; what is added with the answer is short.
    fn bytes(&self) -> usize {
        let texts = [&self.tenant, &self.client_id, &self.grant_type, &self.scope];
        let texts = texts.into_iter().flatten().chain([&self.method, &self.path]);
        let headers = self.headers.iter().flat_map(|(name, value)| [name, value]);
        texts.chain(headers).map(String::len).sum()
    }

    fn of(number: u64, asked: &Asked) -> Self {
        let kept = |name: &&str| Some(((*name).to_owned(), short(asked.header(name)?)));
        Self {
            number,
            at: asked.at,
            endpoint: asked.endpoint,
            method: short(asked.method.as_str()),
            path: short(&asked.path),
            tenant: asked.tenant().map(short),
            client_id: asked.client_id().map(short),
            grant_type: asked.form.get("grant_type").map(short),
            scope: asked.scope().map(short),
            user: asked.user().map(short),
            headers: HEADERS.iter().filter_map(kept).collect(),
            status: None,
            took: None,
            aadsts: None,
            error: None,
        }
    }
}

impl fmt::Display for Entry {
    /// One line, whatever a client sent: `token POST /contoso.test/oauth2/v2.0/token client_credentials aaaaaaaa-… https://… -> 200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = match self.endpoint {
            Endpoint::TokenService => "token",
            Endpoint::Identity => "identity",
        };
        write!(f, "{endpoint} {} {}", self.method.escape_debug(), OneLine(&self.path))?;
        let grant_type = self.grant_type.as_deref().map(short_grant);
        let said = [grant_type, self.client_id.as_deref(), self.user.as_deref(), self.scope.as_deref()];
        for text in said.into_iter().flatten() {
            write!(f, " {}", OneLine(text))?;
        }
        match self.status {
            Some(status) => write!(f, " -> {status}")?,
            None => f.write_str(" -> no answer")?,
        }
        if let Some(error) = &self.error {
            write!(f, " {}", OneLine(error))?;
        }
        match self.aadsts {
            Some(aadsts) => write!(f, " AADSTS{aadsts}"),
            None => Ok(()),
        }
    }
}

/// A text of somebody else's that cannot begin a line of its own, nor do anything to a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            ' '..='~' => write!(f, "{c}"),
            c => write!(f, "{}", c.escape_debug()),
        })
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// The record of all requests that arrived, in their order.
///
/// It keeps the last 100,000 of them, or 64 MiB of them if that is less. A request turned away by [`Fault::refuse`](crate::emulator::Fault::refuse) never arrived: it has no
/// entry and is only counted by [`refused`](Self::refused).
pub struct Journal {
    state: Mutex<State>,
    /// How many arrived since the last [`Journal::clear`]; its watchers are those who wait.
    arrived: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// The bytes of their texts.
    bytes: usize,
    /// The number of the last entry made.
    last: u64,
    refused: usize,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), arrived: watch::Sender::new(0) }
    }

    /// The entries kept, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.state.lock().entries.iter().cloned().collect()
    }

    /// The entries kept whose number is greater than this one, oldest first.
    pub fn after(&self, number: u64) -> Vec<Entry> {
        self.find(number, usize::MAX, |_| true)
    }

    /// At most so many of the entries after this number that fulfil a condition, oldest first.
    pub(crate) fn find(&self, after: u64, limit: usize, condition: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let state = self.state.lock();
        let from = state.entries.partition_point(|entry| entry.number <= after);
        state.entries.range(from..).filter(|entry| condition(entry)).take(limit).cloned().collect()
    }

    /// How many requests arrived since the start or the last [`clear`](Self::clear), forgotten ones included.
    pub fn len(&self) -> usize {
        *self.arrived.borrow()
    }

    /// Whether nothing has arrived since the start or the last [`clear`](Self::clear).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of the entries kept fulfil a condition.
    pub fn count(&self, condition: impl Fn(&Entry) -> bool) -> usize {
        let entries = self.entries();
        entries.iter().filter(|entry| condition(entry)).count()
    }

    /// How many connections or requests a fault refused since the start or the last [`clear`](Self::clear).
    pub fn refused(&self) -> usize {
        self.state.lock().refused
    }

    /// Forgets all entries and counts from 0 again. Entry numbers go on.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.entries.clear();
        state.bytes = 0;
        state.refused = 0;
        self.arrived.send_replace(0);
    }

    /// Resolves as soon as at least `n` requests have arrived since the start or the last [`clear`](Self::clear), answered or not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_for(&self, n: usize) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.arrived.subscribe().wait_for(|arrived| *arrived >= n).await;
    }

    /// Returns the new entry's number.
    pub(crate) fn arrived(&self, asked: &Asked) -> u64 {
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        let entry = Entry::of(number, asked);
        state.bytes += entry.bytes();
        state.entries.push_back(entry);
        while state.entries.len() > KEPT || state.bytes > BYTES {
            let Some(oldest) = state.entries.pop_front() else {
                break;
            };
            state.bytes = state.bytes.saturating_sub(oldest.bytes());
        }
        // Under the lock, so that who is woken finds the entry, and a clear cannot come in between.
        self.arrived.send_modify(|arrived| *arrived += 1);
        number
    }

    pub(crate) fn answered(&self, number: u64, at: SystemTime, asked: &Asked, answer: &Answer) {
        let mut state = self.state.lock();
        let first = state.entries.front().map_or(number, |entry| entry.number);
        let index = number.checked_sub(first).and_then(|i| usize::try_from(i).ok());
        let entry = index.and_then(|index| state.entries.get_mut(index));
        if let Some(entry) = entry.filter(|entry| entry.number == number) {
            entry.status = Some(answer.status.as_u16());
            entry.took = at.duration_since(asked.at).ok();
            entry.aadsts = answer.aadsts;
            entry.error = answer.error.as_deref().map(short);
            // Some are known only once they have been served.
            entry.user = asked.user().map(short);
        }
    }

    /// The entry of this number, unless it was forgotten.
    pub(crate) fn entry(&self, number: u64) -> Option<Entry> {
        let state = self.state.lock();
        let first = state.entries.front()?.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        state.entries.get(index).cloned()
    }

    pub(crate) fn refuse(&self) {
        self.state.lock().refused += 1;
    }
}

impl fmt::Debug for Journal {
    /// Without the entries, of which there may be very many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("arrived", &self.len())
            .field("refused", &self.refused())
            .finish_non_exhaustive()
    }
}
