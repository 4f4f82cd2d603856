//! The attempts of one exchange: the only place of this room that waits.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Pool, RetryPolicy, Transport, TransportError, retry::Outcome};
use crate::{
    clock::{Clock, Now},
    error::{Error, ErrorKind},
};

/// How long one attempt may take, from connecting to the end of the body. The token service answers within a second;
/// ten leave room for a slow proxy and for one lost packet of each kind.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// How large an answer may be. The largest are key sets and tokens with many groups, at some tens of kilobytes.
pub(crate) const ANSWER_LIMIT: usize = 1 << 20;

/// Sent with each request to the token service and echoed by it, so that support finds the request in its logs.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
const RETURN_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("return-client-request-id");

/// An answer, with any status.
#[non_exhaustive]
pub struct Answer {
    /// Status, headers and the whole body.
    pub response: http::Response<Bytes>,
    /// When the request that it answers was sent: lifetimes count from here.
    pub sent: Now,
}

impl Answer {
    /// An answer to a request that went out at `sent`.
    pub fn new(response: http::Response<Bytes>, sent: Now) -> Self {
        Self { response, sent }
    }
}

/// The body holds tokens, and some headers do too.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.response.status()).field("sent", &self.sent).finish()
    }
}

/// One request, sent as often as its policy and its budget allow.
pub(crate) struct Exchange<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) clock: &'a Clock,
    pub(crate) policy: &'a RetryPolicy,
    /// The end of the budget: no attempt and no wait goes beyond it.
    pub(crate) deadline: Now,
    /// The usual one is [`ATTEMPT_TIMEOUT`].
    pub(crate) attempt_timeout: Duration,
    /// The usual one is [`ANSWER_LIMIT`].
    pub(crate) limit: usize,
    /// Draws from `0..1`.
    pub(crate) random: &'a (dyn Fn() -> f64 + Send + Sync),
    /// Asked right before each attempt and each wait. An error ends the exchange at once with that error: nothing more is
    /// sent.
    pub(crate) gate: &'a (dyn Fn() -> Result<(), Error> + Send + Sync),
}

impl Exchange<'_> {
    /// Sends `request` until there is an answer worth giving, the last attempt's failure otherwise. An answer of any
    /// status is an answer; one that is worth another attempt is given when no more attempts are made.
    ///
    /// # Errors
    ///
    /// `Timeout` where the last attempt took too long, otherwise what the transport says; and what the gate says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt that is under way and makes no other. The request may have been sent.
    pub(crate) async fn run(&self, pool: Pool, mut request: http::Request<Bytes>) -> Result<Answer, Error> {
        if pool == Pool::TokenService {
            identify(&mut request);
        }
        let host = shown_host(request.uri());
        let mut attempts = 0;
        loop {
            let sent = self.clock.now();
            let until = sent.after(self.attempt_timeout).min(self.deadline);
            if sent.has_reached(until) {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("no time was left to ask {host}, {}", counted(attempts)),
                ));
            }
            (self.gate)()?;
            attempts += 1;

            let ended = {
                let attempt = self.transport.send(pool, request.clone(), self.limit);
                tokio::select! {
                    biased;
                    ended = attempt => Ended::from(ended),
                    () = self.clock.sleep_until(until) => Ended::TimedOut,
                }
            };

            let now = self.clock.now();
            ended.trace(&host, attempts, sent.until(now));
            let next =
                self.policy.next_attempt(&ended.outcome(), attempts, now, self.deadline, (self.random)());
            match (next, ended) {
                (Some(wake), _) => {
                    (self.gate)()?;
                    self.clock.sleep_until(wake).await;
                }
                (None, Ended::Answered(response)) => return Ok(Answer { response, sent }),
                (None, Ended::Failed(error)) => return Err(error.into_error(&host, &counted(attempts))),
                (None, Ended::TimedOut) => {
                    let given = seconds(sent.until(until));
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        format!("no answer from {host} within {given} s, {}", counted(attempts)),
                    ));
                }
            }
        }
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("transport", &self.transport)
            .field("policy", &self.policy)
            .field("deadline", &self.deadline)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// How an attempt ended.
enum Ended {
    Answered(http::Response<Bytes>),
    Failed(TransportError),
    TimedOut,
}

impl From<Result<http::Response<Bytes>, TransportError>> for Ended {
    fn from(result: Result<http::Response<Bytes>, TransportError>) -> Self {
        result.map_or_else(Self::Failed, Self::Answered)
    }
}

impl Ended {
    fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Answered(response) => Outcome::Answered(response.status(), response.headers()),
            Self::Failed(error) => Outcome::Failed(error),
            Self::TimedOut => Outcome::TimedOut,
        }
    }

    fn trace(&self, host: &str, attempt: u32, elapsed: Duration) {
        match self {
            Self::Answered(response) => {
                tracing::debug!(host, attempt, status = response.status().as_u16(), ?elapsed, "answered");
            }
            Self::Failed(error) => tracing::debug!(host, attempt, %error, ?elapsed, "not answered"),
            Self::TimedOut => tracing::debug!(host, attempt, ?elapsed, "not answered in time"),
        }
    }
}

/// Host and, where it is not the usual one, port; nothing else of a URL may be shown.
pub(crate) fn shown_host(uri: &http::Uri) -> String {
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or("an unnamed host").to_owned(),
    }
}

fn counted(attempts: u32) -> String {
    format!("{attempts} {}", if attempts == 1 { "attempt" } else { "attempts" })
}

/// In seconds with at most one decimal.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// One id for all attempts of an exchange: to the service they are one request. A request that has one keeps it.
pub(crate) fn identify(request: &mut http::Request<Bytes>) -> Option<String> {
    let headers = request.headers_mut();
    if let http::header::Entry::Vacant(entry) = headers.entry(CLIENT_REQUEST_ID)
        && let Ok(id) = HeaderValue::from_str(&guid(fastrand::u128(..)))
    {
        entry.insert(id);
    }
    headers.entry(RETURN_CLIENT_REQUEST_ID).or_insert(HeaderValue::from_static("true"));
    headers.get(CLIENT_REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned)
}

/// A version 4 GUID of these bits. It names a request in logs and has to be neither secret nor unguessable.
fn guid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_the_form_of_version_4() {
        assert_eq!(guid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(guid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn of_a_url_only_the_host_is_shown() {
        let shown = |uri: &str| shown_host(&uri.parse().unwrap());
        assert_eq!(shown("https://login.example/tenant?secret=1"), "login.example");
        assert_eq!(shown("https://user:secret@login.example:8443/"), "login.example:8443");
        assert_eq!(shown("http://[::1]:80/"), "[::1]:80");
        assert_eq!(shown("/path"), "an unnamed host");
    }
}
