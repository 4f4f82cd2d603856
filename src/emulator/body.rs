//! The body of an answer: plain bytes, or bytes that come the way a fault wants them to.

use crate::emulator::time::{Sleep, Time};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The body of an answer, to be read frame by frame.
///
/// It implements [`http_body::Body`], so that a client's size limit and its patience are tried in memory as over a socket.
pub struct Body {
    rest: Rest,
    /// What `Content-Length` says; nothing where the length is not announced.
    announced: Option<u64>,
    /// How many bytes are given before the connection breaks.
    cut_after: Option<u64>,
    pace: Option<Pace>,
    /// The pause before a break has been made.
    paused: bool,
}

enum Rest {
    Bytes(Bytes),
    /// So many bytes more of padding, made when they are asked for.
    Filler(u64),
}

struct Pace {
    chunk: usize,
    every: Duration,
    time: Time,
    sleep: Option<Sleep>,
}

/// The connection broke in the middle of a body, as a fault wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyCut;

impl fmt::Display for BodyCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the emulator cut the body short")
    }
}

impl std::error::Error for BodyCut {}

const FILLER: &[u8] = &[b' '; 16 * 1024];

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self {
            announced: Some(bytes.len() as u64),
            rest: Rest::Bytes(bytes),
            cut_after: None,
            pace: None,
            paused: false,
        }
    }

    /// Padding without an announced length, so that only who counts while reading can stop in time.
    pub(crate) fn huge(total: u64) -> Self {
        Self { rest: Rest::Filler(total), announced: None, cut_after: None, pace: None, paused: false }
    }

    pub(crate) fn cut_after(mut self, bytes: u64) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    pub(crate) fn paced(mut self, chunk: usize, every: Duration, time: Time) -> Self {
        self.pace = Some(Pace { chunk: chunk.max(1), every, time, sleep: None });
        self
    }

    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    fn take(&mut self, at_most: u64) -> Bytes {
        let bytes = match &mut self.rest {
            Rest::Bytes(bytes) => {
                let length = usize::try_from(at_most).map_or(bytes.len(), |n| n.min(bytes.len()));
                bytes.split_to(length)
            }
            Rest::Filler(left) => {
                let length = at_most.min(*left).min(FILLER.len() as u64);
                *left -= length;
                Bytes::from_static(&FILLER[..usize::try_from(length).unwrap_or(FILLER.len())])
            }
        };
        if let Some(left) = &mut self.cut_after {
            *left -= bytes.len() as u64;
        }
        bytes
    }

    fn is_empty(&self) -> bool {
        match &self.rest {
            Rest::Bytes(bytes) => bytes.is_empty(),
            Rest::Filler(left) => *left == 0,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let this = &mut *self;
        if this.is_empty() {
            return Poll::Ready(None);
        }
        if this.cut_after == Some(0) {
            if !this.paused {
                // One idle turn lets the server flush what it has, so that the bytes before the break arrive.
                this.paused = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(BodyCut)));
        }
        let mut at_most = this.cut_after.unwrap_or(u64::MAX);
        if let Some(pace) = &mut this.pace {
            let sleep = pace.sleep.get_or_insert_with(|| pace.time.sleep(pace.every));
            ready!(sleep.as_mut().poll(cx));
            pace.sleep = None;
            at_most = at_most.min(pace.chunk as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(this.take(at_most)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.rest {
            Rest::Bytes(bytes) => bytes.len() as u64,
            Rest::Filler(left) => *left,
        };
        match self.announced {
            Some(_) => SizeHint::with_exact(left),
            None => SizeHint::new(),
        }
    }
}

impl fmt::Debug for Body {
    /// Without the bytes: they may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("announced", &self.announced)
            .field("cut_after", &self.cut_after)
            .finish_non_exhaustive()
    }
}
