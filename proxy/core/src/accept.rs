//! Takes connections in (stage 1) and serves HTTP on them.
//!
//! The accept loop outlives whatever happens to a connection, and running out of descriptors: it
//! waits a moment and tries again, while what is open goes on. Above the limit on connections a
//! few more are taken to be told so; beyond those they are reset at once.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    time::Duration,
};

use egret_policy::{Worker, WorkerId};
use http::{HeaderValue, Response, header::CONNECTION};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    caused::caused,
    dial::is_exhaustion,
    exchange::{HttpTunnel, exchange},
    gate::{Facts, Gate, GateLimits, gate},
    identify::Identification,
    limit::Over,
    listen::{Acceptor, Peer},
    live::{Cut, Registration, Seat, Standing},
    metrics::{OpenConnection, label::Accepted},
    proxy::Shared,
    record::{ClosedBy, Draft},
    refusal::{Code, Refusal},
    seldom::Seldom,
    sharded::lock,
    socket::{Socket, Stream, Watch},
    tunnel::End,
};

/// How long the accept loop rests when the machine has nothing to give.
const REST: Duration = Duration::from_millis(50);
static EXHAUSTED: Seldom = Seldom::new();
/// How long a connection may stay open between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Fields of a head; the gate's limit is below, so that it is the one to refuse.
const HYPER_FIELDS: usize = 128;
const GATE_FIELDS: usize = 100;
const TARGET_BYTES: usize = 8 << 10;
/// What hyper may hold of one direction: a head must fit, and more than this only costs memory.
const BUFFER: usize = 64 << 10;
/// A head that the gate has passed is never too large for hyper.
const HEAD_SLACK: usize = 4 << 10;

/// A bound socket and how it identifies.
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) identification: Identification,
}

/// One client connection, or the inside of one tunnel.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) peer: Peer,
    pub(crate) cut: Cut,
    pub(crate) facts: Facts,
    /// The tunnel that this is the inside of.
    pub(crate) tunnel: Option<Arc<HttpTunnel>>,
    place: Place,
    seat: Mutex<Option<Seat>>,
    /// The entry of the connection itself, as long as requests are served on it.
    entry: Weak<Registration>,
}

/// Whether a connection is served, or only told that it is not.
enum Place {
    Slot {
        _slot: OwnedSemaphorePermit,
        _open: OpenConnection,
    },
    Refused {
        _slot: OwnedSemaphorePermit,
    },
    /// Inside a tunnel, whose own connection holds the slot.
    Inside {
        _outer: Arc<Connection>,
    },
}

impl Connection {
    /// Refuses when there is no slot for this connection, or when the last call is over.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        match self.place {
            Place::Refused { .. } => Err(Refusal::Overloaded),
            Place::Slot { .. } | Place::Inside { .. } if self.shared.last_call.is_cancelled() => {
                Err(Refusal::Draining)
            }
            Place::Slot { .. } | Place::Inside { .. } => Ok(()),
        }
    }

    /// Says so in an answer if it is the last of its connection, because the proxy stops.
    pub(crate) fn mark_last<B>(&self, response: &mut Response<B>) {
        if self.shared.stop.is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Counts this connection as one of `worker`'s.
    pub(crate) fn seat(&self, worker: &WorkerId) -> Result<(), Refusal> {
        let mut seat = lock(&self.seat);
        if seat.as_ref().is_some_and(|seat| seat.worker() == worker) {
            return Ok(());
        }
        let limit = self.shared.limits.connections_per_worker;
        *seat = Some(self.shared.live.seat(worker, limit).ok_or(Refusal::Overloaded)?);
        // Between two requests, too, the connection is that worker's, and ends with its rights.
        if let Some(entry) = self.entry.upgrade() {
            entry.identify(worker);
        }
        Ok(())
    }

    /// Records and counts a refusal (stage 10). Refused when it is a denial too many to have a record
    /// of its own.
    pub(crate) async fn record(&self, draft: &mut Draft, refusal: &Refusal) -> Result<(), Over> {
        self.may_record(draft, refusal)?;
        refusal.log(draft.id());
        self.shared.metrics.refused(refusal);
        draft.deny(refusal.code(), refusal.rule()).await;
        Ok(())
    }

    /// Counts a refusal if it is a denial that nothing was recorded of yet.
    fn may_record(&self, draft: &Draft, refusal: &Refusal) -> Result<(), Over> {
        if draft.is_decided() || !refusal.is_denial() {
            return Ok(());
        }
        let worker = draft.worker_id();
        // A worker's are one sum, whatever they were; of strangers little else is known.
        let code = worker.map_or(refusal.code(), |_| Code::RateLimited);
        self.shared.denials.count(worker, &self.listener.name, code, self.shared.moment())
    }

    /// Checks the rights again after they were entered in the live index: a revocation, a new
    /// policy or an expiry either found the entry or is seen here. The record names the policy that
    /// refused.
    pub(crate) fn still_standing(
        &self,
        draft: &mut Draft,
        worker: &Arc<Worker>,
        standing: &Standing,
    ) -> Result<(), Refusal> {
        let in_force = self.shared.in_force.load();
        let judged = match self.listener.identification.is_admitted(worker, &*in_force.workers) {
            false => Err(Refusal::Revoked),
            true => self.shared.holds(&in_force.policy, standing).map_err(Refusal::from),
        };
        judged.inspect_err(|_| draft.judged_by(in_force.policy.revision()))
    }
}

/// Accepts until the proxy stops, and then what has come to the socket by then.
pub(crate) async fn accept(socket: Acceptor, listener: Arc<Listener>, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take_in(stream, peer, &listener, &shared),
            Err(error) if is_exhaustion(&error) => {
                shared.metrics.accepted.of(Accepted::Failed).add(1);
                if let Some(unsaid) = EXHAUSTED.due() {
                    tracing::warn!(
                        error = %caused(&error),
                        unsaid,
                        "no connection can be accepted for the moment"
                    );
                }
                // What only waits for a next request is the first to go.
                shared.pool.clear();
                tokio::time::sleep(REST).await;
            }
            // The client was gone before it was accepted.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
    for accepted in socket.close() {
        match accepted {
            Ok((stream, peer)) => take_in(stream, peer, &listener, &shared),
            Err(error) => {
                tracing::warn!(
                    error = %caused(&error),
                    "a connection could not be accepted at the end"
                )
            }
        }
    }
}

fn take_in(stream: Stream, peer: Peer, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    let place = match shared.slots.clone().try_acquire_owned() {
        Ok(slot) => {
            shared.metrics.accepted.of(Accepted::Served).add(1);
            Place::Slot { _slot: slot, _open: shared.metrics.connection() }
        }
        Err(_) => match shared.overflow.clone().try_acquire_owned() {
            Ok(slot) => {
                shared.metrics.accepted.of(Accepted::Refused).add(1);
                Place::Refused { _slot: slot }
            }
            Err(_) => return shared.metrics.accepted.of(Accepted::Dropped).add(1),
        },
    };
    let cut = Cut::default();
    let Ok(socket) = Socket::new(stream, cut.clone()) else { return };
    let watch = socket.watch();
    let registration = Arc::new(shared.live.enter(&cut));
    let (io, facts) = gate(socket, gate_limits(shared));
    let connection = Arc::new(Connection {
        shared: shared.clone(),
        listener: listener.clone(),
        peer,
        cut: cut.clone(),
        facts,
        tunnel: None,
        place,
        seat: Mutex::default(),
        entry: Arc::downgrade(&registration),
    });
    shared.tasks.spawn(until_cut(cut, async move {
        let _registration = registration;
        // Nothing but the proxy's own end winds a worker's connection down.
        serve(connection, io, watch, CancellationToken::new()).await;
    }));
}

/// Serves the requests inside a tunnel until either end of it has ended.
pub(crate) async fn serve_tunnel(
    outer: &Arc<Connection>,
    tunnel: Arc<HttpTunnel>,
    end: End,
    origin_ended: CancellationToken,
) {
    let watch = end.socket.watch();
    let (io, facts) = gate(end, gate_limits(&outer.shared));
    let connection = Arc::new(Connection {
        shared: outer.shared.clone(),
        listener: outer.listener.clone(),
        peer: outer.peer,
        cut: outer.cut.clone(),
        facts,
        tunnel: Some(tunnel),
        place: Place::Inside { _outer: outer.clone() },
        seat: Mutex::default(),
        entry: Weak::new(),
    });
    serve(connection, io, watch, origin_ended).await;
}

/// Serves HTTP/1 until the connection ends; `wind_down` lets the exchange under way be the last.
async fn serve<S>(
    connection: Arc<Connection>,
    io: Gate<S>,
    watch: Watch,
    wind_down: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (last_call, cut) = (connection.shared.last_call.clone(), connection.cut.clone());
    let facts = connection.facts.clone();
    let connection_buffer = connection.shared.limits.head_bytes.max(BUFFER) + HEAD_SLACK;
    let service = service_fn(move |request| {
        let connection = connection.clone();
        // Boxed, so that a connection which waits for its next request holds no room for one.
        Box::pin(
            async move { Ok::<_, std::convert::Infallible>(exchange(connection, request).await) },
        )
    });
    // A worker may close its side when it has asked (RFC 9112, section 9.6): it still gets its
    // answer, and a body that ends early still gets its 400.
    let serving = http1::Builder::new()
        .half_close(true)
        .max_headers(HYPER_FIELDS)
        .max_buf_size(connection_buffer)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::pin!(serving);
    let (mut winding_down, mut called) = (false, false);
    let ended = loop {
        tokio::select! {
            biased;
            // hyper does not read while an answer is awaited, so it would not see this; and where it
            // does, it would take it for a body that is malformed.
            () = watch.reset() => return cut.now(ClosedBy::Client),
            ended = &mut serving => break ended,
            () = wind_down.cancelled(), if !winding_down => {
                winding_down = true;
                serving.as_mut().graceful_shutdown();
            }
            // Whoever has said nothing by now is closed; whoever has begun to is told.
            () = last_call.cancelled(), if !called => {
                called = true;
                facts.end_idle();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a worker's connection ended");
    }
}

/// Runs `work` until it ends or is cut; what it owned is dropped either way.
pub(crate) fn until_cut<W: Future<Output = ()>>(cut: Cut, work: W) -> UntilCut<W> {
    UntilCut { cut: cut.cancelled(), work }
}

pin_project! {
    /// Written by hand, because an `async fn` has room for its argument twice, once as it came and
    /// once as it runs, and this one is held for as long as a tunnel is open.
    pub(crate) struct UntilCut<W> {
        #[pin]
        cut: WaitForCancellationFutureOwned,
        #[pin]
        work: W,
    }
}

impl<W: Future<Output = ()>> Future for UntilCut<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let parts = self.project();
        // A cut comes first: no step of the work is taken after it.
        match parts.cut.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => parts.work.poll(cx),
        }
    }
}

fn gate_limits(shared: &Shared) -> GateLimits {
    GateLimits {
        head_bytes: shared.limits.head_bytes,
        target_bytes: TARGET_BYTES,
        fields: GATE_FIELDS,
        header_timeout: shared.limits.header_timeout,
        idle_timeout: KEEP_ALIVE,
    }
}
