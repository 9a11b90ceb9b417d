//! Carries bodies between worker and origin (stage 9), metered and under the permit's limits.
//!
//! An [`Upload`] is what the worker sends and a [`Download`] what it gets. Neither holds more than
//! the frame in hand: a reader that stalls stalls its writer. The download owns the exchange's
//! record and completes it at its own end, however that comes about.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use egret_policy::{RuleLimits, Timestamp};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::record::{ClosedBy, Draft};

/// Counts what an exchange moves, and remembers when it last did.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    up: AtomicU64,
    down: AtomicU64,
    moved_ms: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            up: AtomicU64::default(),
            down: AtomicU64::default(),
            moved_ms: AtomicU64::default(),
        }
    }
}

impl Meter {
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn add_up(&self, bytes: usize) -> u64 {
        self.touch();
        self.up.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    pub(crate) fn add_down(&self, bytes: usize) -> u64 {
        self.touch();
        self.down.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    /// Starts the idle time anew.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    fn moved(&self) -> Instant {
        self.started + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }
}

/// The time limits of one relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    idle: Duration,
    ends: Instant,
    ends_by: ClosedBy,
}

impl Bounds {
    /// Starts the limits now; a rule that expires sooner than `max_duration` ends the relay then.
    pub(crate) fn new(limits: &RuleLimits, expires: Option<Timestamp>, now: Timestamp) -> Self {
        let left =
            expires.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
        let (lasts, ends_by) = match left {
            Some(left) if left < limits.max_duration => (left, ClosedBy::Policy),
            Some(_) | None => (limits.max_duration, ClosedBy::Duration),
        };
        Self { idle: limits.idle_timeout, ends: Instant::now() + lasts, ends_by }
    }

    /// Returns which limit was reached, when one is.
    pub(crate) async fn exceeded(self, meter: Arc<Meter>) -> ClosedBy {
        loop {
            let idle_at = meter.moved() + self.idle;
            sleep_until(idle_at.min(self.ends)).await;
            if Instant::now() >= self.ends {
                return self.ends_by;
            }
            if Instant::now() >= meter.moved() + self.idle {
                return ClosedBy::Idle;
            }
        }
    }
}

/// Why a request body cannot be taken to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// A chunk was malformed, or the connection ended inside the body.
    #[error("the request body is malformed or cut short")]
    Malformed,
    /// `max_request_bytes` was passed.
    #[error("the request body is larger than the rule allows")]
    TooLarge,
    /// Nothing came for `body_idle_timeout`.
    #[error("the request body stopped arriving")]
    Idle,
}

/// An upload, seen from outside the body.
pub(crate) type UploadState = Arc<UploadEnd>;

/// How an upload ended, if it has.
#[derive(Debug, Default)]
pub(crate) struct UploadEnd {
    fault: OnceLock<UploadError>,
    whole: AtomicBool,
}

impl UploadEnd {
    /// Returns what cut the upload short.
    pub(crate) fn fault(&self) -> Option<UploadError> {
        self.fault.get().copied()
    }
}

/// Ends the way to the origin with the exchange, if the upload is not through by then: an origin
/// that answers early is no channel for what follows.
pub(crate) struct EndWithExchange {
    pub(crate) upload: UploadState,
    pub(crate) origin: CancellationToken,
}

impl Drop for EndWithExchange {
    fn drop(&mut self) {
        if !self.upload.whole.load(Ordering::Acquire) {
            self.origin.cancel();
        }
    }
}

/// A request body on its way to the origin; its trailers are dropped.
pub struct Upload {
    body: Incoming,
    meter: Arc<Meter>,
    limit: u64,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    end: UploadState,
}

impl Upload {
    pub(crate) fn new(
        body: Incoming,
        meter: Arc<Meter>,
        limit: u64,
        idle: Duration,
    ) -> (Self, UploadState) {
        let end = UploadState::default();
        let timer = Box::pin(sleep(idle));
        let upload = Self { body, meter, limit, idle, timer, end: end.clone() };
        upload.note_end();
        (upload, end)
    }

    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.end.whole.store(true, Ordering::Release);
        }
    }

    fn fail(&self, error: UploadError) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        // The first fault is the cause; what follows it is noise.
        let _ = self.end.fault.set(error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => {
                self.end.whole.store(true, Ordering::Release);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => self.fail(UploadError::Malformed),
            Poll::Ready(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else {
                    // Trailers: the last of it, and they end here.
                    self.end.whole.store(true, Ordering::Release);
                    return Poll::Ready(None);
                };
                if self.meter.add_up(data.len()) > self.limit {
                    return self.fail(UploadError::TooLarge);
                }
                let next = Instant::now() + self.idle;
                self.timer.as_mut().reset(next);
                self.note_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                self.fail(UploadError::Idle)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why an answer's body ended early; the connection to the worker is closed in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("the origin ended the answer early")]
    Upstream,
    #[error("the answer passed a limit")]
    Limit,
}

/// An answer's body on its way to the worker. Its time limits are watched from outside: a worker
/// that does not read keeps this from being asked for more.
pub(crate) struct Download {
    body: Incoming,
    limit: u64,
    /// Until the exchange has ended; whatever else must live as long ends with it.
    draft: Option<(Draft, Box<dyn Send + Sync>)>,
}

impl Download {
    /// Takes over the exchange; `hold` is dropped when the body has ended.
    pub(crate) fn new(
        body: Incoming,
        draft: Draft,
        limit: u64,
        hold: Box<dyn Send + Sync>,
    ) -> Self {
        let mut download = Self { body, limit, draft: Some((draft, hold)) };
        download.end_if_whole();
        download
    }

    fn end_if_whole(&mut self) {
        if self.body.is_end_stream()
            && let Some((draft, _hold)) = self.draft.take()
        {
            draft.complete(ClosedBy::Upstream);
        }
    }

    /// Ends the exchange with a reset, so that the worker cannot take what it got for the whole.
    fn cut(&mut self, by: ClosedBy, code: &'static str) {
        if let Some((mut draft, _hold)) = self.draft.take() {
            draft.reason(code);
            draft.cut(by);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                if let Some((draft, _hold)) = self.draft.take() {
                    draft.complete(ClosedBy::Upstream);
                }
                Poll::Ready(None)
            }
            Some(Err(_)) => {
                self.cut(ClosedBy::Upstream, "egress.upstream_reset");
                Poll::Ready(Some(Err(DownloadError::Upstream)))
            }
            Some(Ok(frame)) => {
                let moved = frame.data_ref().map_or(0, Bytes::len);
                let passed = self
                    .draft
                    .as_ref()
                    .is_some_and(|(draft, _)| draft.meter().add_down(moved) > self.limit);
                if passed {
                    self.cut(ClosedBy::Limit, "egress.response_too_large");
                    return Poll::Ready(Some(Err(DownloadError::Limit)));
                }
                self.end_if_whole();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
