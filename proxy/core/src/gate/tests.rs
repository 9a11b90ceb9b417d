//! A real hyper server behind the gate, and a client that writes raw bytes to it.

mod bodies;
mod cases;
mod endings;
mod heads;
mod properties;
mod times;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    task::JoinHandle,
};

use properties::drained;

use super::{Fault, FaultKind, Gate, HeadFact, PassedHead, fault::Part, fuzzed::LIMITS, gate};

const GET: &[u8] = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// What the service saw of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    fact: HeadFact,
    /// What hyper made of the same head.
    method: String,
    target: String,
    body: Result<Bytes, Option<Fault>>,
    trailers: bool,
}

#[derive(Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    /// What came through opened tunnels and upgrades.
    raw: Vec<u8>,
}

/// How the service of a test treats CONNECT and upgrades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Opens,
    Refuses,
    /// Answers otherwise and never says so.
    Forgets,
}

#[derive(Clone)]
struct Origin {
    log: Arc<Mutex<Log>>,
    manner: Manner,
    delay: Duration,
}

impl Origin {
    fn new(manner: Manner) -> Self {
        Self { log: Arc::default(), manner, delay: Duration::ZERO }
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().seen.clone()
    }

    fn serve<S>(&self, io: S) -> JoinHandle<hyper::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, facts) = gate(io, LIMITS);
        let origin = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (origin, facts) = (origin.clone(), facts.clone());
            async move {
                let fact = facts.next();
                let opens = origin.manner == Manner::Opens
                    && matches!(fact, HeadFact::Passed(_))
                    && (request.method() == "CONNECT" || request.headers().contains_key("upgrade"));
                if opens {
                    facts.opened();
                    return Ok::<_, Infallible>(origin.open::<S>(fact, request));
                }
                if origin.manner != Manner::Forgets {
                    facts.refused();
                }
                let (parts, body) = request.into_parts();
                tokio::time::sleep(origin.delay).await;
                let (body, trailers) = match body.collect().await {
                    Ok(body) => {
                        let trailers = body.trailers().is_some();
                        (Ok(body.to_bytes()), trailers)
                    }
                    Err(_) => (Err(facts.body_fault()), false),
                };
                let status = match (&fact, &body) {
                    (HeadFact::Refused(fault), _) | (_, Err(Some(fault))) => status(*fault),
                    (HeadFact::Passed(_), Err(None)) => StatusCode::INTERNAL_SERVER_ERROR,
                    (HeadFact::Passed(_), Ok(_)) if parts.method == "CONNECT" => {
                        StatusCode::FORBIDDEN
                    }
                    (HeadFact::Passed(_), Ok(_)) => StatusCode::OK,
                };
                origin.log.lock().unwrap().seen.push(Seen {
                    fact,
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    body,
                    trailers,
                });
                Ok(answer(status))
            }
        });
        tokio::spawn(
            http1::Builder::new()
                .half_close(true)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades(),
        )
    }

    fn open<S>(&self, fact: HeadFact, mut request: Request<Incoming>) -> Response<Full<Bytes>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connect = request.method() == "CONNECT";
        let upgrade = hyper::upgrade::on(&mut request);
        let log = self.log.clone();
        log.lock().unwrap().seen.push(Seen {
            fact,
            method: request.method().to_string(),
            target: request.uri().to_string(),
            body: Ok(Bytes::new()),
            trailers: false,
        });
        tokio::spawn(async move {
            let upgraded = upgrade.await.unwrap();
            let parts = upgraded.downcast::<TokioIo<Gate<S>>>().ok().unwrap();
            let (mut io, held) = parts.io.into_inner().into_parts();
            let mut raw = [&parts.read_buf[..], &held[..]].concat();
            io.read_to_end(&mut raw).await.unwrap();
            io.write_all(b"tunnel ends").await.unwrap();
            log.lock().unwrap().raw = raw;
        });
        answer(if connect { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS })
    }
}

fn status(fault: Fault) -> StatusCode {
    match fault.kind() {
        FaultKind::Malformed | FaultKind::TargetMalformed => StatusCode::BAD_REQUEST,
        FaultKind::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        FaultKind::Timeout => StatusCode::REQUEST_TIMEOUT,
    }
}

/// Every answer of the service is marked, so that one of hyper's own shows.
fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let body = if status == StatusCode::SWITCHING_PROTOCOLS { "" } else { "said" };
    Response::builder()
        .status(status)
        .header("x-by", "service")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

/// Writes the pieces one after the other, closes that side, and returns all that comes back.
async fn exchange(origin: &Origin, pieces: impl IntoIterator<Item = &[u8]>) -> Vec<u8> {
    let (mut client, server) = duplex(256 << 10);
    let served = origin.serve(server);
    let mut reply = Vec::new();
    for piece in pieces {
        // The gate may have closed after a refusal; what is sent then is lost, as it should be.
        let _ = client.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _ = client.shutdown().await;
    let all = async {
        client.read_to_end(&mut reply).await.unwrap();
        let _ = served.await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("the connection hangs");
    reply
}

async fn run(manner: Manner, pieces: &[&[u8]]) -> (Origin, Vec<u8>) {
    let origin = Origin::new(manner);
    let reply = exchange(&origin, pieces.iter().copied()).await;
    (origin, reply)
}

/// The statuses of a reply, interim ones left out, after a check that hyper made none of them.
fn statuses(reply: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(reply);
    let heads: Vec<_> = text.split("HTTP/1.").skip(1).collect();
    let ours = heads.iter().filter(|head| head[2..].trim() != "100 Continue");
    ours.map(|head| {
        assert!(head.contains("x-by: service"), "hyper answered by itself: {text}");
        head[2..5].parse().unwrap()
    })
    .collect()
}
