//! The scripted name server behind TLS (RFC 7858) and HTTPS (RFC 8484).
//!
//! It answers from the same scripts and writes to the same log as the one in cleartext, and can
//! behave badly as a server: hang up, fall silent, dribble. It checks what a client sends no further
//! than it must to answer; what HTTP requests looked like is kept for the test to judge.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Dns, Protocol};

/// How the server treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers.
    Honest,
    /// It answers and closes the connection.
    CloseAfterAnswer,
    /// It closes the connection when it is asked.
    CloseWhenAsked,
    /// It takes questions and says nothing.
    Silent,
    /// It sends its answers byte for byte, this far apart.
    Dribble(Duration),
}

/// The two servers; they run until the process ends.
#[derive(Debug, Clone)]
pub struct SecureDns {
    dns: Dns,
    state: Arc<Mutex<State>>,
    tls: SocketAddr,
    https: SocketAddr,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    certificate: Arc<ServerConfig>,
    connections: usize,
    requests: Vec<Request>,
}

/// What an HTTP request looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The whole target.
    pub uri: String,
    /// The `Content-Type`.
    pub content_type: String,
}

impl SecureDns {
    /// Starts both servers on free ports of an address, with the answers of `dns`.
    pub fn start(dns: &Dns, ip: IpAddr, certificate: Arc<ServerConfig>) -> io::Result<Self> {
        let bind = || -> io::Result<(StdListener, SocketAddr)> {
            let listener = StdListener::bind((ip, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let ((tls_listener, tls), (https_listener, https)) = (bind()?, bind()?);
        let state =
            State { manner: Manner::Honest, certificate, connections: 0, requests: Vec::new() };
        let server = Self { dns: dns.clone(), state: Arc::new(Mutex::new(state)), tls, https };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = server.clone();
        thread::Builder::new().name("dns-secure".to_owned()).spawn(move || {
            runtime.block_on(async {
                let over_tls = served.clone().accept(tls_listener, Protocol::Tls);
                let over_https = served.accept(https_listener, Protocol::Https);
                let _ = tokio::join!(over_tls, over_https);
            });
        })?;
        Ok(server)
    }

    /// Returns where DNS over TLS is spoken.
    pub fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// Returns where DNS over HTTPS is spoken.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// Behaves in another way from now on.
    pub fn set_manner(&self, manner: Manner) {
        self.state().manner = manner;
    }

    /// Shows another certificate, and speaks other protocols, on connections from now on.
    pub fn set_certificate(&self, certificate: Arc<ServerConfig>) {
        self.state().certificate = certificate;
    }

    /// Returns how many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// Returns every HTTP request that came.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self, listener: StdListener, protocol: Protocol) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let Ok((stream, peer)) = listener.accept().await else { continue };
            self.state().connections += 1;
            let server = self.clone();
            tokio::spawn(async move {
                // Whatever goes wrong ends the connection, which is what a client should see.
                let _ = server.serve(stream, peer, protocol).await;
            });
        }
    }

    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        protocol: Protocol,
    ) -> io::Result<()> {
        let mut config = (*self.state().certificate).clone();
        if protocol == Protocol::Https {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        if protocol == Protocol::Https {
            self.serve_https(stream, peer).await.map_err(io::Error::other)
        } else {
            self.serve_tls(stream, peer).await
        }
    }

    async fn serve_tls(
        &self,
        mut stream: TlsStream<TcpStream>,
        peer: SocketAddr,
    ) -> io::Result<()> {
        loop {
            let mut query = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut query).await?;
            let replies = self.dns.replies(&query, Protocol::Tls, peer);
            let manner = self.state().manner;
            if manner == Manner::CloseWhenAsked {
                return Ok(());
            }
            for reply in replies {
                if manner == Manner::Silent {
                    continue;
                }
                sleep(reply.delay).await;
                let length = u16::try_from(reply.bytes.len()).unwrap_or(u16::MAX);
                let message = [&length.to_be_bytes()[..], &reply.bytes].concat();
                if let Manner::Dribble(pause) = manner {
                    for byte in message {
                        stream.write_u8(byte).await?;
                        stream.flush().await?;
                        sleep(pause).await;
                    }
                } else {
                    stream.write_all(&message).await?;
                    stream.flush().await?;
                }
            }
            if manner == Manner::CloseAfterAnswer {
                return stream.shutdown().await;
            }
        }
    }

    async fn serve_https(
        &self,
        stream: TlsStream<TcpStream>,
        peer: SocketAddr,
    ) -> Result<(), h2::Error> {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(request) = connection.accept().await {
            let (request, respond) = request?;
            if self.state().manner == Manner::CloseWhenAsked {
                return Ok(());
            }
            let server = self.clone();
            tokio::spawn(async move {
                let _ = server.answer(request, respond, peer).await;
            });
            if self.state().manner == Manner::CloseAfterAnswer {
                connection.graceful_shutdown();
            }
        }
        Ok(())
    }

    async fn answer(
        &self,
        request: http::Request<h2::RecvStream>,
        mut respond: h2::server::SendResponse<Bytes>,
        peer: SocketAddr,
    ) -> Result<(), h2::Error> {
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kept = Request {
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            content_type: content_type.to_owned(),
        };
        self.state().requests.push(kept);
        let (mut body, mut query) = (request.into_body(), Vec::new());
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            query.extend_from_slice(&part);
        }
        let manner = self.state().manner;
        let reply = self.dns.replies(&query, Protocol::Https, peer).into_iter().next();
        let Some(reply) = reply.filter(|_| manner != Manner::Silent) else {
            // Dropping the stream would end it, which is not silence.
            match std::future::pending::<Infallible>().await {}
        };
        sleep(reply.delay).await;
        let response = http::Response::builder()
            .header(http::header::CONTENT_TYPE, "application/dns-message")
            .body(())
            .expect("the parts of a response are fixed");
        let mut body = respond.send_response(response, false)?;
        if let Manner::Dribble(pause) = manner {
            for byte in reply.bytes {
                body.send_data(Bytes::from(vec![byte]), false)?;
                sleep(pause).await;
            }
            body.send_data(Bytes::new(), true)
        } else {
            body.send_data(reply.bytes.into(), true)
        }
    }
}
