//! Sockets that workers connect to: bound here, or bound before by whoever supervises services
//! and handed over.
//!
//! All or none: a socket that is handed over and that no listener names is an error, so that no
//! connection waits in a queue which nobody reads. One that was handed over stays whoever's it is:
//! its file is not removed, and what waits in its queue is for the next process. The queue of one
//! that was bound here ends with it, so it is emptied first.

use std::{fmt, io, net::SocketAddr, os::unix, path::PathBuf};

#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use self::file::SocketFile;
use crate::{
    settings::{ListenAddress, ListenerSettings},
    socket::Stream,
};

mod file;

/// Who is at the other end of a connection, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address; an IPv4 one is in IPv4 form, whatever kind of socket it came to.
    Tcp(SocketAddr),
    /// The user that connected to a Unix socket.
    Unix { uid: u32 },
}

impl Peer {
    /// Returns the address, where there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

/// A socket that somebody else has bound for us.
#[derive(Debug)]
pub enum Inherited {
    /// A listening TCP socket.
    Tcp(std::net::TcpListener),
    /// A listening Unix socket.
    Unix(unix::net::UnixListener),
}

impl Inherited {
    /// Returns whether this is the socket that a listener asks for.
    fn is_at(&self, address: &ListenAddress) -> bool {
        match (self, address) {
            (Self::Tcp(socket), ListenAddress::Tcp(address)) => {
                socket.local_addr().is_ok_and(|bound| bound == *address)
            }
            (Self::Unix(socket), ListenAddress::Unix(path)) => {
                socket.local_addr().is_ok_and(|bound| bound.as_pathname() == Some(path))
            }
            (Self::Tcp(_), ListenAddress::Unix(_)) | (Self::Unix(_), ListenAddress::Tcp(_)) => {
                false
            }
        }
    }

    fn into_acceptor(self) -> io::Result<Acceptor> {
        let listens = match &self {
            Self::Tcp(socket) => SockRef::from(socket).is_listener()?,
            Self::Unix(socket) => SockRef::from(socket).is_listener()?,
        };
        if !listens {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket that was handed over does not listen",
            ));
        }
        Ok(match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Acceptor::Tcp { socket: TcpListener::from_std(socket)?, bound: BoundBy::Another }
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Acceptor::Unix { file: None, socket: UnixListener::from_std(socket)? }
            }
        })
    }
}

/// As the configuration would write it.
impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unnamed = "a socket without a name";
        match self {
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str(unnamed),
            },
            Self::Unix(socket) => {
                match socket.local_addr().ok().as_ref().map(|at| at.as_pathname()) {
                    Some(Some(path)) => write!(f, "unix:{}", path.display()),
                    Some(None) | None => f.write_str(unnamed),
                }
            }
        }
    }
}

/// A listening socket.
pub(crate) enum Acceptor {
    Tcp {
        socket: TcpListener,
        bound: BoundBy,
    },
    Unix {
        /// Of a socket that was bound here. First, so that nobody finds a file behind which nobody
        /// listens any more.
        file: Option<SocketFile>,
        socket: UnixListener,
    },
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundBy {
    /// It ends with this process.
    Us,
    /// It goes on without us.
    Another,
}

impl Acceptor {
    async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                Ok(Self::Tcp { socket: TcpListener::bind(address).await?, bound: BoundBy::Us })
            }
            ListenAddress::Unix(path) => {
                let (socket, file) = file::bind(path).await?;
                Ok(Self::Unix { file: Some(file), socket })
            }
        }
    }

    /// Returns where it listens: the real port where any was asked for.
    fn address(&self, asked: ListenAddress) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp { socket, .. } => Ok(ListenAddress::Tcp(socket.local_addr()?)),
            Self::Unix { .. } => Ok(asked),
        }
    }

    /// Takes the next connection; one whose other end cannot be told is dropped.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp { socket, .. } => {
                let (stream, client) = socket.accept().await?;
                Ok(over_tcp(stream, client))
            }
            Self::Unix { socket, .. } => over_unix(socket.accept().await?.0),
        }
    }

    /// Closes the socket and returns the connections that have come to it and were not taken. One
    /// that was handed over is let go with what waits at it.
    pub(crate) fn close(self) -> Vec<io::Result<(Stream, Peer)>> {
        match self {
            Self::Tcp { bound: BoundBy::Another, .. } | Self::Unix { file: None, .. } => Vec::new(),
            Self::Tcp { socket, bound: BoundBy::Us } => emptied(
                socket.into_std().inspect(let_nobody_in),
                |socket| socket.accept(),
                |(stream, client)| {
                    stream.set_nonblocking(true)?;
                    Ok(over_tcp(TcpStream::from_std(stream)?, client))
                },
            ),
            Self::Unix { file: Some(file), socket } => {
                drop(file);
                emptied(
                    socket.into_std(),
                    |socket| socket.accept(),
                    |(stream, _)| {
                        stream.set_nonblocking(true)?;
                        over_unix(UnixStream::from_std(stream)?)
                    },
                )
            }
        }
    }
}

fn over_tcp(stream: TcpStream, client: SocketAddr) -> (Stream, Peer) {
    // Records and sources know one form of an address.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    (Stream::Tcp(stream), Peer::Tcp(client))
}

fn over_unix(stream: UnixStream) -> io::Result<(Stream, Peer)> {
    let uid = stream.peer_cred()?.uid();
    Ok((Stream::Unix(stream), Peer::Unix { uid }))
}

/// Takes all that waits at a socket, up to the first failure.
fn emptied<S, A>(
    socket: io::Result<S>,
    accept: impl Fn(&S) -> io::Result<A>,
    ready: impl Fn(A) -> io::Result<(Stream, Peer)>,
) -> Vec<io::Result<(Stream, Peer)>> {
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return vec![Err(error)],
    };
    let mut taken = Vec::new();
    loop {
        match accept(&socket) {
            Ok(accepted) => taken.push(ready(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return taken,
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                taken.push(Err(error));
                return taken;
            }
        }
    }
}

/// Has the kernel drop what would connect from here on. A client asks again a second later, and
/// finds the next process or nobody; else one that came between the last look and the close would
/// be connected and reset.
fn let_nobody_in(socket: &std::net::TcpListener) {
    #[cfg(target_os = "linux")]
    {
        const RETURN_NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
        if let Err(error) = SockRef::from(socket).attach_filter(&[RETURN_NOTHING]) {
            tracing::debug!(%error, "whoever connects at the very end is reset");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be bound.
    #[error("listen on {address}")]
    Address {
        /// The address as configured.
        address: ListenAddress,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file of a Unix socket would be in a directory where others could put theirs instead,
    /// and be shown the tokens of workers.
    #[error("others may replace {address}: they may write `{}`", folder.display())]
    Folder {
        /// The address as configured.
        address: ListenAddress,
        /// The directory.
        folder: PathBuf,
    },
    /// A socket was handed over that no listener names.
    #[error("no listener names {socket}, which was handed over")]
    Unasked {
        /// Its address, as a listener would name it.
        socket: String,
    },
}

/// A listener with its socket.
pub(crate) struct Bound {
    pub(crate) acceptor: Acceptor,
    pub(crate) address: ListenAddress,
    pub(crate) settings: ListenerSettings,
}

/// Takes over what was handed over and binds the rest, in the order of the settings.
pub(crate) async fn listen(
    listeners: Vec<ListenerSettings>,
    inherited: Vec<Inherited>,
) -> Result<Vec<Bound>, ListenError> {
    let mut inherited = inherited;
    let mut matched = Vec::new();
    for settings in listeners {
        let at = inherited.iter().position(|socket| socket.is_at(&settings.address));
        matched.push((settings, at.map(|at| inherited.swap_remove(at))));
    }
    // Before anything is bound: a start that fails leaves no trace.
    if let Some(socket) = inherited.first() {
        return Err(ListenError::Unasked { socket: socket.to_string() });
    }
    let mut bound = Vec::new();
    for (settings, inherited) in matched {
        let cannot = |source| ListenError::Address { address: settings.address.clone(), source };
        let acceptor = match inherited {
            Some(socket) => socket.into_acceptor(),
            None => {
                if let ListenAddress::Unix(path) = &settings.address
                    && let Some(folder) = file::shared_folder(path).map_err(cannot)?
                {
                    return Err(ListenError::Folder { address: settings.address, folder });
                }
                Acceptor::bind(&settings.address).await
            }
        };
        let acceptor = acceptor.map_err(cannot)?;
        let address = acceptor.address(settings.address.clone()).map_err(cannot)?;
        bound.push(Bound { acceptor, address, settings });
    }
    Ok(bound)
}
