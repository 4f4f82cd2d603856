//! Whether the instance metadata service is there: every other platform says so by its variables.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::{
    Error, ErrorKind,
    http::{Pool, RetryPolicy},
    provider::FetchContext,
};

/// It answers within milliseconds. Where it is not, its address often leads nowhere, and a laptop is not kept waiting.
const PROBE: Duration = Duration::from_secs(1);

/// Sends `request`, which lacks the header that the service insists on: it answers 400 to it.
///
/// # Errors
///
/// `NotAvailable` where it does not; whatever ends the fetch as a whole.
pub(super) async fn probe(cx: &FetchContext, request: Request<Bytes>) -> Result<(), Error> {
    let (until, once) = (cx.clock().now().after(PROBE).min(cx.deadline()), RetryPolicy::none());
    let ended = tokio::select! {
        biased;
        ended = cx.send(Pool::ManagedIdentity, request, &once) => ended,
        () = cx.clock().sleep_until(until) => return Err(absent("nothing answered within a second")),
    };
    match ended.map(|answer| answer.response.status().as_u16()) {
        // 410 and 429 are its own, too: it is being updated, or busy. The true request waits for it.
        Ok(400 | 410 | 429) => Ok(()),
        Ok(status) => Err(absent(&format!(
            "what answers at its address said {status} to a request that it would refuse"
        ))),
        Err(error)
            if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Protocol)
                && error.held_for().is_none() =>
        {
            Err(absent("it could not be asked").with_source(error))
        }
        Err(error) => Err(error),
    }
}

fn absent(why: &str) -> Error {
    Error::new(ErrorKind::NotAvailable, format!("the instance metadata service is not here: {why}")).with_advice(
        "Virtual machines of Azure have it. Elsewhere another provider is needed; where this is one, see whether a \
         firewall or a network policy keeps this program from 169.254.169.254.",
    )
}
