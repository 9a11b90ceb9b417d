//! Who was dialled: every TCP SYN and UDP datagram that any socket of the namespace sends.
//!
//! A packet socket sees what listeners cannot: dials to ports where nobody listens, attempts that
//! were given up, datagrams to name servers that nobody named. The kernel filters, so that bulk data
//! never fills the socket. A retransmission counts once. Connections of the test itself are told
//! apart by [`Own`], in which its clients register their source addresses.

use std::{
    collections::HashSet,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// The source addresses of connections that the test itself opened.
#[derive(Debug, Clone, Default)]
pub struct Own(Arc<Mutex<HashSet<SocketAddr>>>);

impl Own {
    /// Marks a source address as the test's.
    pub fn add(&self, source: SocketAddr) {
        lock(&self.0).insert(source);
    }

    fn holds(&self, source: &SocketAddr) -> bool {
        lock(&self.0).contains(source)
    }
}

/// The protocol of a sent packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A TCP SYN: the first packet of a connection attempt.
    Syn,
    /// A UDP datagram.
    Udp,
}

/// One packet that left a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packet {
    /// SYN or datagram.
    pub transport: Transport,
    /// Where it came from.
    pub from: SocketAddr,
    /// Whom it addressed.
    pub to: SocketAddr,
    /// The TCP sequence number, which tells a retransmission from a new attempt; 0 for UDP.
    sequence: u32,
}

/// Listens on the loopback device, where every packet of the namespace passes.
#[derive(Debug)]
pub struct PacketLog {
    seen: Arc<Mutex<Vec<Packet>>>,
    own: Own,
}

impl PacketLog {
    /// Starts to record.
    pub fn start() -> io::Result<Self> {
        // ETH_P_ALL, in network byte order. Not bound: a fresh namespace has no device but `lo`.
        let all = Protocol::from(i32::from(3_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(all))?;
        socket.attach_filter(&outgoing_dials())?;
        let seen = Arc::<Mutex<Vec<Packet>>>::default();
        let log = Arc::clone(&seen);
        thread::Builder::new().name("packets".to_owned()).spawn(move || {
            let mut buffer = [0; 128];
            loop {
                match (&socket).read(&mut buffer) {
                    Ok(length) => {
                        if let Some(packet) = read_packet(&buffer[..length]) {
                            lock(&log).push(packet);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        })?;
        Ok(Self { seen, own: Own::default() })
    }

    /// The register of the test's own connections; clones share it.
    pub fn own(&self) -> Own {
        self.own.clone()
    }

    /// Forgets what was seen until now and whose the old source addresses were.
    pub fn reset(&self) {
        self.settle();
        lock(&self.own.0).clear();
        lock(&self.seen).clear();
    }

    /// Takes what was sent since the last call, in order, without the test's own connections.
    pub fn take(&self) -> Vec<Packet> {
        self.settle();
        let mut attempts = HashSet::new();
        std::mem::take(&mut *lock(&self.seen))
            .into_iter()
            .filter(|packet| packet.transport == Transport::Udp || attempts.insert(*packet))
            .filter(|packet| !self.own.holds(&packet.from))
            .collect()
    }

    /// Waits until the reader has caught up: sends a datagram and waits until it is seen.
    fn settle(&self) {
        let probe = || -> io::Result<SocketAddr> {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(b"", PROBE)?;
            socket.local_addr()
        };
        let Ok(from) = probe() else { return };
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            let mut seen = lock(&self.seen);
            if let Some(at) = seen.iter().position(|p| p.from == from && p.to == PROBE) {
                seen.remove(at);
                return;
            }
            drop(seen);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Addresses, protocol and ports of an IP packet without its link header.
fn read_packet(packet: &[u8]) -> Option<Packet> {
    let (protocol, source, target, at): (u8, IpAddr, IpAddr, usize) = match packet.first()? >> 4 {
        4 => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let target: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let at = usize::from(packet[0] & 15) * 4;
            (packet[9], Ipv4Addr::from(source).into(), Ipv4Addr::from(target).into(), at)
        }
        6 => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let target: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (packet[6], Ipv6Addr::from(source).into(), Ipv6Addr::from(target).into(), 40)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let (transport, sequence) = match protocol {
        TCP => {
            let bytes = packet.get(at + 4..at + 8)?.try_into().ok()?;
            (Transport::Syn, u32::from_be_bytes(bytes))
        }
        UDP => (Transport::Udp, 0),
        _ => return None,
    };
    let from = SocketAddr::new(source, port(at)?);
    Some(Packet { transport, from, to: SocketAddr::new(target, port(at + 2)?), sequence })
}

/// Keeps what is outgoing (each packet passes `lo` twice) and a UDP datagram or a SYN without ACK.
fn outgoing_dials() -> Vec<SockFilter> {
    const LD: u16 = 0x20; // 32 bits at an absolute offset
    const LDB: u16 = 0x30; // a byte
    const LDX_HEADER: u16 = 0xb1; // length of the IPv4 header
    const LDB_INDEXED: u16 = 0x50;
    const JEQ: u16 = 0x15;
    const AND: u16 = 0x54;
    const RET: u16 = 0x06;
    const SKF_PROTOCOL: u32 = 0xffff_f000;
    const SKF_PACKET_TYPE: u32 = 0xffff_f004;
    let (tcp, udp) = (u32::from(TCP), u32::from(UDP));
    [
        (LD, 0, 0, SKF_PACKET_TYPE),
        (JEQ, 0, 15, 4), // PACKET_OUTGOING, else drop
        (LD, 0, 0, SKF_PROTOCOL),
        (JEQ, 0, 6, 0x0800), // IPv4, else to the test for IPv6
        (LDB, 0, 0, 9),
        (JEQ, 12, 0, udp), // keep
        (JEQ, 0, 10, tcp), // else drop
        (LDX_HEADER, 0, 0, 0),
        (LDB_INDEXED, 0, 0, 13),
        (JEQ, 5, 5, u32::MAX), // always to the flags test
        (JEQ, 0, 6, 0x86dd),   // IPv6, else drop
        (LDB, 0, 0, 6),
        (JEQ, 5, 0, udp), // keep
        (JEQ, 0, 3, tcp), // else drop
        (LDB, 0, 0, 53),
        (AND, 0, 0, 0x12),
        (JEQ, 1, 0, 2), // SYN without ACK: keep
        (RET, 0, 0, 0),
        (RET, 0, 0, 128),
    ]
    .into_iter()
    .map(|(code, yes, no, value)| SockFilter::new(code, yes, no, value))
    .collect()
}

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Where [`PacketLog::settle`] sends its datagrams: the discard port.
const PROBE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99)), 9);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_of_both_families_are_read() {
        let mut four = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 10, 0, 0, 1];
        four.extend([0x1f, 0x90, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2]);
        let packet = read_packet(&four).expect("a SYN");
        assert_eq!(packet.to, "10.0.0.1:80".parse().expect("an address"));
        assert_eq!((packet.transport, packet.sequence), (Transport::Syn, 7));

        let mut six = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        six.extend(Ipv6Addr::LOCALHOST.octets());
        six.extend("fd00::1".parse::<Ipv6Addr>().expect("an address").octets());
        six.extend([0, 1, 0, 53, 0, 8, 0, 0]);
        let packet = read_packet(&six).expect("a datagram");
        assert_eq!(packet.to, "[fd00::1]:53".parse().expect("an address"));
        assert_eq!(packet.transport, Transport::Udp);
        assert_eq!(read_packet(&six[..41]), None);
    }
}
