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

use std::{future::Future, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use egret_policy::{
    Ask, Authority, Grant, Method, Passage, Scheme, Sni, Target, TlsClaim, TunnelAsk, TunnelGrant,
    Worker,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version, header::CONTENT_LENGTH};
use http_body_util::{Either, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    accept::{self, Connection},
    dial::{Connected, dial},
    gate::HeadFact,
    hello::{ClaimedName, FirstBytes},
    hop,
    inject::inject,
    live::{Registration, Selected, Standing},
    parse::Head,
    record::{ClosedBy, Draft},
    refusal::{Challenge, Refusal},
    relay::{Bounds, Download, EndWithExchange, Upload, UploadError},
    socket::Socket,
    tunnel::{self, WorkerEnd},
};

/// The body of whatever the worker is answered with.
pub(crate) type Outgoing = Either<Full<Bytes>, Download>;

/// How stages 2 to 9 end when nothing refuses.
enum Answer {
    /// The origin answered; its body is still to be relayed.
    Response { response: Response<Incoming>, limit: u64, bounds: Bounds, end: EndWithExchange },
    /// CONNECT succeeded; the tunnel begins when the 200 has gone out.
    Tunnel { upgrade: OnUpgrade, tunnel: Box<OpenTunnel> },
}

/// A tunnel whose first bytes have not been seen.
struct OpenTunnel {
    worker: Arc<Worker>,
    authority: Authority,
    connected: Connected<TunnelGrant>,
}

/// A tunnel that carries plain HTTP: every request in it is an exchange of its own, over the one
/// connection that the CONNECT was pinned to.
pub(crate) struct HttpTunnel {
    worker: Arc<Worker>,
    authority: Authority,
    grant: TunnelGrant,
    origin: Mutex<SendRequest<Upload>>,
    way: Way,
}

/// The connection to an origin that speaks HTTP.
struct Way {
    /// Cancelled when the origin's side has ended.
    ended: CancellationToken,
    /// Ends our side.
    abort: CancellationToken,
}

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
        &shared.clock,
        &connection.cut,
        &connection.listener.name,
        connection.client,
    );
    let mut draft = match opened.await {
        Ok(draft) => draft,
        Err(error) => {
            // Nothing can be written, so there is no id that would find anything.
            connection.facts.refused();
            let refusal = Refusal::Audit(error);
            refusal.log(UNRECORDED);
            return refusal.response(UNRECORDED, Challenge::None).map(Either::Left);
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
        Ok(Answer::Response { mut response, limit, bounds, end }) => {
            hop::towards_worker(response.headers_mut());
            // The origin's reason phrase is not relayed: egret's own codes stand there.
            response.extensions_mut().clear();
            draft.status(response.status().as_u16());
            response.map(|body| {
                // Until the body has ended, the exchange is live and its connection not idle.
                let watched = watch(&connection, &draft, bounds);
                let hold = Box::new((registration, fact, end, watched));
                Either::Right(Download::new(body, draft, limit, hold))
            })
        }
        Ok(Answer::Tunnel { upgrade, tunnel }) => {
            draft.status(StatusCode::OK.as_u16());
            connection.facts.opened();
            let passing = pass(connection.clone(), draft, registration, upgrade, tunnel);
            shared.tasks.spawn(accept::until_cut(connection.cut.clone(), passing));
            Response::new(Either::Left(Full::default()))
        }
        Err(refusal) => refuse(&connection, draft, refusal).await,
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
            by = bounds.exceeded(meter) => cut.now(by),
        }
    };
    connection.shared.tasks.spawn(accept::until_cut(connection.cut.clone(), watching));
    guard
}

/// Records a refusal (stage 10) and answers with it.
async fn refuse(connection: &Connection, mut draft: Draft, refusal: Refusal) -> Response<Outgoing> {
    connection.facts.refused();
    refusal.log(draft.id());
    draft.deny(refusal.code(), refusal.rule()).await;
    let response = refusal.response(draft.id(), connection.listener.identification.challenge());
    draft.status(response.status().as_u16());
    draft.complete(refusal.closed_by());
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
    let head = Head::for_proxy(fact, request.headers())?;
    match &head {
        Head::Tunnel(authority) => draft.tunnel(authority),
        Head::Request { method, target } => draft.request(method, target),
    }

    // 3 identify: entered under the name first, checked second.
    let identification = &connection.listener.identification;
    let worker = identification.identify(request.headers(), &*shared.workers)?;
    draft.worker(&worker);
    registration.identify(&worker.id);
    connection.seat(&worker.id)?;

    match head {
        Head::Request { method, target } => {
            forward(connection, draft, registration, worker, method, target, request).await
        }
        Head::Tunnel(authority) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let tunnel = connect(connection, draft, registration, worker, authority).await?;
            Ok(Answer::Tunnel { upgrade, tunnel: Box::new(tunnel) })
        }
    }
}

/// Stages 4 to 9 of a request in absolute form.
async fn forward(
    connection: &Connection,
    draft: &mut Draft,
    registration: &Registration,
    worker: Arc<Worker>,
    method: Box<str>,
    target: Target,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let shared = &connection.shared;

    // 4 decide
    let policy = shared.policy.load_full();
    let ask = Ask { worker: &worker, method: Method::parse(&method)?, target: &target };
    let began = Instant::now();
    let permit = policy.decide(&ask, shared.clock.now());
    draft.policy(policy.revision(), began);
    let permit = permit?;
    let (verdict, rule) = (permit.verdict(), permit.rule().cloned());

    // 5 resolve
    let began = Instant::now();
    let answers = shared.resolver.resolve(permit.host()).await?;
    draft.resolved(&answers.addresses, began);

    // 6 pin
    let pinned = permit.pin(&answers, &shared.own.current())?;

    // 7 connect, while the decision is written: not a byte follows before both are done.
    let dialling = dial(pinned, shared.limits.connect_timeout, &connection.cut);
    let (recorded, connected) = tokio::join!(draft.allow(verdict, rule.as_ref()), dialling);
    recorded?;
    let Connected { socket, grant, took } = connected?;
    draft.connected(grant.peer(), took);

    let granted = Granted { worker, method, target, grant };
    granted.stand(connection, registration)?;

    let (mut origin, way) = speak_http(connection, socket).await?;
    send(connection, draft, &granted, request, &mut origin, &way).await
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
    let shared = &connection.shared;
    connection.admit()?;

    // 2 parse
    let (method, target) = Head::in_tunnel(fact, request.headers(), &tunnel.authority)?;
    draft.request(&method, &target);

    // 3 identify: whoever opened the tunnel.
    let worker = &tunnel.worker;
    draft.worker(worker);
    registration.identify(&worker.id);

    // 4 decide
    let policy = shared.policy.load_full();
    let ask = Ask { worker, method: Method::parse(&method)?, target: &target };
    let began = Instant::now();
    let permit = policy.decide(&ask, shared.clock.now());
    draft.policy(policy.revision(), began);
    let grant = permit?.over(&tunnel.grant, &shared.own.current())?;
    draft.pinned(grant.peer());
    draft.allow(grant.verdict(), grant.rule()).await?;

    let granted = Granted { worker: worker.clone(), method, target, grant };
    granted.stand(connection, registration)?;

    let mut origin = tunnel.origin.lock().await;
    origin.ready().await.map_err(|_| Refusal::UpstreamReset)?;
    send(connection, draft, &granted, request, &mut origin, &tunnel.way).await
}

/// A request that was decided, with the grant for the connection it may leave over.
struct Granted {
    worker: Arc<Worker>,
    method: Box<str>,
    target: Target,
    grant: Grant,
}

impl Granted {
    /// Enters the right in the live index first and checks it second.
    fn stand(&self, connection: &Connection, registration: &Registration) -> Result<(), Refusal> {
        let standing = self.standing();
        registration.stand(self.grant.rule(), self.grant.credentials(), standing.clone());
        connection.still_standing(&self.worker.id, &standing)
    }

    fn standing(&self) -> Standing {
        Standing::Request {
            worker: self.worker.clone(),
            method: self.method.clone(),
            target: self.target.clone(),
            peer: self.grant.peer(),
        }
    }
}

/// Stages 8 and 9: makes the request fit to leave, sends it, and waits for the answer's head.
async fn send(
    connection: &Connection,
    draft: &Draft,
    granted: &Granted,
    request: Request<Incoming>,
    origin: &mut SendRequest<Upload>,
    way: &Way,
) -> Result<Answer, Refusal> {
    let shared = &connection.shared;
    let Granted { worker, target, grant, .. } = granted;
    let limits = grant.limits();
    let (mut parts, body) = request.into_parts();
    if announced(&parts.headers) > Some(limits.max_request_bytes) {
        return Err(Refusal::Upload(UploadError::TooLarge));
    }
    parts.version = Version::HTTP_11;
    parts.uri = Uri::try_from(target.path_and_query()).map_err(|_| Refusal::Internal)?;
    parts.extensions.clear();
    let (upload, state) = Upload::new(
        body,
        draft.meter().clone(),
        limits.max_request_bytes,
        shared.limits.body_idle_timeout,
    );

    // 8 inject
    let request = Request::from_parts(parts, upload);
    let ready =
        inject(request, target.scheme(), target.authority(), grant, &worker.id, &*shared.bridge)
            .await?;

    // 9 relay, if the right has not ended while the request was made ready.
    let end = EndWithExchange { upload: state.clone(), origin: way.abort.clone() };
    let now = shared.clock.now();
    if grant.expires().is_some_and(|at| at <= now) {
        connection.still_standing(&worker.id, &granted.standing())?;
    }
    let bounds = Bounds::new(limits, grant.expires(), now);
    draft.meter().touch();
    let answered = tokio::select! {
        answered = origin.send_request(ready.into_request()) => answered,
        by = bounds.exceeded(draft.meter().clone()) => {
            // The answer has not begun, so there is a status left to say it with. Where the rule
            // has expired meanwhile, what is left of the policy says why.
            let expired = by == ClosedBy::Policy;
            let denied = expired.then(|| connection.still_standing(&worker.id, &granted.standing()).err());
            return Err(denied.flatten().unwrap_or(Refusal::UpstreamTimeout));
        }
    };
    let response =
        answered.map_err(|error| match (state.fault(), connection.facts.body_fault()) {
            (Some(UploadError::Malformed), Some(fault)) => Refusal::Head(fault),
            (Some(fault), _) => Refusal::Upload(fault),
            (None, _) if error.is_parse() => Refusal::UpstreamProtocol,
            (None, _) => Refusal::UpstreamReset,
        })?;
    judge(&response, &granted.method, limits.max_response_bytes)?;
    Ok(Answer::Response { response, limit: limits.max_response_bytes, bounds, end })
}

/// Refuses answers that must not be passed on.
fn judge(response: &Response<Incoming>, method: &str, limit: u64) -> Result<(), Refusal> {
    let status = response.status();
    // 101: nothing that leaves asks for another protocol. 407: a worker would answer it with the
    // credentials it has for this proxy (RFC 9110, section 11.7).
    if status.is_informational()
        || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || hop::is_ambiguous(response.headers())
    {
        return Err(Refusal::UpstreamProtocol);
    }
    // These say how long a body would be that they do not have (RFC 9110, section 8.6).
    let bodiless = method == "HEAD" || status == StatusCode::NOT_MODIFIED;
    if !bodiless && announced(response.headers()) > Some(limit) {
        return Err(Refusal::ResponseTooLarge);
    }
    Ok(())
}

/// The length that a message says it has.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Stages 4 to 7 of a CONNECT.
async fn connect(
    connection: &Connection,
    draft: &mut Draft,
    registration: &Registration,
    worker: Arc<Worker>,
    authority: Authority,
) -> Result<OpenTunnel, Refusal> {
    let shared = &connection.shared;

    // 4 decide: host and port; the first bytes will select the rule.
    let policy = shared.policy.load_full();
    let ask = TunnelAsk { worker: &worker, authority: &authority };
    let began = Instant::now();
    let permit = policy.decide_tunnel(&ask, shared.clock.now());
    draft.policy(policy.revision(), began);
    let permit = permit?;

    // 5 resolve
    let began = Instant::now();
    let answers = shared.resolver.resolve(permit.host()).await?;
    draft.resolved(&answers.addresses, began);

    // 6 pin
    let pinned = permit.pin(&answers, &shared.own.current())?;

    // 7 connect
    let connected = dial(pinned, shared.limits.connect_timeout, &connection.cut).await?;
    draft.connected(connected.grant.peer(), connected.took);

    let standing = standing_of(&worker, &authority, &connected.grant, None);
    registration.stand(None, &[], standing.clone());
    connection.still_standing(&worker.id, &standing)?;
    Ok(OpenTunnel { worker, authority, connected })
}

/// What a tunnel may do now, so that a new policy can decide it again.
fn standing_of(
    worker: &Arc<Worker>,
    authority: &Authority,
    grant: &TunnelGrant,
    selected: Option<Selected>,
) -> Standing {
    Standing::Tunnel {
        worker: worker.clone(),
        authority: authority.clone(),
        peer: grant.peer(),
        selected,
    }
}

/// Stages 8 to 10 of a tunnel: the first bytes say what it carries, and only then do any go up.
async fn pass(
    connection: Arc<Connection>,
    mut draft: Draft,
    registration: Registration,
    upgrade: OnUpgrade,
    tunnel: Box<OpenTunnel>,
) {
    let shared = connection.shared.clone();
    let OpenTunnel { worker, authority, connected } = *tunnel;
    let Connected { socket: origin, grant, .. } = connected;
    let patience = shared.limits.first_byte_timeout;
    let Ok(Ok(mut end)) = timeout(patience, tunnel::take_over(upgrade)).await else {
        return leave(draft, &grant).await;
    };

    let first = if grant.opaque() {
        Ok(Ok(FirstBytes::Other))
    } else {
        timeout(patience, tunnel::first_bytes(&mut end)).await
    };
    let now = shared.clock.now();
    let (passage, selected) = match first {
        Err(_) => return close(draft, Refusal::FirstBytesTimeout).await,
        Ok(Err(_) | Ok(FirstBytes::NeedMore)) => return leave(draft, &grant).await,
        Ok(Ok(FirstBytes::Http)) => {
            draft.selected(Scheme::Http.as_str(), None);
            // Cleartext can be answered in cleartext: where http is denied, each request inside is
            // told so, and the tunnel's own record says it as well.
            match grant.select_http() {
                Ok(verdict) => {
                    if let Err(error) = draft.allow(verdict, None).await {
                        return close(draft, Refusal::Audit(error)).await;
                    }
                }
                Err(denial) => draft.deny(denial.reason.code(), denial.rule.as_ref()).await,
            }
            let tunnel = PlainTunnel { worker, authority, grant, origin, end };
            return pass_http(connection, draft, registration, tunnel).await;
        }
        Ok(Ok(FirstBytes::Tls(hello))) => {
            let sni = match &hello.sni {
                ClaimedName::Absent => Sni::Absent,
                ClaimedName::Name(name) => Sni::Name(name),
                ClaimedName::Malformed => Sni::Malformed,
            };
            let passage = grant.select_tls(TlsClaim { sni, ech: hello.ech }, now);
            let named = matches!(hello.sni, ClaimedName::Name(_));
            // Only a name that was found equal is known to be clean enough for a record.
            let name = (named && passage.is_ok()).then(|| authority.host().to_string());
            draft.selected(Scheme::Https.as_str(), name.as_deref());
            (passage, Selected::Tls { named, ech: hello.ech })
        }
        Ok(Ok(FirstBytes::Other)) => {
            draft.selected(Scheme::Tcp.as_str(), None);
            (grant.select_opaque(), Selected::Opaque)
        }
    };
    let passage: Passage = match passage {
        Ok(passage) => passage,
        Err(denial) => return close(draft, denial.into()).await,
    };
    if passage.intercept() {
        // Whoever starts a proxy refuses such a policy; relayed blindly it would be half kept.
        return close(draft, Refusal::Internal).await;
    }
    if let Err(error) = draft.allow(passage.verdict(), passage.rule()).await {
        return close(draft, Refusal::Audit(error)).await;
    }
    let standing = standing_of(&worker, &authority, &grant, Some(selected));
    registration.stand(passage.rule(), &[], standing.clone());
    if let Err(refusal) = connection.still_standing(&worker.id, &standing) {
        return close(draft, refusal).await;
    }
    let bounds = Bounds::new(passage.limits(), passage.expires(), shared.clock.now());
    draft.meter().touch();
    let WorkerEnd { socket, early } = end;
    match tunnel::pump(&socket, &origin, &early.freeze(), draft.meter(), bounds).await {
        Ok(by) => draft.complete(by),
        Err(by) => draft.cut(by),
    }
}

/// A tunnel whose first bytes were plain HTTP.
struct PlainTunnel {
    worker: Arc<Worker>,
    authority: Authority,
    grant: TunnelGrant,
    origin: Socket,
    end: WorkerEnd,
}

/// Serves the requests inside a tunnel. Boxed, because each of them is an `exchange` again.
fn pass_http(
    connection: Arc<Connection>,
    draft: Draft,
    registration: Registration,
    tunnel: PlainTunnel,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let PlainTunnel { worker, authority, grant, origin, end } = tunnel;
        let standing = standing_of(&worker, &authority, &grant, Some(Selected::Http));
        registration.stand(None, &[], standing);
        let Ok((origin, way)) = speak_http(&connection, origin).await else {
            return draft.complete(ClosedBy::Upstream);
        };
        let ended = way.ended.clone();
        let tunnel = HttpTunnel { worker, authority, grant, origin: Mutex::new(origin), way };
        accept::serve_tunnel(&connection, tunnel, end, ended.clone()).await;
        let by_origin = ended.is_cancelled();
        draft.complete(if by_origin { ClosedBy::Upstream } else { ClosedBy::Client });
    })
}

/// Begins HTTP/1.1 towards the origin.
async fn speak_http(
    connection: &Connection,
    socket: Socket,
) -> Result<(SendRequest<Upload>, Way), Refusal> {
    let handshake = http1::Builder::new().handshake(TokioIo::new(socket)).await;
    let (sender, driver) = handshake.map_err(|_| Refusal::UpstreamReset)?;
    let way = Way { ended: CancellationToken::new(), abort: CancellationToken::new() };
    let (tell, abort) = (way.ended.clone().drop_guard(), way.abort.clone());
    let drive = async move {
        let _tell = tell;
        tokio::select! {
            () = abort.cancelled() => {}
            ended = driver => if let Err(error) = ended {
                tracing::debug!(%error, "an origin's connection ended");
            },
        }
    };
    connection.shared.tasks.spawn(accept::until_cut(connection.cut.clone(), drive));
    Ok((sender, way))
}

/// Ends a tunnel whose worker left before it said anything: it was granted, and nothing moved.
async fn leave(mut draft: Draft, grant: &TunnelGrant) {
    if let Err(error) = draft.allow(grant.verdict(), None).await {
        return close(draft, Refusal::Audit(error)).await;
    }
    draft.complete(ClosedBy::Client);
}

/// Ends a tunnel that is refused after its 200: there is no status left to say it with.
async fn close(mut draft: Draft, refusal: Refusal) {
    refusal.log(draft.id());
    draft.deny(refusal.code(), refusal.rule()).await;
    draft.complete(refusal.closed_by());
}

/// Stands for the id of an exchange that could not be recorded.
const UNRECORDED: &str = "unrecorded";
