//! A scripted name server, authoritative for everything.
//!
//! It answers from the script of a case, then from the case's own zone, then from the default zone
//! of the corpus, and keeps a log of every query. A script can lie, delay, truncate, forge and stay
//! silent. A query or script entry that it cannot serve gets no answer, and the server stays up.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

pub use self::{
    script::{Entry, Nth, Record, Zone},
    wire::Kind,
};

mod answer;
pub mod script;
pub mod secure;
mod wire;

/// Where the server listens inside the namespace, over UDP and TCP.
pub const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);

/// Where answers with a forged source come from.
pub const ELSEWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)), 53);

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One datagram.
    Udp,
    /// A length-prefixed message of a stream.
    Tcp,
    /// The same inside TLS.
    Tls,
    /// The body of an HTTP/2 request inside TLS.
    Https,
}

/// One query that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The name in lower case, without the root dot.
    pub name: String,
    /// The type asked for.
    pub kind: Kind,
    /// How it came.
    pub protocol: Protocol,
    /// The transaction's number.
    pub id: u16,
    /// The source port.
    pub port: u16,
}

/// The server; it runs until the process ends.
#[derive(Debug, Clone)]
pub struct Dns {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct State {
    zone: Zone,
    script: Vec<Entry>,
    log: Vec<Query>,
    counts: HashMap<(String, Kind), u32>,
    silent: bool,
}

impl Dns {
    /// Starts the server on [`ADDRESS`], inside a namespace.
    pub fn start() -> io::Result<Self> {
        Self::start_on(ADDRESS, ELSEWHERE)
    }

    /// Starts the server on an address of choice; port 0 asks the system for a free one.
    pub fn start_on(address: SocketAddr, elsewhere: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address)?;
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address)?;
        let elsewhere = UdpSocket::bind(elsewhere)?;
        let dns = Self { state: Arc::default(), address };
        let server = dns.clone();
        thread::Builder::new()
            .name("dns-udp".to_owned())
            .spawn(move || server.serve_udp(&Arc::new(udp), &Arc::new(elsewhere)))?;
        let server = dns.clone();
        thread::Builder::new().name("dns-tcp".to_owned()).spawn(move || server.serve_tcp(&tcp))?;
        Ok(dns)
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts afresh with a zone and a script: no log, no counts, not silent.
    pub fn reset(&self, zone: Zone, script: Vec<Entry>) {
        *self.state() = State { zone, script, ..State::default() };
    }

    /// Starts afresh with the default zone and these names beside it.
    pub fn serve(&self, names: &[(&str, &str)]) {
        let mut zone = Zone::default();
        for (name, address) in names {
            zone.add(name, address);
        }
        self.reset(zone, Vec::new());
    }

    /// Stops answering, or answers again.
    pub fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// Returns every query since the last reset, in order.
    pub fn log(&self) -> Vec<Query> {
        self.state().log.clone()
    }

    /// Returns the names that were asked for since the last reset, sorted, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.log().into_iter().map(|query| query.name).collect();
        names.sort();
        names.dedup();
        names
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_udp(&self, socket: &Arc<UdpSocket>, elsewhere: &Arc<UdpSocket>) {
        let mut buffer = [0; 65535];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
            for reply in self.replies(&buffer[..length], Protocol::Udp, peer) {
                let sender = Arc::clone(if reply.from_elsewhere { elsewhere } else { socket });
                if reply.delay.is_zero() {
                    let _ = sender.send_to(&reply.bytes, peer);
                } else {
                    thread::spawn(move || {
                        thread::sleep(reply.delay);
                        let _ = sender.send_to(&reply.bytes, peer);
                    });
                }
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let server = self.clone();
            thread::spawn(move || server.serve_stream(stream));
        }
    }

    /// Serves one stream; any fault ends it, which is what the client should see.
    fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let peer = stream.peer_addr()?;
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query)?;
            for reply in self.replies(&query, Protocol::Tcp, peer) {
                thread::sleep(reply.delay);
                let length = u16::try_from(reply.bytes.len()).unwrap_or(u16::MAX);
                stream.write_all(&length.to_be_bytes())?;
                stream.write_all(&reply.bytes[..usize::from(length)])?;
            }
        }
    }

    fn replies(&self, query: &[u8], protocol: Protocol, peer: SocketAddr) -> Vec<answer::Reply> {
        let Some(question) = wire::Question::read(query) else { return Vec::new() };
        let mut state = self.state();
        state.log.push(Query {
            name: question.name.clone(),
            kind: question.kind,
            protocol,
            id: question.id,
            port: peer.port(),
        });
        if state.silent { Vec::new() } else { state.answer(&question, protocol) }
    }
}
