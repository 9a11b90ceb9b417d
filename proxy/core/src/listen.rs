//! Sockets that workers connect to: TCP, and Unix sockets with a file.
//!
//! All or none: where one cannot be bound, none listens. What comes out of an accept is a stream
//! and who is at its other end, as the kernel tells it; nothing is asked of the worker here.

use std::{io, net::SocketAddr, path::PathBuf};

use tokio::net::{TcpListener, UnixListener};

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

/// A listening socket.
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    Unix {
        /// First, so that nobody finds a file behind which nobody listens any more.
        _file: SocketFile,
        socket: UnixListener,
    },
}

impl Acceptor {
    async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            ListenAddress::Unix(path) => {
                let (socket, file) = file::bind(path).await?;
                Ok(Self::Unix { _file: file, socket })
            }
        }
    }

    /// Returns where it listens: the real port where any was asked for.
    fn address(&self, asked: ListenAddress) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(socket) => Ok(ListenAddress::Tcp(socket.local_addr()?)),
            Self::Unix { .. } => Ok(asked),
        }
    }

    /// Takes the next connection; one whose other end cannot be told is dropped.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, client) = socket.accept().await?;
                // Records and sources know one form of an address.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                Ok((Stream::Tcp(stream), Peer::Tcp(client)))
            }
            Self::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Stream::Unix(stream), Peer::Unix { uid }))
            }
        }
    }
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
}

/// A listener with its socket.
pub(crate) struct Bound {
    pub(crate) acceptor: Acceptor,
    pub(crate) address: ListenAddress,
    pub(crate) settings: ListenerSettings,
}

/// Binds all listeners, in the order of the settings.
pub(crate) async fn listen(listeners: Vec<ListenerSettings>) -> Result<Vec<Bound>, ListenError> {
    let mut bound = Vec::new();
    for settings in listeners {
        let cannot = |source| ListenError::Address { address: settings.address.clone(), source };
        if let ListenAddress::Unix(path) = &settings.address
            && let Some(folder) = file::shared_folder(path).map_err(cannot)?
        {
            return Err(ListenError::Folder { address: settings.address, folder });
        }
        let acceptor = Acceptor::bind(&settings.address).await.map_err(cannot)?;
        let address = acceptor.address(settings.address.clone()).map_err(cannot)?;
        bound.push(Bound { acceptor, address, settings });
    }
    Ok(bound)
}
