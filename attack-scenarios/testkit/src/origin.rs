//! Origins and canaries: one listener for each port, on every address there is.
//!
//! Inside a namespace the wildcard address takes connections for public, private and metadata
//! addresses alike. Each connection is logged with the address that was dialled and every byte that
//! came. By the [`Plan`] in force an origin answers as a good server, plays a script of bytes and
//! waits, or misbehaves. Requests are read tolerantly: see [`crate::http1`].

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

pub use self::{
    hole::BlackHole,
    plan::{Answer, Identity, Plan, Respond, Service, Step, Toxic},
};
use crate::{hello::Hello, http1};

mod hole;
mod plan;
mod serve;

/// The listeners and their log; they stand until the process ends.
#[derive(Debug, Clone)]
pub struct Origin {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    open: BTreeSet<u16>,
    connections: Vec<Connection>,
}

/// One accepted connection; clones share the log.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The address that was dialled.
    pub to: SocketAddr,
    /// Who dialled.
    pub from: SocketAddr,
    log: Arc<Mutex<Log>>,
    /// Kept to end the connection at a reset.
    socket: Arc<TcpStream>,
}

#[derive(Debug, Default)]
struct Log {
    wire: Vec<u8>,
    plain: Vec<u8>,
    tls: bool,
    ended: bool,
}

impl Connection {
    /// Returns every byte as it came, below TLS.
    pub fn wire(&self) -> Vec<u8> {
        self.log().wire.clone()
    }

    /// Returns every byte above TLS, or as it came where there was no TLS.
    pub fn plain(&self) -> Vec<u8> {
        let log = self.log();
        let hidden = !log.tls && log.wire.first() == Some(&0x16);
        if log.tls || hidden { log.plain.clone() } else { log.wire.clone() }
    }

    /// Whether a TLS handshake was completed.
    pub fn is_tls(&self) -> bool {
        self.log().tls
    }

    /// Whether the peer has ended or broken the connection.
    pub fn has_ended(&self) -> bool {
        self.log().ended
    }

    /// Returns the requests, read tolerantly; the last one may be incomplete.
    pub fn requests(&self) -> Vec<http1::Message> {
        http1::requests(&self.plain())
    }

    /// Returns the ClientHello, if one came whole.
    pub fn hello(&self) -> Option<Hello> {
        Hello::read(&self.log().wire)
    }

    /// Returns the server name of the ClientHello as text, if there was one.
    pub fn sni(&self) -> Option<String> {
        let name = self.hello()?.names.into_iter().next()?;
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// Listens on ports 80 and 443 of every address.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let shared = Shared { plan, open: BTreeSet::new(), connections: Vec::new() };
        let origin = Self { shared: Arc::new(Mutex::new(shared)) };
        origin.open(80)?;
        origin.open(443)?;
        Ok(origin)
    }

    /// Listens on one more port of every address. A port that somebody else holds on some address
    /// (the proxy, say) is left to them there.
    pub fn open(&self, port: u16) -> io::Result<()> {
        if port == 0 || !self.shared().open.insert(port) {
            return Ok(());
        }
        for address in [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)] {
            let listener = match listen(SocketAddr::new(address, port)) {
                Ok(listener) => listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error),
            };
            let origin = self.clone();
            thread::Builder::new()
                .name(format!("origin-{port}"))
                .spawn(move || origin.accept(&listener))?;
        }
        Ok(())
    }

    /// Puts a plan in force, ends every connection and forgets the log.
    pub fn reset(&self, plan: Plan) {
        let old = {
            let mut shared = self.shared();
            shared.plan = plan;
            std::mem::take(&mut shared.connections)
        };
        for connection in old {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
    }

    /// Returns every connection since the last reset, in order of arrival.
    pub fn connections(&self) -> Vec<Connection> {
        self.shared().connections.clone()
    }

    /// Returns the connections that dialled an address.
    pub fn dials_to(&self, address: IpAddr) -> Vec<Connection> {
        let mut all = self.connections();
        all.retain(|connection| connection.to.ip() == address);
        all
    }

    /// Returns every request since the last reset.
    pub fn requests(&self) -> Vec<http1::Message> {
        self.connections().iter().flat_map(Connection::requests).collect()
    }

    /// Waits until the log satisfies a condition; false when it does not within the time.
    pub fn wait_until(&self, within: Duration, holds: impl Fn(&[Connection]) -> bool) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if holds(&self.connections()) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn forget(&self, ended: &Connection) {
        let mut shared = self.shared();
        let known = &mut shared.connections;
        if let Some(at) = known.iter().position(|one| Arc::ptr_eq(&one.log, &ended.log)) {
            known.swap_remove(at);
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: &TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept() else { continue };
            let Ok(to) = stream.local_addr() else { continue };
            // Else a reset would take with it what still waits for an acknowledgement.
            let _ = stream.set_nodelay(true);
            let stream = Arc::new(stream);
            let connection =
                Connection { to, from, log: Arc::default(), socket: Arc::clone(&stream) };
            let plan = {
                let mut shared = self.shared();
                shared.connections.push(connection.clone());
                shared.plan.clone()
            };
            if plan.refuse.contains(&to.ip()) {
                // The kernel has accepted already; a reset before any byte is as near as it gets.
                reset(&stream);
                continue;
            }
            let origin = self.clone();
            thread::spawn(move || {
                serve::connection(&plan, &connection);
                connection.log().ended = true;
                if plan.forgets {
                    origin.forget(&connection);
                }
            });
        }
    }
}

/// Ends a connection with a reset, not a FIN.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
    // With clones of the descriptor alive a close would not be one: disconnecting resets.
    let _ = rustix::net::connect_unspec(stream);
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, 4096)
}

fn listen_with(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // So that one address of a port may behave otherwise: the most specific listener is served.
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
