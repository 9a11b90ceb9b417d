//! Connections to origins that speak HTTP/1, and the pool in which they wait between requests.
//!
//! A connection is kept only for the worker, scheme, host and port that it was made for, and is
//! given out again only for a peer that the new request was pinned to. Whoever holds an [`Origin`]
//! and drops it resets the connection: it is kept, or ended in good order, only by saying so.
//! Nothing is kept after an odd framing, and nothing that has a byte to be read.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use egret_policy::{Authority, Scheme, Target, WorkerId};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accept::until_cut,
    live::Cut,
    metrics::Metrics,
    record::ClosedBy,
    relay::{Upload, UploadState},
    sharded::Sharded,
    socket::{Socket, Watch},
};

/// Connections kept in all, and for one key.
const MOST: usize = 1024;
const MOST_EACH: usize = 16;
/// What is held of one direction; an answer's head must fit.
const BUFFER: usize = 128 << 10;
/// Well below the time after which common origins close an idle connection themselves.
const KEPT: Duration = Duration::from_secs(15);
/// How long a connection may take to its end in good order, once nobody needs it.
const ENDING: Duration = Duration::from_secs(2);

/// What a connection is kept for, besides its peer. Only cleartext is kept, and that never carries
/// a credential, so none is part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    worker: WorkerId,
    scheme: Scheme,
    authority: Authority,
}

impl Key {
    pub(crate) fn new(worker: &WorkerId, target: &Target) -> Self {
        let (scheme, authority) = (target.scheme(), target.authority().clone());
        Self { worker: worker.clone(), scheme, authority }
    }
}

/// An open connection to an origin.
pub(crate) struct Origin {
    /// Gone once the connection was ended in good order.
    sender: Option<SendRequest<Upload>>,
    peer: SocketAddr,
    way: Way,
    watch: Watch,
}

/// What is known about a connection, and can be done to it, from beside.
#[derive(Clone)]
pub(crate) struct Way {
    /// Cancelled when the origin's side has ended.
    pub(crate) ended: CancellationToken,
    /// Cancelled when nothing more is to be sent or answered.
    ending: CancellationToken,
    /// Whether what ends HTTP may be a WebSocket that begins.
    upgrading: Arc<AtomicBool>,
    /// Ends the connection with a reset.
    pub(crate) cut: Cut,
}

impl Origin {
    /// Begins HTTP/1.1. From here on the socket dies with the origin, not with a worker's connection.
    pub(crate) async fn speak(
        socket: Socket,
        peer: SocketAddr,
        tasks: &TaskTracker,
    ) -> hyper::Result<Self> {
        let (watch, cut) = (socket.watch(), Cut::default());
        let io = TokioIo::new(socket.handed_to(cut.clone()));
        let (sender, driver) = http1::Builder::new().max_buf_size(BUFFER).handshake(io).await?;
        let way = Way {
            ended: CancellationToken::new(),
            ending: CancellationToken::new(),
            upgrading: Arc::default(),
            cut,
        };
        let (tell, known) = (way.ended.clone().drop_guard(), way.clone());
        tasks.spawn(until_cut(way.cut.clone(), async move {
            let overdue = async {
                known.ending.cancelled().await;
                sleep(ENDING).await;
            };
            tokio::select! {
                ended = driver.with_upgrades() => match ended {
                    Ok(()) if known.upgrading.load(Ordering::Acquire) => drop(tell.disarm()),
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "an origin's connection ended"),
                },
                // It does not take what it was sent, and nobody waits for it any more.
                () = overdue => known.cut.now(ClosedBy::Idle),
            }
        }));
        Ok(Self { sender: Some(sender), peer, way, watch })
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn way(&self) -> Way {
        self.way.clone()
    }

    /// Returns what ends the connection with a reset.
    pub(crate) fn cut(&self) -> Cut {
        self.way.cut.clone()
    }

    /// Sends a request and returns the head of its answer. Given up before that, it has the
    /// connection reset.
    pub(crate) fn ask(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> {
        let resets = Resets(Some(self.way.cut.clone()));
        Asking { resets, sending: self.sender().try_send_request(request) }
    }

    /// Waits until the next request can be sent.
    pub(crate) async fn ready(&mut self) -> hyper::Result<()> {
        self.sender().ready().await
    }

    fn sender(&mut self) -> &mut SendRequest<Upload> {
        self.sender.as_mut().expect("only ending the connection takes the sender away")
    }

    /// Says whether the next answer may be a 101, after which the connection has not ended although
    /// nobody speaks HTTP on it any more.
    pub(crate) fn may_upgrade(&self, may: bool) {
        self.way.upgrading.store(may, Ordering::Release);
        if !may && self.is_over() {
            self.way.ended.cancel();
        }
    }

    /// Lets what is under way end, and the connection with it.
    pub(crate) fn end(&mut self) {
        self.sender = None;
        self.way.ending.cancel();
    }

    /// Whether a request could be sent now, and an answer would be the answer to it.
    fn is_idle(&self) -> bool {
        let ready = self.sender.as_ref().is_some_and(SendRequest::is_ready);
        ready && self.watch.is_quiet()
    }

    fn is_over(&self) -> bool {
        self.sender.as_ref().is_none_or(SendRequest::is_closed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.way.cut.now(ClosedBy::Client);
        }
    }
}

pin_project! {
    /// A request that is on its way. Its parts are dropped in this order: the library ends a
    /// connection in good order when nobody waits for the answer any more, so it is cut before.
    struct Asking<F> {
        resets: Resets,
        #[pin]
        sending: F,
    }
}

/// Cuts when it is dropped, unless it was told not to.
struct Resets(Option<Cut>);

impl<F: Future> Future for Asking<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let parts = self.project();
        let answered = ready!(parts.sending.poll(cx));
        parts.resets.0 = None;
        Poll::Ready(answered)
    }
}

impl Drop for Resets {
    fn drop(&mut self) {
        if let Some(cut) = &self.0 {
            cut.now(ClosedBy::Client);
        }
    }
}

/// Where connections wait for their next request.
pub(crate) struct Pool {
    waiting: Sharded<Key, Vec<Kept>>,
    count: AtomicUsize,
    closed: AtomicBool,
    metrics: Arc<Metrics>,
}

struct Kept {
    origin: Origin,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Sharded::new(),
            count: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            metrics,
        })
    }

    /// Takes the connection of `key` to one of `peers` that was used last.
    pub(crate) fn take(&self, key: &Key, peers: &[SocketAddr]) -> Option<Origin> {
        let mut shard = self.waiting.of(key);
        let waiting = shard.get_mut(key)?;
        let fits = |kept: &Kept| {
            kept.since.elapsed() < KEPT
                && peers.contains(&kept.origin.peer)
                && kept.origin.is_idle()
        };
        let taken = waiting.remove(waiting.iter().rposition(fits)?);
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.metrics.kept.add(-1);
        Some(taken.origin)
    }

    /// Keeps a connection for the next request, if there is room.
    pub(crate) fn keep(&self, key: Key, mut origin: Origin) {
        let mut shard = self.waiting.of(&key);
        let each = shard.get(&key).map_or(0, Vec::len);
        // Closed first and cleared second, so one that is kept meanwhile is found.
        let full = self.count.load(Ordering::Relaxed) >= MOST || each >= MOST_EACH;
        if full || origin.is_over() || self.closed.load(Ordering::Acquire) {
            drop(shard);
            return origin.end();
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.metrics.kept.add(1);
        shard.entry(key).or_default().push(Kept { origin, since: Instant::now() });
    }

    /// Ends the connections that were made for a worker whose rights have ended, with a reset.
    pub(crate) fn cut(&self, worker: &WorkerId, by: ClosedBy) {
        for kept in self.remove(|key, _| key.worker == *worker) {
            kept.origin.way.cut.now(by);
        }
    }

    /// Ends every connection: what they hold is needed elsewhere.
    pub(crate) fn clear(&self) {
        self.remove(|_, _| true).into_iter().for_each(|mut kept| kept.origin.end());
    }

    /// Ends every connection and keeps none from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.clear();
    }

    /// Ends what has waited too long, again and again.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        let mut interval = tokio::time::interval(KEPT / 3);
        loop {
            interval.tick().await;
            let old = self.remove(|_, kept| kept.since.elapsed() >= KEPT || kept.origin.is_over());
            old.into_iter().for_each(|mut kept| kept.origin.end());
        }
    }

    fn remove(&self, gone: impl Fn(&Key, &Kept) -> bool) -> Vec<Kept> {
        let mut removed = Vec::new();
        for mut shard in self.waiting.all() {
            shard.retain(|key, waiting| {
                removed.extend(waiting.extract_if(.., |kept| gone(key, kept)));
                !waiting.is_empty()
            });
        }
        self.count.fetch_sub(removed.len(), Ordering::Relaxed);
        self.metrics.kept.add(-(removed.len() as i64));
        removed
    }
}

/// What becomes of the connection that an answer came over, once the answer has ended. Dropped
/// before it was told that all is whole, it resets the connection: an origin that answers early is
/// no channel for what follows.
pub(crate) struct Release {
    upload: UploadState,
    then: Then,
}

enum Then {
    Keep {
        origin: Origin,
        key: Key,
        pool: Arc<Pool>,
    },
    End(Origin),
    /// The connection is a tunnel's own and outlives the exchange.
    Stay(Way),
    Settled,
}

impl Release {
    /// Keeps the connection in `pool`.
    pub(crate) fn keep(upload: UploadState, origin: Origin, key: Key, pool: Arc<Pool>) -> Self {
        Self { upload, then: Then::Keep { origin, key, pool } }
    }

    /// Ends the connection in good order.
    pub(crate) fn end(upload: UploadState, origin: Origin) -> Self {
        Self { upload, then: Then::End(origin) }
    }

    /// Leaves the connection to the tunnel.
    pub(crate) fn stay(upload: UploadState, way: Way) -> Self {
        Self { upload, then: Then::Stay(way) }
    }

    /// Says that the answer has come to its end.
    pub(crate) fn answered(mut self) {
        if !self.upload.is_whole() {
            return;
        }
        match std::mem::replace(&mut self.then, Then::Settled) {
            Then::Keep { origin, key, pool } => pool.keep(key, origin),
            Then::End(mut origin) => origin.end(),
            Then::Stay(_) | Then::Settled => {}
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        match &self.then {
            Then::Stay(way) => way.cut.now(ClosedBy::Client),
            // An origin that is dropped resets by itself.
            Then::Keep { .. } | Then::End(_) | Then::Settled => {}
        }
    }
}
