//! The listener of `[metrics]`: three paths, read only, without authentication.
//!
//! It answers until the process ends, so that a drain can be watched to its end. Connections, the
//! size of a head and the time for all of it are bounded; one connection is one question, and where
//! too many are open the oldest one goes: who asks and listens is answered in a moment, who holds
//! connections open keeps nobody out. Whoever reaches the address may read it, so the answers hold
//! nothing of any exchange.

use std::{
    collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{Observed, Status, text::Format};

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Endpoint {
    socket: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Returns where it listens, with the port that the system chose.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for as long as it is polled.
    pub(crate) async fn serve(self, observed: Arc<Observed>) {
        let mut answering = JoinSet::new();
        // Those that may be open, the oldest one first.
        let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
        loop {
            while answering.try_join_next().is_some() {}
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    open.retain(|connection| !connection.is_finished());
                    if open.len() == CONNECTIONS
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    // Too slow: the socket is dropped.
                    let answer = timeout(WITHIN, answer(stream, observed.clone()));
                    open.push_back(answering.spawn(async move { drop(answer.await) }));
                }
                Err(error) => {
                    tracing::debug!(%error, "the metrics cannot be asked for at the moment");
                    sleep(REST).await;
                }
            }
        }
    }
}

async fn answer(stream: TcpStream, observed: Arc<Observed>) {
    let service = service_fn(move |request| {
        let response = respond(&request, &observed);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .max_headers(FIELDS)
        .max_buf_size(HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a question about the metrics was not understood or not waited for");
    }
}

fn respond(request: &Request<Incoming>, observed: &Observed) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if ![METRICS, HEALTH, READY].contains(&path) {
        return json(StatusCode::NOT_FOUND, r#"{"paths":["/metrics","/healthz","/readyz"]}"#);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = json(StatusCode::METHOD_NOT_ALLOWED, "{}");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        METRICS => {
            let format = Format::accepted(&accepted(request.headers()));
            fresh(StatusCode::OK, format.content_type(), observed.figures(format))
        }
        HEALTH => json(StatusCode::OK, r#"{"status":"alive"}"#),
        _ => {
            let standing = observed.standing();
            let status = match standing.status {
                Status::Serving => StatusCode::OK,
                Status::Starting | Status::Draining | Status::Records => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            };
            json(status, serde_json::to_vec(&standing).expect("it holds only texts"))
        }
    }
}

/// All that a client accepts, in one text.
fn accepted(headers: &HeaderMap) -> String {
    let values: Vec<_> =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    fresh(status, "application/json", body)
}

/// An answer that holds for now alone.
fn fresh(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const METRICS: &str = "/metrics";
const HEALTH: &str = "/healthz";
const READY: &str = "/readyz";

/// Some servers that scrape and some probes.
const CONNECTIONS: usize = 32;
/// For a head: who asks has it ready.
const HEAD_WITHIN: Duration = Duration::from_secs(2);
/// For a whole connection, from the first byte of the head to the last of the answer.
const WITHIN: Duration = Duration::from_secs(10);
/// How long the loop rests when the machine has nothing to give.
const REST: Duration = Duration::from_millis(50);
const FIELDS: usize = 64;
const HEAD: usize = 16 << 10;
