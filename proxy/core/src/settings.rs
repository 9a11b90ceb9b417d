//! What the data path is told before it starts: plain values, already checked by whoever reads
//! the configuration. Nothing here reads a file, a variable or a clock.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use egret_policy::HostName;
use rustls_pki_types::ServerName;

use crate::roots::Roots;

/// Everything that stays fixed while a proxy runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sockets to listen on.
    pub listeners: Vec<ListenerSettings>,
    /// How names are looked up.
    pub dns: DnsSettings,
    /// Bounds on connections, heads and waits.
    pub limits: ConnectionLimits,
    /// Where this process listens besides; never a target, as the listeners and name servers are.
    pub own: Vec<SocketAddr>,
}

/// One listening socket.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: ListenAddress,
    /// Which proofs of identity it takes; their order plays no part.
    pub identity: Vec<IdentityKind>,
}

/// Where a listener listens; printed as the configuration writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// A TCP address; port 0 asks the system for a free one.
    Tcp(SocketAddr),
    /// A Unix socket with an absolute path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns the address, where it is one of the network.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A kind of proof that tells which worker is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// No proof at all: every client is the worker `anonymous`.
    Anonymous,
    /// `Proxy-Authorization`: Basic with the worker's id and its token, or Bearer with the token.
    Token,
    /// The address that a TCP connection comes from.
    Source,
    /// The user at the other end of a Unix socket.
    Peer,
}

/// How names become addresses.
#[derive(Debug, Clone)]
pub struct DnsSettings {
    /// The servers to ask, in this order; `None` takes those of the system and follows its changes.
    pub servers: Option<Vec<NameServer>>,
    /// What the certificates of encrypted servers are verified against.
    pub roots: Roots,
    /// Bounds a whole look-up, retries included.
    pub timeout: Duration,
    /// The longest that an answer is kept, whatever its own time to live.
    pub max_ttl: Duration,
    /// Names that are answered from here and never asked for.
    pub hosts: BTreeMap<HostName, Vec<IpAddr>>,
}

/// A server that is asked for the addresses of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// Where it is; an address, since nobody could resolve a name.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
}

/// How a name server is spoken to. A server is spoken to in this way or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP where an answer does not fit a datagram.
    Cleartext,
    /// RFC 7858.
    Tls {
        /// The name or address that its certificate must carry.
        verified: ServerName<'static>,
    },
    /// RFC 8484 over HTTP/2.
    Https {
        /// The name or address that its certificate must carry; also the authority of requests.
        verified: ServerName<'static>,
        /// Where on the server queries are posted.
        path: String,
    },
}

impl Transport {
    /// Whether nobody on the way can read or change what is asked and answered.
    pub fn is_encrypted(&self) -> bool {
        match self {
            Self::Cleartext => false,
            Self::Tls { .. } | Self::Https { .. } => true,
        }
    }
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: None,
            roots: Roots::default(),
            timeout: Duration::from_secs(2),
            max_ttl: Duration::from_secs(60),
            hosts: BTreeMap::new(),
        }
    }
}

/// Bounds that hold for every connection, whatever the policy says.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Client connections in all.
    pub connections: usize,
    /// Client connections of one worker, counted from identification on.
    pub connections_per_worker: usize,
    /// Denials of one worker that are recorded one by one in a minute; above it they are summed.
    pub denials_per_minute: NonZeroU32,
    /// Bytes of a whole request head.
    pub head_bytes: usize,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// Without a byte of a request body that was announced.
    pub body_idle_timeout: Duration,
    /// From the answer to CONNECT to enough first bytes to judge.
    pub first_byte_timeout: Duration,
    /// For all connection attempts of one dial together.
    pub connect_timeout: Duration,
    /// What open exchanges are given at shutdown.
    pub drain_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_worker: 2_000,
            denials_per_minute: const { NonZeroU32::new(600).expect("600 is not 0") },
            head_bytes: 64 << 10,
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
