//! One name server, and how it is spoken to.
//!
//! An encrypted server has one connection, which all questions share and which the first of them
//! opens. Its certificate is verified before a question leaves; if that fails the question stays
//! here, since there is no other way to this server. A connection that fails is forgotten, and so
//! is one over which nothing came while a question ran out of time, so that a server that hangs up
//! or falls silent costs the questions of that moment and no later ones.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        h2::HttpsClientStream,
        runtime::{RuntimeProvider, Spawn, TokioRuntimeProvider},
        tls::tls_client_connect,
        xfer::{DnsExchange, DnsHandle, DnsMultiplexer, FirstAnswer},
    },
    proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode},
};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::flights;
use crate::{
    plain::Plain,
    settings::{NameServer, Transport},
};

/// What fits an unfragmented datagram on any common path (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1232;
/// How long the servers after it are asked before one that did not answer.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// Questions under way over one connection: A and AAAA of every look-up.
const MOST_QUESTIONS: usize = 2 * flights::MOST;

/// A server that is asked.
pub(super) struct Server {
    server: NameServer,
    link: Link,
    /// Replies that came from it, whatever they said.
    replies: AtomicU64,
    began: Instant,
    /// In milliseconds since it began.
    passed_over_until: AtomicU64,
    /// Whether the operator has been told that it does not work.
    failing: AtomicBool,
}

/// Why a server has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ServerFault {
    #[error("it did not answer in time")]
    Timeout,
    #[error("it answered with {0}")]
    Code(ResponseCode),
    #[error("its certificate is not valid: {0}")]
    Certificate(CertificateError),
    #[error("{0}")]
    Broken(String),
}

enum Link {
    /// The library keeps sockets for it; a set that timed out is replaced.
    Cleartext {
        sockets: ArcSwap<Sockets>,
        client: Arc<ClientConfig>,
        timeout: Duration,
    },
    Encrypted(Encrypted),
}

type Sockets = NameServerPool<TokioRuntimeProvider>;

struct Encrypted {
    address: SocketAddr,
    protocol: Protocol,
    client: Arc<ClientConfig>,
    timeout: Duration,
    /// Held while connecting: a crowd opens one connection, not one each.
    open: Mutex<Option<Connection>>,
    opened: AtomicU64,
    provider: TokioRuntimeProvider,
}

enum Protocol {
    Tls { verified: ServerName<'static> },
    Https { verified: ServerName<'static>, path: Arc<str> },
}

#[derive(Clone)]
struct Connection {
    exchange: DnsExchange<TokioRuntimeProvider>,
    number: u64,
    /// Replies that came over it.
    heard: Arc<AtomicU64>,
}

impl Server {
    pub(super) fn new(server: NameServer, client: &Arc<ClientConfig>, timeout: Duration) -> Self {
        let link = match server.transport.clone() {
            Transport::Cleartext => {
                let own = sockets(server.address, client, timeout);
                Link::Cleartext {
                    sockets: ArcSwap::from_pointee(own),
                    client: client.clone(),
                    timeout,
                }
            }
            Transport::Tls { verified } => {
                let protocol = Protocol::Tls { verified };
                Link::Encrypted(Encrypted::new(server.address, protocol, client, timeout))
            }
            Transport::Https { verified, path } => {
                let protocol = Protocol::Https { verified, path: path.into() };
                Link::Encrypted(Encrypted::new(server.address, protocol, client, timeout))
            }
        };
        Self {
            server,
            link,
            replies: AtomicU64::new(0),
            began: Instant::now(),
            passed_over_until: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }
    }

    pub(super) fn config(&self) -> &NameServer {
        &self.server
    }

    /// Asks it; a reply with an error code is an error, as the library makes it.
    pub(super) async fn ask(
        &self,
        question: Query,
        until: Instant,
    ) -> Result<DnsResponse, NetError> {
        let replies = self.replies.load(Ordering::Relaxed);
        let reply = self.link.ask(self.server.address, question, until).await;
        if let Ok(_) | Err(NetError::Dns(_)) = reply {
            self.replies.fetch_add(1, Ordering::Relaxed);
            self.passed_over_until.store(0, Ordering::Relaxed);
        } else if let Err(NetError::Timeout | NetError::Io(_)) = reply
            // Where others had replies it is the name: whoever owns one must not choose the server.
            && self.replies.load(Ordering::Relaxed) == replies
        {
            let until = self.began.elapsed() + PASSED_OVER;
            let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
            self.passed_over_until.store(until, Ordering::Relaxed);
        }
        reply
    }

    /// Whether it did not answer lately, so that the others are to be asked first.
    pub(super) fn is_passed_over(&self) -> bool {
        let until = Duration::from_millis(self.passed_over_until.load(Ordering::Relaxed));
        self.began.elapsed() < until
    }

    /// Tells the operator once that it cannot be asked, and once that it can be again.
    pub(super) fn tell(&self, fault: Option<&ServerFault>) {
        let broken = match fault {
            // Often it is the name, not the server, that is slow or without an answer.
            Some(ServerFault::Timeout | ServerFault::Code(_)) => return,
            Some(ServerFault::Certificate(_) | ServerFault::Broken(_)) => true,
            None => false,
        };
        // Looked at first: the flag is shared by all, and hardly ever changes.
        if self.failing.load(Ordering::Relaxed) == broken
            || self.failing.swap(broken, Ordering::Relaxed) == broken
        {
            return;
        }
        let server = self.server.address;
        match fault {
            Some(fault) => {
                let fault = Plain(fault);
                tracing::warn!(%server, %fault, "a name server cannot be asked");
            }
            None => tracing::info!(%server, "the name server answers again"),
        }
    }
}

impl Link {
    async fn ask(
        &self,
        address: SocketAddr,
        question: Query,
        until: Instant,
    ) -> Result<DnsResponse, NetError> {
        match self {
            Self::Cleartext { sockets: shared, client, timeout } => {
                let used = shared.load_full();
                let asked = used.lookup(question, request()).first_answer();
                let Ok(reply) = timeout_at(until, asked).await else {
                    // A TCP connection among them may be dead; that of a datagram costs nothing.
                    let others = sockets(address, client, *timeout);
                    shared.compare_and_swap(&used, Arc::new(others));
                    return Err(NetError::Timeout);
                };
                reply
            }
            Self::Encrypted(encrypted) => encrypted.ask(question, until).await,
        }
    }
}

impl Encrypted {
    fn new(
        address: SocketAddr,
        protocol: Protocol,
        client: &Arc<ClientConfig>,
        timeout: Duration,
    ) -> Self {
        let (open, opened) = (Mutex::new(None), AtomicU64::new(0));
        let provider = TokioRuntimeProvider::default();
        Self { address, protocol, client: client.clone(), timeout, open, opened, provider }
    }

    async fn ask(&self, question: Query, until: Instant) -> Result<DnsResponse, NetError> {
        let mut failed = false;
        loop {
            let connecting = timeout_at(until, self.connection()).await;
            let connection = connecting.unwrap_or(Err(NetError::Timeout))?;
            let heard = connection.heard.load(Ordering::Relaxed);
            let asked = connection.exchange.lookup(question.clone(), request()).first_answer();
            match timeout_at(until, asked).await {
                Ok(Ok(response)) => {
                    connection.heard.fetch_add(1, Ordering::Relaxed);
                    return Ok(DnsError::from_response(response)?);
                }
                // It may have ended while nobody asked: once more, on a connection of its own.
                Ok(Err(error)) => {
                    self.forget(&connection).await;
                    if failed {
                        return Err(error);
                    }
                    failed = true;
                }
                Err(_) => {
                    // Where others were answered meanwhile the name is slow, not the connection.
                    if connection.heard.load(Ordering::Relaxed) == heard {
                        self.forget(&connection).await;
                    }
                    return Err(NetError::Timeout);
                }
            }
        }
    }

    async fn connection(&self) -> Result<Connection, NetError> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open {
            return Ok(connection.clone());
        }
        let connection = Connection {
            exchange: self.connect().await?,
            number: self.opened.fetch_add(1, Ordering::Relaxed),
            heard: Arc::default(),
        };
        *open = Some(connection.clone());
        Ok(connection)
    }

    async fn forget(&self, connection: &Connection) {
        let mut open = self.open.lock().await;
        if open.as_ref().is_some_and(|current| current.number == connection.number) {
            *open = None;
        }
    }

    async fn connect(&self) -> Result<DnsExchange<TokioRuntimeProvider>, NetError> {
        let (client, provider) = (self.client.clone(), self.provider.clone());
        match &self.protocol {
            Protocol::Tls { verified } => {
                let (connecting, questions) =
                    tls_client_connect(self.address, verified.clone(), client, provider);
                let multiplexer = DnsMultiplexer::new(connecting.await?, questions)
                    .with_timeout(2 * self.timeout)
                    .with_max_active_requests(MOST_QUESTIONS);
                let (exchange, running) = DnsExchange::from_stream(multiplexer);
                self.provider.create_handle().spawn_bg(running);
                Ok(exchange)
            }
            Protocol::Https { verified, path } => {
                let builder = HttpsClientStream::builder(client, provider);
                builder.exchange(self.address, verified.to_str().into(), path.clone()).await
            }
        }
    }
}

impl From<NetError> for ServerFault {
    fn from(error: NetError) -> Self {
        // TLS reports as an error of the stream under it.
        if let NetError::Io(stream) = &error
            && let Some(inner) = io::Error::get_ref(stream)
            && let Some(rustls::Error::InvalidCertificate(error)) = inner.downcast_ref()
        {
            return Self::Certificate(error.clone());
        }
        Self::Broken(Plain(error).to_string())
    }
}

fn sockets(address: SocketAddr, client: &ClientConfig, timeout: Duration) -> Sockets {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut kind| {
        kind.port = address.port();
        kind
    });
    let config = NameServerConfig::new(address.ip(), true, connections.into());
    let mut options = ResolverOpts::default();
    // Ours is shorter: what the library times out by itself is not told from what we gave up.
    options.timeout = 2 * timeout;
    options.case_randomization = true;
    options.max_active_requests = MOST_QUESTIONS;
    let context = PoolContext::new(options, TlsConfig { config: client.clone() });
    Sockets::from_config([config], Arc::new(context), TokioRuntimeProvider::default())
}

fn request() -> DnsRequestOptions {
    let mut options = DnsRequestOptions::default();
    options.edns_payload_len = EDNS_PAYLOAD;
    options
}
