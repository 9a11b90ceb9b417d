//! The life of a tunnel: a CONNECT to its connection (stages 4 to 7), and what its first bytes make
//! of it (8 to 10).
//!
//! The same rule as for a request holds: entered in the live index first, checked second, and not a
//! byte goes up before the decision is on record. What the tunnel turns out to carry selects the
//! rule; plain HTTP is not relayed but served, each request as an exchange of its own.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Instant};

use bytes::BytesMut;
use egret_policy::{
    Authority, Denial, HostName, Passage, Reason, Scheme, Sni, TlsClaim, TunnelAsk, TunnelGrant,
    Worker,
};
use hyper::upgrade::OnUpgrade;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::timed_dial;
use crate::{
    accept::{self, Connection},
    dial::Connected,
    hello::{ClaimedName, FirstBytes},
    limit::TunnelSeat,
    live::{Registration, Selected, Standing},
    metrics::{TunnelTimer, label::Carries},
    origin::{Origin, Release},
    record::{ClosedBy, Draft},
    refusal::{Code, Refusal},
    relay::Bounds,
    socket::Socket,
    tunnel::{self, End},
};

/// A tunnel whose first bytes have not been seen.
pub(super) struct OpenTunnel {
    worker: Arc<Worker>,
    authority: Authority,
    connected: Connected<TunnelGrant>,
}

/// A tunnel that carries plain HTTP: every request in it is an exchange of its own, over the one
/// connection that the CONNECT was pinned to.
pub(crate) struct HttpTunnel {
    pub(super) worker: Arc<Worker>,
    pub(super) authority: Authority,
    pub(super) grant: TunnelGrant,
    /// Why nothing inside goes on, where the tunnel was opened for other protocols.
    pub(super) refused: Option<Denial>,
    pub(super) origin: Mutex<Origin>,
    /// Dropped when nothing that began in the tunnel goes on any more.
    _open: DropGuard,
}

/// Stages 4 to 7 of a CONNECT.
pub(super) async fn connect(
    connection: &Connection,
    draft: &mut Draft,
    registration: &Registration,
    worker: Arc<Worker>,
    authority: Authority,
) -> Result<OpenTunnel, Refusal> {
    let shared = &connection.shared;

    // 4 decide: host and port; the first bytes will select the rule.
    let policy = shared.in_force.load().policy.clone();
    let ask = TunnelAsk { worker: &worker, authority: &authority };
    let began = Instant::now();
    let permit = policy.decide_tunnel(&ask, shared.clock.now());
    draft.policy(policy.revision(), began);
    let permit = permit?;
    let now = shared.moment();
    shared.accounts.look(&worker.id, permit.outcomes(now.time), now)?;
    draft.permitted(permit.verdict(), None);
    let standing = standing_of(&worker, &authority, None, None);
    registration.stand(None, &[], standing.clone());

    // 5 resolve
    let began = Instant::now();
    let answers = shared.resolver.resolve(permit.host(), &worker.id).await?;
    draft.resolved(&answers.addresses, began);

    // 6 pin
    let pinned = permit.pin(&answers, &shared.own.current())?;
    connection.still_standing(draft, &worker, &standing)?;

    // 7 connect
    let connected = timed_dial(pinned, connection).await?;
    draft.connected(connected.grant.peer(), connected.took);

    let peer = Some(connected.grant.peer());
    let standing = standing_of(&worker, &authority, peer, None);
    registration.stand(None, &[], standing.clone());
    connection.still_standing(draft, &worker, &standing)?;
    Ok(OpenTunnel { worker, authority, connected })
}

/// What a tunnel may do now, so that a new policy can decide it again.
fn standing_of(
    worker: &Arc<Worker>,
    authority: &Authority,
    peer: Option<SocketAddr>,
    selected: Option<Selected>,
) -> Standing {
    Standing::Tunnel { worker: worker.clone(), authority: authority.clone(), peer, selected }
}

/// Stages 8 to 10 of a tunnel. What comes before the relaying is large and soon over, so it is in a
/// place of its own: an open tunnel holds no more than it needs.
pub(super) fn pass(
    connection: Arc<Connection>,
    draft: Draft,
    registration: Registration,
    upgrade: OnUpgrade,
    tunnel: Box<OpenTunnel>,
) -> impl Future<Output = ()> + Send {
    let selecting = Box::pin(select(connection, draft, registration, upgrade, tunnel));
    async move {
        if let Some(passing) = selecting.await {
            relay(passing).await;
        }
    }
}

/// Two ends between which bytes may be relayed as they are.
struct Passing {
    worker: End,
    origin: End,
    draft: Draft,
    bounds: Bounds,
    /// The connection has the slot, the entry is what is cut, the seat and the timer count.
    _held: (Arc<Connection>, Registration, Option<TunnelSeat>, TunnelTimer),
}

/// The first bytes say what a tunnel carries, and only then may any go up.
async fn select(
    connection: Arc<Connection>,
    mut draft: Draft,
    registration: Registration,
    upgrade: OnUpgrade,
    tunnel: Box<OpenTunnel>,
) -> Option<Passing> {
    let shared = connection.shared.clone();
    let OpenTunnel { worker, authority, connected } = *tunnel;
    let Connected { socket: origin, grant, .. } = connected;
    let patience = shared.limits.first_byte_timeout;
    let Ok(Ok(mut end)) = timeout(patience, tunnel::take_over(upgrade)).await else {
        return leave(&connection, draft, &grant).await;
    };

    let first = if grant.opaque() {
        Ok(Ok(FirstBytes::Other))
    } else {
        timeout(patience, tunnel::first_bytes(&mut end)).await
    };
    let now = shared.clock.now();
    let (passage, selected, carries) = match first {
        Err(_) => return close(&connection, draft, Refusal::FirstBytesTimeout).await,
        Ok(Err(_) | Ok(FirstBytes::NeedMore)) => return leave(&connection, draft, &grant).await,
        Ok(Ok(FirstBytes::Http)) => {
            let tunnel = PlainTunnel { worker, authority, grant, origin, end };
            return open_http(connection, draft, registration, tunnel).await;
        }
        Ok(Ok(FirstBytes::Tls(hello))) => {
            let sni = match &hello.sni {
                ClaimedName::Absent => Sni::Absent,
                ClaimedName::Name(name) => Sni::Name(name),
                ClaimedName::Malformed => Sni::Malformed,
            };
            let passage = grant.select_tls(TlsClaim { sni, ech: hello.ech }, now);
            // Whatever is no name that a host can have is only the worker's bytes.
            let name = match &hello.sni {
                ClaimedName::Name(name) => HostName::from_wire(name).ok(),
                ClaimedName::Absent | ClaimedName::Malformed => None,
            };
            draft.selected(Scheme::Https.as_str(), name.as_ref());
            let named = matches!(hello.sni, ClaimedName::Name(_));
            (passage, Selected::Tls { named, ech: hello.ech }, Carries::Tls)
        }
        Ok(Ok(FirstBytes::Other)) => {
            draft.selected(Scheme::Tcp.as_str(), None);
            (grant.select_opaque(), Selected::Opaque, Carries::Opaque)
        }
    };
    let passage: Passage = match passage {
        Ok(passage) => passage,
        Err(denial) => return close(&connection, draft, denial.into()).await,
    };
    if passage.intercept() {
        // Whoever starts a proxy refuses such a policy; relayed blindly it would be half kept.
        return close(&connection, draft, Refusal::Internal).await;
    }
    let standing = standing_of(&worker, &authority, Some(grant.peer()), Some(selected));
    registration.stand(passage.rule(), &[], standing.clone());
    let counted = (passage.rule(), passage.limits());
    let seat = match shared.accounts.tunnel(&worker.id, counted, || shared.moment()) {
        Ok(None) => None,
        Ok(Some((seat, budget))) => {
            draft.meter().charge(budget);
            Some(seat)
        }
        Err(error) => return close(&connection, draft, error.into()).await,
    };
    if let Err(error) = draft.allow(passage.verdict(), passage.rule()).await {
        return close(&connection, draft, Refusal::Audit(error)).await;
    }
    registration.until(passage.expires());
    if let Err(refusal) = connection.still_standing(&mut draft, &worker, &standing) {
        return close(&connection, draft, refusal).await;
    }
    let bounds = Bounds::new(passage.limits(), passage.expires(), shared.clock.now());
    draft.meter().touch();
    let origin = End { socket: origin, early: BytesMut::new() };
    let timer = shared.metrics.tunnel(carries);
    let _held = (connection, registration, seat, timer);
    Some(Passing { worker: end, origin, draft, bounds, _held })
}

/// Carries bytes both ways to the end of an exchange.
async fn relay(passing: Passing) {
    let Passing { mut worker, mut origin, mut draft, bounds, _held } = passing;
    match tunnel::pump(&mut worker, &mut origin, draft.meter(), bounds).await {
        Ok(by) => draft.complete(by),
        Err(by) => {
            // The one limit that a relay has.
            if by == ClosedBy::Limit {
                draft.reason(Code::BudgetExhausted);
            }
            draft.cut(by);
        }
    }
}

/// An exchange that goes on as WebSocket.
pub(super) struct Upgraded {
    pub(super) worker: OnUpgrade,
    pub(super) origin: OnUpgrade,
    pub(super) bounds: Bounds,
    /// Resets the origin's connection until it has been taken over.
    pub(super) release: Release,
}

/// Relays what follows an answer of 101, uninspected, under the limits of the request's rule.
pub(super) async fn pass_upgraded(
    connection: Arc<Connection>,
    draft: Draft,
    registration: Registration,
    upgraded: Upgraded,
) {
    let Upgraded { worker, origin, bounds, release } = upgraded;
    let taking =
        async { tokio::try_join!(tunnel::take_over(worker), tunnel::take_over_origin(origin)) };
    let patience = connection.shared.limits.first_byte_timeout;
    let Ok(Ok((worker, origin))) = timeout(patience, taking).await else {
        return draft.complete(ClosedBy::Error);
    };
    let origin = End { socket: origin.socket.handed_to(connection.cut.clone()), ..origin };
    release.answered();
    draft.meter().touch();
    let timer = connection.shared.metrics.tunnel(Carries::Websocket);
    let _held = (connection, registration, None, timer);
    relay(Passing { worker, origin, draft, bounds, _held }).await;
}

/// A tunnel whose first bytes were plain HTTP.
struct PlainTunnel {
    worker: Arc<Worker>,
    authority: Authority,
    grant: TunnelGrant,
    origin: Socket,
    end: End,
}

/// Serves a tunnel that carries plain HTTP. Cleartext can be answered in cleartext: where it is
/// denied, the requests inside are told so, and the tunnel's own record says it as well.
async fn open_http(
    connection: Arc<Connection>,
    mut draft: Draft,
    registration: Registration,
    tunnel: PlainTunnel,
) -> Option<Passing> {
    let shared = &connection.shared;
    draft.selected(Scheme::Http.as_str(), None);
    let (seat, refused) = match tunnel.grant.select_http() {
        Ok(verdict) => {
            let counted = tunnel.grant.http_outcome(shared.clock.now());
            let seated = counted
                .map_or(Ok(None), |counted| shared.accounts.seat(&tunnel.worker.id, counted));
            let seat = match seated {
                Ok(seat) => seat,
                Err(error) => return close(&connection, draft, error.into()).await,
            };
            if let Err(error) = draft.allow(verdict, None).await {
                return close(&connection, draft, Refusal::Audit(error)).await;
            }
            (seat, None)
        }
        Err(denial) => {
            if connection.record(&mut draft, &denial.clone().into()).await.is_err() {
                draft.discard(Code::RateLimited);
                return None;
            }
            // A deny is told by each request, which is decided by itself.
            (None, Some(denial).filter(|denial| denial.reason == Reason::ProtocolNotAllowed))
        }
    };
    pass_http(connection, draft, registration, tunnel, refused).await;
    // It counts until the tunnel has ended.
    drop(seat);
    None
}

/// Serves the requests inside a tunnel. Boxed, because each of them is an `exchange` again.
fn pass_http(
    connection: Arc<Connection>,
    draft: Draft,
    registration: Registration,
    tunnel: PlainTunnel,
    refused: Option<Denial>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let PlainTunnel { worker, authority, grant, origin, end } = tunnel;
        let is_refused = refused.is_some();
        let standing = standing_of(&worker, &authority, Some(grant.peer()), Some(Selected::Http));
        registration.stand(None, &[], standing);
        let _timer = connection.shared.metrics.tunnel(Carries::Http);
        let origin = Origin::speak(origin, grant.peer(), &connection.shared.tasks).await;
        let Ok(origin) = origin else { return draft.complete(ClosedBy::Upstream) };
        let ended = origin.way().ended;
        let origin = Mutex::new(origin);
        let over = CancellationToken::new();
        let _open = over.clone().drop_guard();
        let tunnel = Arc::new(HttpTunnel { worker, authority, grant, refused, origin, _open });
        accept::serve_tunnel(&connection, tunnel.clone(), end, ended.clone()).await;
        tunnel.origin.lock().await.end();
        drop(tunnel);
        // A WebSocket that began inside goes on.
        over.cancelled().await;
        draft.complete(match (is_refused, ended.is_cancelled()) {
            (true, _) => ClosedBy::Policy,
            (false, true) => ClosedBy::Upstream,
            (false, false) => ClosedBy::Client,
        });
    })
}

/// Ends a tunnel whose worker left before it said anything: it was granted, and nothing moved.
async fn leave(connection: &Connection, mut draft: Draft, grant: &TunnelGrant) -> Option<Passing> {
    if let Err(error) = draft.allow(grant.verdict(), None).await {
        return close(connection, draft, Refusal::Audit(error)).await;
    }
    draft.complete(ClosedBy::Client);
    None
}

/// Ends a tunnel that is refused after its 200: there is no status left to say it with.
async fn close(connection: &Connection, mut draft: Draft, refusal: Refusal) -> Option<Passing> {
    match connection.record(&mut draft, &refusal).await {
        Ok(()) => draft.complete(refusal.closed_by()),
        Err(_) => draft.discard(Code::RateLimited),
    }
    None
}
