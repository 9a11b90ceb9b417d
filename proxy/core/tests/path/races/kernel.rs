//! What the kernel knows about the sockets of the namespace.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::side::PATIENCE;

/// A TCP socket over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    state: u8,
    /// Bytes that were sent and not acknowledged.
    unsent: u32,
    /// Bytes that came and were not read.
    unread: u32,
}

// The kernel's numbers of the states in which something may still be carried, or come to be.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE_WAIT: u8 = 8;

/// Returns every socket that is there now.
pub(crate) fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().skip(1).map(|line| read(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Waits until the proxy has taken everything that was sent to it over `stream`.
pub(crate) fn wait_until_taken(stream: &TcpStream) {
    let (here, there) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    wait_until("the proxy has read what was sent", |sockets| {
        let of = |local, remote| move |s: &&Socket| s.local == local && s.remote == remote;
        let sent = sockets.iter().find(of(here, there)).is_some_and(|own| own.unsent == 0);
        sent && sockets.iter().find(of(there, here)).is_some_and(|its| its.unread == 0)
    });
}

/// Waits until no socket is connected, or connecting, to `address`, except from `known`. One that
/// was closed in good order may be waiting for the other end.
pub(crate) fn wait_until_left_alone(address: SocketAddr, known: &[SocketAddr]) {
    wait_until("nothing is connected to the origin", |sockets| {
        sockets
            .iter()
            .filter(|s| s.remote == address && !known.contains(&s.local))
            .all(|s| !matches!(s.state, ESTABLISHED | SYN_SENT | CLOSE_WAIT))
    });
}

/// Waits until a connection attempt to `address`, from somewhere else than `known`, is under way.
pub(crate) fn wait_until_dialled(address: SocketAddr, known: &[SocketAddr]) {
    wait_until("the origin is dialled", |sockets| {
        sockets
            .iter()
            .any(|s| s.remote == address && s.state == SYN_SENT && !known.contains(&s.local))
    });
}

fn wait_until(what: &str, holds: impl Fn(&[Socket]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sockets = sockets();
        if holds(&sockets) {
            return;
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {sockets:#?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// `sl local remote state unsent:unread …`, in hexadecimal; addresses as the machine stores them.
fn read(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (unsent, unread) = words.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some(Socket { local, remote, state, unsent: number(unsent)?, unread: number(unread)? })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some(SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?).into())
}
