//! The life of a request, in execution order. The order of the stages is the security property,
//! so this is straight code: what a stage needs is what the one before it made, and a stage that
//! is left out does not compile.
//!
//! `1 accept  2 parse  3 identify  4 decide  5 resolve  6 pin  7 connect  8 inject  9 relay
//! 10 record`
//!
//! An exchange is entered in the live index before its rights are checked and checked again before
//! its first byte upstream, so that a revocation on the way is never lost. Every await in here may
//! be the last: a cut drops the future, and with it the sockets (with a reset) and the draft of
//! the record (which completes itself).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use egret_policy::{Ask, Grant, Method, Permit, Pinned};
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, EXPECT},
};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

pub(crate) use self::tunnel::HttpTunnel;
use self::{
    answer::{Answer, announced, fit_for_worker, judge},
    outbound::{Interim, Outbound},
};
use crate::{
    accept::{self, Connection},
    dial::{Connected, DialError, dial},
    gate::HeadFact,
    hop,
    inject::inject,
    live::{Asked, Registration, Standing},
    metrics::label::{Dialled, Judged},
    origin::{Key, Origin, Release},
    parse::Head,
    record::{ClosedBy, Draft},
    refusal::{Challenge, Refusal},
    relay::{Bounds, Download, Upload, UploadError, UploadState},
};

mod answer;
mod outbound;
mod tunnel;

/// The body of whatever the worker is answered with.
pub(crate) type Outgoing = Either<Full<Bytes>, Download>;

/// Runs one request to its answer.
pub(crate) async fn exchange(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    // 1 accept: the connection has a slot; the record of this exchange opens.
    let fact = connection.facts.next();
    let shared = &connection.shared;
    let opened = Draft::open(
        &shared.recorder,
        &shared.metrics,
        &shared.clock,
        &connection.cut,
        &connection.listener.name,
        connection.peer.address(),
        shared.in_force.load().policy.revision(),
    );
    let mut draft = match opened.await {
        Ok(draft) => draft,
        Err(error) => {
            // Nothing can be written: this id is found in the log, if anywhere.
            connection.facts.refused();
            let (refusal, id) = (Refusal::Audit(error), Ulid::generate().to_string());
            shared.metrics.requests.of(Judged::Deny).of(refusal.code()).add(1);
            refusal.log(&id);
            return refusal.response(&id, Challenge::None).map(Either::Left);
        }
    };
    let registration = shared.live.enter(&connection.cut);

    let answer = match &connection.tunnel {
        None => on_proxy(&connection, &mut draft, &registration, &fact, request).await,
        Some(tunnel) => {
            in_tunnel(&connection, tunnel, &mut draft, &registration, &fact, request).await
        }
    };
    match answer {
        Ok(Answer::Response { mut response, limit, bounds, release }) => {
            fit_for_worker(&mut response);
            connection.mark_last(&mut response);
            draft.status(response.status().as_u16());
            response.map(|body| {
                // Until the body has ended, the exchange is live and its connection not idle.
                let watched = watch(&connection, &draft, bounds);
                let hold = Box::new((registration, fact, watched));
                Either::Right(Download::new(body, draft, limit, release, hold))
            })
        }
        Ok(Answer::Upgraded { mut response, upgraded }) => {
            fit_for_worker(&mut response);
            hop::go_on_as_websocket(response.headers_mut());
            draft.status(response.status().as_u16());
            connection.facts.opened();
            let passing = tunnel::pass_upgraded(connection.clone(), draft, registration, upgraded);
            shared.tasks.spawn(accept::until_cut(connection.cut.clone(), passing));
            response.map(|_| Either::Left(Full::default()))
        }
        Ok(Answer::Tunnel { upgrade, tunnel }) => {
            draft.status(StatusCode::OK.as_u16());
            connection.facts.opened();
            let passing = tunnel::pass(connection.clone(), draft, registration, upgrade, tunnel);
            shared.tasks.spawn(accept::until_cut(connection.cut.clone(), passing));
            Response::new(Either::Left(Full::default()))
        }
        Ok(Answer::Here) => {
            draft.status(StatusCode::OK.as_u16());
            connection.facts.refused();
            draft.complete(ClosedBy::Client);
            let mut response = Response::new(Either::Left(Full::default()));
            connection.mark_last(&mut response);
            response
        }
        Err(refusal) => {
            let mut response = refuse(&connection, draft, &fact, refusal).await;
            connection.mark_last(&mut response);
            response
        }
    }
}

/// Cuts the connection when an answer's time is up, until the returned guard is dropped.
fn watch(connection: &Connection, draft: &Draft, bounds: Bounds) -> DropGuard {
    let ended = CancellationToken::new();
    let (guard, cut) = (ended.clone().drop_guard(), connection.cut.clone());
    let meter = draft.meter().clone();
    let watching = async move {
        tokio::select! {
            () = ended.cancelled() => {}
            by = bounds.exceeded(&meter) => cut.now(by),
        }
    };
    connection.shared.tasks.spawn(accept::until_cut(connection.cut.clone(), watching));
    guard
}

/// Records a refusal and answers with it.
async fn refuse(
    connection: &Connection,
    mut draft: Draft,
    fact: &HeadFact,
    refusal: Refusal,
) -> Response<Outgoing> {
    connection.facts.refused();
    let challenge = connection.listener.identification.challenge();
    let mut response = match connection.record(&mut draft, &refusal).await {
        Ok(()) => {
            let response = refusal.response(draft.id(), challenge);
            draft.status(response.status().as_u16());
            draft.complete(refusal.closed_by());
            response
        }
        Err(over) => {
            // Who is not known is told what it lacks, as ever; a worker, that it is to slow down.
            let known = draft.worker_id().is_some();
            let refusal = if known { Refusal::DenialsSummed(over.wait) } else { refusal };
            draft.discard(refusal.code());
            refusal.response(&over.id, challenge)
        }
    };
    if fact.asks_for_tunnel() {
        // The gate ends the connection here. A client that has been challenged (curl and git ask
        // without credentials first) comes again on another one if it is told, else it gives up.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(Either::Left)
}

/// Stages 2 to 9 of what was sent to the proxy itself.
async fn on_proxy(
    connection: &Arc<Connection>,
    draft: &mut Draft,
    registration: &Registration,
    fact: &HeadFact,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let shared = &connection.shared;
    connection.admit()?;

    // 2 parse
    let head = Head::for_proxy(fact, request.headers(), draft)?;

    // 3 identify: entered under the name first, checked second.
    let identification = &connection.listener.identification;
    let workers = shared.in_force.load().workers.clone();
    let worker = identification.identify(request.headers(), &connection.peer, &*workers)?;
    draft.worker(&worker);
    registration.identify(&worker.id);
    connection.seat(&worker.id)?;

    match head {
        Head::Request { method, target } => {
            let asked = Arc::new(Asked { worker, method, target });
            forward(connection, draft, registration, asked, request).await
        }
        Head::Tunnel(authority) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let tunnel =
                tunnel::connect(connection, draft, registration, worker, authority).await?;
            Ok(Answer::Tunnel { upgrade, tunnel: Box::new(tunnel) })
        }
    }
}

/// Stages 4 to 9 of a request in absolute form.
async fn forward(
    connection: &Connection,
    draft: &mut Draft,
    registration: &Registration,
    asked: Arc<Asked>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let outbound = Outbound::new(connection, draft, request);
    let permit = decide(connection, draft, registration, &asked)?;
    count(connection, draft, &asked, &permit)?;
    if outbound.ends_here(&asked)? {
        draft.allow(permit.verdict(), permit.rule()).await?;
        return Ok(Answer::Here);
    }
    let Reached { mut origin, grant, key, kept } =
        reach(connection, draft, &asked, permit, Reuse::Kept).await?;
    let mut granted = Granted { asked, grant };
    granted.stand(connection, draft, registration)?;
    let again = kept.then(|| outbound.again());
    let mut sent = send(connection, draft, &granted, outbound, &mut origin).await;

    // A connection that was kept may end while a request is on its way. One that the origin cannot
    // have acted upon is sent once more: decided, resolved, pinned and dialled anew, and counted
    // as the one request that it is.
    if let (Err(Unsent::Stale(upload)), Some(again)) = (&mut sent, again) {
        let outbound = again.with(upload.take());
        let permit = decide(connection, draft, registration, &granted.asked)?;
        let reached = reach(connection, draft, &granted.asked, permit, Reuse::Never).await?;
        origin = reached.origin;
        granted.grant = reached.grant;
        granted.stand(connection, draft, registration)?;
        sent = send(connection, draft, &granted, outbound, &mut origin).await;
    }
    let Sent { response, limit, bounds, upload, upgrade } = sent?;
    if let Some(worker) = upgrade {
        origin.end();
        let release = Release::stay(upload, origin.way());
        return Ok(Answer::upgraded(response, worker, bounds, release));
    }
    let release = match hop::frames_itself(&granted.asked.method, &response) {
        true => Release::keep(upload, origin, key, connection.shared.pool.clone()),
        false => Release::end(upload, origin),
    };
    Ok(Answer::Response { response, limit, bounds, release })
}

/// Stages 2 to 9 of a request inside a tunnel that carries plain HTTP. Stages 5 to 7 were the
/// tunnel's own; `Permit::over` binds this request to its connection.
async fn in_tunnel(
    connection: &Connection,
    tunnel: &HttpTunnel,
    draft: &mut Draft,
    registration: &Registration,
    fact: &HeadFact,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    connection.admit()?;

    // 3 identify: whoever opened the tunnel, and answers for all that is sent into it.
    draft.worker(&tunnel.worker);
    registration.identify(&tunnel.worker.id);

    // 2 parse: what the tunnel is not for is refused as that, whatever else is wrong with it.
    let head = Head::in_tunnel(fact, &tunnel.authority, draft)?;
    if let Some(denial) = &tunnel.refused {
        return Err(denial.clone().into());
    }
    let (method, target) = head.agreed(request.headers())?;

    // 4 decide
    let outbound = Outbound::new(connection, draft, request);
    let asked = Arc::new(Asked { worker: tunnel.worker.clone(), method, target });
    let permit = decide(connection, draft, registration, &asked)?;
    count(connection, draft, &asked, &permit)?;
    let grant = permit.over(&tunnel.grant, &connection.shared.own.current())?;
    draft.pinned(grant.peer());
    let ends_here = outbound.ends_here(&asked)?;
    draft.allow(grant.verdict(), grant.rule()).await?;
    if ends_here {
        return Ok(Answer::Here);
    }

    let granted = Granted { asked, grant };
    granted.stand(connection, draft, registration)?;

    let mut origin = tunnel.origin.lock().await;
    draft.meter().touch();
    let bounds =
        Bounds::new(granted.grant.limits(), granted.grant.expires(), connection.shared.clock.now());
    tokio::select! {
        ready = origin.ready() => ready.map_err(|_| Refusal::UpstreamReset)?,
        // The origin has answered early and does not take the rest of what it was sent.
        _ = bounds.exceeded(draft.meter()) => return Err(Refusal::UpstreamTimeout),
    }
    origin.may_upgrade(outbound.upgrade.is_some());
    let sent = send(connection, draft, &granted, outbound, &mut origin).await;
    if !sent.as_ref().is_ok_and(|sent| sent.upgrade.is_some()) {
        origin.may_upgrade(false);
    }
    let Sent { response, limit, bounds, upload, upgrade } = sent?;
    let release = Release::stay(upload, origin.way());
    Ok(match upgrade {
        Some(worker) => Answer::upgraded(response, worker, bounds, release),
        None => Answer::Response { response, limit, bounds, release },
    })
}

/// Stage 4. What is permitted is entered in the live index from here on, so that whatever takes it
/// away finds it; it is checked before the origin is dialled, and again before the first byte.
fn decide(
    connection: &Connection,
    draft: &mut Draft,
    registration: &Registration,
    asked: &Arc<Asked>,
) -> Result<Permit, Refusal> {
    let Asked { worker, method, target } = &**asked;
    let policy = connection.shared.in_force.load().policy.clone();
    let ask = Ask { worker, method: Method::parse(method)?, target };
    let began = Instant::now();
    let permit = policy.decide(&ask, connection.shared.clock.now());
    draft.policy(policy.revision(), began);
    let permit = permit?;
    draft.permitted(permit.verdict(), permit.rule());
    let standing = Standing::Request { asked: asked.clone(), peer: None };
    registration.stand(permit.rule(), &[], standing);
    Ok(permit)
}

/// The end of stage 4: counts the request under its rule, whose budget pays for what it moves.
fn count(
    connection: &Connection,
    draft: &Draft,
    asked: &Asked,
    permit: &Permit,
) -> Result<(), Refusal> {
    let shared = &connection.shared;
    let counted = (permit.rule(), permit.limits());
    if let Some(budget) = shared.accounts.request(&asked.worker.id, counted, || shared.moment())? {
        draft.meter().charge(budget);
    }
    Ok(())
}

/// A connection to an origin, and what may be done over it.
struct Reached {
    origin: Origin,
    grant: Grant,
    key: Key,
    kept: bool,
}

/// Whether a connection that waits in the pool may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Kept,
    Never,
}

/// Stages 5 to 7 of a request.
async fn reach(
    connection: &Connection,
    draft: &mut Draft,
    asked: &Arc<Asked>,
    permit: Permit,
    reuse: Reuse,
) -> Result<Reached, Refusal> {
    let shared = &connection.shared;
    let (verdict, rule) = (permit.verdict(), permit.rule().cloned());

    // 5 resolve
    let began = Instant::now();
    let answers = shared.resolver.resolve(permit.host(), &asked.worker.id).await?;
    draft.resolved(&answers.addresses, began);

    // 6 pin
    let pinned = permit.pin(&answers, &shared.own.current())?;
    let standing = Standing::Request { asked: asked.clone(), peer: None };
    connection.still_standing(draft, &asked.worker, &standing)?;

    // 7 connect: by a connection that this worker had made to one of the pinned addresses, or anew
    // while the decision is written. Not a byte follows before both are done.
    let key = Key::new(&asked.worker.id, &asked.target);
    let waiting = (reuse == Reuse::Kept).then(|| shared.pool.take(&key, pinned.addresses()));
    if let Some(origin) = waiting.flatten() {
        shared.metrics.reused.add(1);
        draft.allow(verdict, rule.as_ref()).await?;
        let grant = pinned.reached(origin.peer())?;
        draft.pinned(origin.peer());
        return Ok(Reached { origin, grant, key, kept: true });
    }
    let dialling = timed_dial(pinned, connection);
    let (recorded, connected) = tokio::join!(draft.allow(verdict, rule.as_ref()), dialling);
    recorded?;
    let Connected { socket, grant, took } = connected?;
    draft.connected(grant.peer(), took);
    let origin = Origin::speak(socket, grant.peer(), &shared.tasks).await;
    let origin = origin.map_err(|_| Refusal::UpstreamReset)?;
    Ok(Reached { origin, grant, key, kept: false })
}

/// Stage 7 for whatever was pinned, timed.
async fn timed_dial<G>(
    pinned: Pinned<G>,
    connection: &Connection,
) -> Result<Connected<G>, DialError> {
    let shared = &connection.shared;
    let began = Instant::now();
    let dialled = dial(pinned, shared.limits.connect_timeout, &connection.cut).await;
    if let Err(DialError::Exhausted(_)) = &dialled {
        // What only waits for a next request is the first to go.
        shared.pool.clear();
    }
    let result = dialled.as_ref().map_or_else(Dialled::from, |_| Dialled::Connected);
    shared.metrics.connect.of(result).observe(began.elapsed());
    dialled
}

/// A request that was decided, with the grant for the connection it may leave over.
struct Granted {
    asked: Arc<Asked>,
    grant: Grant,
}

impl Granted {
    /// Enters the right in the live index first and checks it second.
    fn stand(
        &self,
        connection: &Connection,
        draft: &mut Draft,
        registration: &Registration,
    ) -> Result<(), Refusal> {
        let standing = self.standing();
        registration.stand(self.grant.rule(), self.grant.credentials(), standing.clone());
        registration.until(self.grant.expires());
        connection.still_standing(draft, &self.asked.worker, &standing)
    }

    fn standing(&self) -> Standing {
        Standing::Request { asked: self.asked.clone(), peer: Some(self.grant.peer()) }
    }
}

/// An answer's head, and what goes with its body.
struct Sent {
    response: Response<Incoming>,
    limit: u64,
    bounds: Bounds,
    upload: UploadState,
    /// The worker's end, where both sides go on as WebSocket.
    upgrade: Option<OnUpgrade>,
}

/// Why there is no answer.
enum Unsent {
    Refused(Refusal),
    /// The connection ended first, and the origin has not acted upon the request. What there was
    /// of a body is still whole.
    Stale(Option<Upload>),
}

impl From<Refusal> for Unsent {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unsent> for Refusal {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Refused(refusal) => refusal,
            Unsent::Stale(_) => Self::UpstreamReset,
        }
    }
}

/// Stages 8 and 9: makes the request fit to leave, sends it, and waits for the answer's head.
async fn send(
    connection: &Connection,
    draft: &mut Draft,
    granted: &Granted,
    outbound: Outbound,
    origin: &mut Origin,
) -> Result<Sent, Unsent> {
    let shared = &connection.shared;
    let Granted { asked, grant } = granted;
    let Asked { worker, method, target } = &**asked;
    let Outbound { mut parts, body: mut upload, state, upgrade } = outbound;
    let limits = grant.limits();
    if announced(&parts.headers) > Some(limits.max_request_bytes) {
        return Err(Refusal::Upload(UploadError::TooLarge).into());
    }
    upload.bound(limits.max_request_bytes, origin.cut());
    let interim = Interim::default();
    let bodiless = upload.is_end_stream();
    if bodiless {
        parts.headers.remove(EXPECT);
    } else if parts.headers.contains_key(EXPECT) {
        upload.hold_until(interim.asked.clone());
    }
    parts.version = Version::HTTP_11;
    parts.uri = Uri::try_from(target.path_and_query()).map_err(|_| Refusal::Internal)?;
    parts.extensions.clear();

    // 8 inject
    let request = Request::from_parts(parts, upload);
    let ready =
        inject(request, target.scheme(), target.authority(), grant, &worker.id, &*shared.bridge)
            .await
            .map_err(Refusal::from)?;

    // 9 relay, if the right has not ended while the request was made ready.
    let now = shared.clock.now();
    if grant.expires().is_some_and(|at| at <= now) {
        connection.still_standing(draft, worker, &granted.standing())?;
    }
    let bounds = Bounds::new(limits, grant.expires(), now);
    draft.meter().touch();
    let mut request = ready.into_request();
    if upgrade.is_some() {
        hop::go_on_as_websocket(request.headers_mut());
    }
    let flood = interim.listen(&mut request);
    let meter = draft.meter().clone();
    let answered = tokio::select! {
        answered = origin.ask(request) => answered,
        () = flood.cancelled() => return Err(Refusal::UpstreamProtocol.into()),
        by = bounds.exceeded(&meter) => {
            // The answer has not begun, so there is a status left to say it with. Where the rule
            // has expired meanwhile, what is left of the policy says why.
            if by == ClosedBy::Policy {
                connection.still_standing(draft, worker, &granted.standing())?;
            }
            return Err(Refusal::UpstreamTimeout.into());
        }
    };
    let response = match answered {
        Ok(response) => response,
        Err(mut failed) => {
            let spent = failed.take_message().map(Request::into_body);
            return Err(match (state.fault(), connection.facts.body_fault()) {
                (Some(UploadError::Malformed), Some(fault)) => Refusal::Head(fault).into(),
                (Some(fault), _) => Refusal::Upload(fault).into(),
                (None, _) if failed.error().is_parse() => Refusal::UpstreamProtocol.into(),
                (None, _) if spent.is_some() || bodiless && is_safe(method) => Unsent::Stale(spent),
                (None, _) => Refusal::UpstreamReset.into(),
            });
        }
    };
    let goes_on = upgrade.is_some() && response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !(goes_on && hop::names_websocket(response.headers())) {
        judge(&response, method, limits.max_response_bytes)?;
    }
    let upgrade = upgrade.filter(|_| goes_on);
    Ok(Sent { response, limit: limits.max_response_bytes, bounds, upload: state, upgrade })
}

/// Methods that ask for nothing but an answer (RFC 9110, section 9.2.1).
fn is_safe(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].contains(&method)
}
