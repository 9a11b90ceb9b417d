//! Connects to what was pinned, and to nothing else.
//!
//! A [`Pinned`] is spent here: its addresses are tried in the order of RFC 8305 (families in turn,
//! a new attempt every 250 ms or when one fails), the first connection wins, and the grant comes
//! out only for a peer address that was among the pinned ones. No name is known in this module.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use egret_policy::{Denial, Pinned};
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time,
};

use crate::{
    live::Cut,
    socket::{Socket, Stream},
};

/// RFC 8305, section 5: the recommended Connection Attempt Delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// However many addresses a name has, one request causes no more attempts than this.
const MOST_ATTEMPTS: usize = 8;

/// An open connection, with what may be done over it.
pub struct Connected<G> {
    pub(crate) socket: Socket,
    /// What may be done over it.
    pub grant: G,
    /// How long it took to make.
    pub(crate) took: Duration,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The last of them did so.
    #[error("every address refused or was unreachable")]
    Refused(#[source] io::Error),
    /// None did so in time.
    #[error("no address answered in time")]
    Timeout,
    /// Nothing could be tried.
    #[error("the proxy has no descriptor left")]
    Exhausted(#[source] io::Error),
    /// The connection is not to be used.
    #[error("the peer is not one of the pinned addresses")]
    Peer(Denial),
}

/// Spends `pinned` on one connection.
pub async fn dial<G>(
    pinned: Pinned<G>,
    within: Duration,
    cut: &Cut,
) -> Result<Connected<G>, DialError> {
    let began = time::Instant::now();
    let stream = match time::timeout(within, first(in_turn(pinned.addresses()))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_exhaustion(&error) => return Err(DialError::Exhausted(error)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(DialError::Timeout);
        }
        Ok(Err(error)) => return Err(DialError::Refused(error)),
        Err(_) => return Err(DialError::Timeout),
    };
    SockRef::from(&stream).set_linger(None).map_err(DialError::Refused)?;
    let peer = stream.peer_addr().map_err(DialError::Refused)?;
    let grant = pinned.reached(peer).map_err(DialError::Peer)?;
    let socket = Socket::new(Stream::Tcp(stream), cut.clone()).map_err(DialError::Refused)?;
    Ok(Connected { socket, grant, took: began.elapsed() })
}

/// The first connection to come up; the attempts that lose are closed.
async fn first(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match addresses.pop_front() {
            Some(address) => drop(attempts.spawn(attempt(address))),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(error) => last = io::Error::other(error),
            },
            () = time::sleep(ATTEMPT_DELAY), if !addresses.is_empty() => {}
        }
    }
}

/// One attempt; given up, also at the moment when it succeeds, it is reset and not wound down.
async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_zero_linger()?;
    socket.connect(address).await
}

/// IPv6 and IPv4 in turn, each family in the order of the answer (RFC 8305, section 4).
fn in_turn(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let (mut v6, mut v4): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().copied().partition(SocketAddr::is_ipv6);
    let mut order = VecDeque::with_capacity(MOST_ATTEMPTS);
    while order.len() < MOST_ATTEMPTS && !(v6.is_empty() && v4.is_empty()) {
        order.extend(v6.pop_front());
        order.extend(v4.pop_front());
    }
    order.truncate(MOST_ATTEMPTS);
    order
}

/// Whether the fault is ours: no descriptors or memory left.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_attempts_are_capped() {
        let order = in_turn(&addresses(&["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"]));
        assert_eq!(order, addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"]));

        let many: Vec<_> = (0..200).map(|n| SocketAddr::from(([192, 0, 2, n], 1))).collect();
        assert_eq!(in_turn(&many).len(), MOST_ATTEMPTS);
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_keep_the_next_waiting() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let begin = std::time::Instant::now();
        let stream = first([closed, open.local_addr().unwrap()].into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open.local_addr().unwrap());
        assert!(begin.elapsed() < ATTEMPT_DELAY);
    }

    #[tokio::test]
    async fn when_all_refuse_the_last_refusal_is_told() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = first([closed].into()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
