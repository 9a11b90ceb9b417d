//! Carries bodies between worker and origin (stage 9), metered and under the permit's limits.
//!
//! An [`Upload`] is what the worker sends and a [`Download`] what it gets. Neither holds more than
//! the frame in hand: a reader that stalls stalls its writer. The download owns the exchange's
//! record and completes it at its own end, however that comes about.

use std::{
    error::Error as _,
    future::Future,
    io,
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
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    hop,
    limit::Budget,
    live::Cut,
    metrics::{Metrics, label::Way},
    origin::Release,
    record::{ClosedBy, Draft},
    refusal::Code,
};

/// Counts what an exchange moves, remembers when it last did, and pays for it where the rule has a
/// budget.
pub(crate) struct Meter {
    started: Instant,
    up: AtomicU64,
    down: AtomicU64,
    moved_ms: AtomicU64,
    budget: OnceLock<Budget>,
    metrics: Arc<Metrics>,
}

impl Meter {
    /// Starts at nothing; what is counted is counted in `metrics` as well.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            started: Instant::now(),
            up: AtomicU64::default(),
            down: AtomicU64::default(),
            moved_ms: AtomicU64::default(),
            budget: OnceLock::new(),
            metrics,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// Names the budget that pays for all that moves from here on; the first one stays.
    pub(crate) fn charge(&self, budget: Budget) {
        let _ = self.budget.set(budget);
    }

    /// Pays for bytes that are about to go up, and counts them. Returns how many may go: fewer than
    /// asked for only where the budget ends, and those are the last.
    pub(crate) fn pass_up(&self, bytes: usize) -> usize {
        let passed = self.paid(bytes, Budget::draw_up);
        self.add(&self.up, Way::Up, passed);
        passed
    }

    /// Pays for bytes that are about to go down, in the same way.
    pub(crate) fn pass_down(&self, bytes: usize) -> usize {
        let passed = self.paid(bytes, Budget::draw_down);
        self.add(&self.down, Way::Down, passed);
        passed
    }

    /// Pays for a frame that is about to go up; it is counted only if it may go as a whole, since a
    /// part of it would be worth no more than nothing.
    fn pass_frame_up(&self, bytes: usize) -> bool {
        let whole = self.paid(bytes, Budget::draw_up) == bytes;
        self.add(&self.up, Way::Up, if whole { bytes } else { 0 });
        whole
    }

    /// Pays for a frame that is about to go down, in the same way.
    fn pass_frame_down(&self, bytes: usize) -> bool {
        let whole = self.paid(bytes, Budget::draw_down) == bytes;
        self.add(&self.down, Way::Down, if whole { bytes } else { 0 });
        whole
    }

    fn paid(&self, bytes: usize, draw: fn(&Budget, u64) -> u64) -> usize {
        let paid = self.budget.get().map(|budget| draw(budget, bytes as u64));
        // It is never more than was asked for.
        paid.map_or(bytes, |paid| paid as usize)
    }

    fn add(&self, moved: &AtomicU64, way: Way, bytes: usize) {
        self.touch();
        self.metrics.bytes.of(way).add(bytes as u64);
        moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns how long it is until the budget begins anew.
    fn next_day(&self) -> Duration {
        self.budget.get().map_or(Duration::ZERO, Budget::next_day)
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
    pub(crate) async fn exceeded(self, meter: &Meter) -> ClosedBy {
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
    /// The day's bytes were used up; the next day begins after this time.
    #[error("the request body is larger than what is left of the day's bytes")]
    Budget(Duration),
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

    /// Whether all of it has been sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }
}

/// A request body on its way to the origin; its trailers are dropped.
pub struct Upload {
    /// Gone where there never was a body to send again.
    body: Option<Incoming>,
    meter: Arc<Meter>,
    limit: u64,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    /// What the first byte waits for.
    held: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    end: UploadState,
    /// That of the worker's connection.
    cut: Cut,
    /// That of the connection to the origin, once there is one.
    origin: Option<Cut>,
}

impl Upload {
    /// Takes a body that is given up when nothing of it arrives for `idle`.
    pub(crate) fn new(
        body: Incoming,
        meter: Arc<Meter>,
        idle: Duration,
        cut: Cut,
    ) -> (Self, UploadState) {
        let end = UploadState::default();
        let timer = Box::pin(sleep(idle));
        let (body, state) = (Some(body), end.clone());
        let upload =
            Self { body, meter, limit: 0, idle, timer, held: None, end: state, cut, origin: None };
        upload.note_end();
        (upload, end)
    }

    /// The same for a request that had no body, whose first upload has been spent.
    pub(crate) fn empty(meter: Arc<Meter>, end: UploadState) -> Self {
        let timer = Box::pin(sleep(Duration::ZERO));
        let (idle, cut) = (Duration::ZERO, Cut::default());
        Self { body: None, meter, limit: 0, idle, timer, held: None, end, cut, origin: None }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Bounds the body; until then it may have no byte. One that fails on its way cuts `origin`:
    /// what the origin has of it must not look as if it had ended well.
    pub(crate) fn bound(&mut self, limit: u64, origin: Cut) {
        self.limit = limit;
        self.origin = Some(origin);
    }

    /// Holds the first byte back until the origin has asked for it, but not for ever: an origin may
    /// know nothing of expectations (RFC 9110, section 10.1.1).
    pub(crate) fn hold_until(&mut self, asked: CancellationToken) {
        self.held = Some(Box::pin(async move {
            // Either is leave to send.
            let _ = timeout(UNASKED, asked.cancelled()).await;
        }));
    }

    fn note_end(&self) {
        if self.is_end_stream() {
            self.end.whole.store(true, Ordering::Release);
        }
    }

    fn fail(&self, error: UploadError) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Some(origin) = &self.origin {
            origin.now(ClosedBy::Error);
        }
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
        let Self { body, held, .. } = &mut *self;
        let Some(body) = body else { return Poll::Ready(None) };
        if let Some(held) = held {
            ready!(held.as_mut().poll(cx));
            self.held = None;
            let next = Instant::now() + self.idle;
            self.timer.as_mut().reset(next);
            return self.poll_frame(cx);
        }
        let frame = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = &frame
            && is_reset(error)
        {
            // Read before whoever watches the connection has seen it.
            self.cut.now(ClosedBy::Client);
        }
        if frame.is_ready() && self.cut.is_made() {
            // Whoever polls this is at work while it is being dropped: nothing goes on. Not even the
            // end of the body, which would have the origin's side closed in good order.
            return Poll::Pending;
        }
        match frame {
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
                let length = data.len();
                if self.meter.up() + length as u64 > self.limit {
                    return self.fail(UploadError::TooLarge);
                }
                if !self.meter.pass_frame_up(length) {
                    return self.fail(UploadError::Budget(self.meter.next_day()));
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
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// Whether it was not the body that was wrong, but the connection that was reset.
fn is_reset(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// How long an origin is given to ask for a body that was announced.
const UNASKED: Duration = Duration::from_secs(1);

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
    /// Until the exchange has ended. Before `body`, so that it is dropped first: the connection is
    /// reset, and not ended in good order because nobody takes the answer.
    open: Option<Open>,
    body: Incoming,
    limit: u64,
}

/// What an answer that is being relayed keeps open.
struct Open {
    draft: Draft,
    release: Release,
    /// Whatever else must live as long.
    _hold: Box<dyn Send + Sync>,
}

impl Download {
    /// Takes over the exchange; `hold` is dropped when the body has ended.
    pub(crate) fn new(
        body: Incoming,
        draft: Draft,
        limit: u64,
        release: Release,
        hold: Box<dyn Send + Sync>,
    ) -> Self {
        let open = Some(Open { draft, release, _hold: hold });
        let mut download = Self { open, body, limit };
        if download.body.is_end_stream() {
            download.end();
        }
        download
    }

    /// Ends the exchange well.
    fn end(&mut self) {
        if let Some(Open { draft, release, _hold }) = self.open.take() {
            release.answered();
            draft.complete(ClosedBy::Upstream);
        }
    }

    /// Says why a frame may not pass; one that may is counted and paid for.
    fn refuses(&self, length: usize) -> Option<Code> {
        let meter = self.open.as_ref()?.draft.meter();
        if meter.down() + length as u64 > self.limit {
            return Some(Code::ResponseTooLarge);
        }
        (!meter.pass_frame_down(length)).then_some(Code::BudgetExhausted)
    }

    /// Ends the exchange with a reset, so that the worker cannot take what it got for the whole.
    fn cut(&mut self, by: ClosedBy, code: Code) {
        if let Some(Open { mut draft, release: _reset, _hold }) = self.open.take() {
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
                self.end();
                Poll::Ready(None)
            }
            Some(Err(_)) => {
                self.cut(ClosedBy::Upstream, Code::UpstreamReset);
                Poll::Ready(Some(Err(DownloadError::Upstream)))
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    hop::trailers_towards_worker(trailers);
                }
                if let Some(code) = self.refuses(frame.data_ref().map_or(0, Bytes::len)) {
                    self.cut(ClosedBy::Limit, code);
                    return Poll::Ready(Some(Err(DownloadError::Limit)));
                }
                if self.body.is_end_stream() {
                    self.end();
                }
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
