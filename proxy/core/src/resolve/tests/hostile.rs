//! A name server whose every byte the test decides.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME},
    },
};

/// Starts a server on a free port: `datagrams` are sent for a query by UDP; `stream` has a
/// connection after a query came over it. Both go on until the process ends.
pub(super) fn start(
    datagrams: impl Fn(&Message) -> Vec<Vec<u8>> + Send + 'static,
    stream: impl Fn(&Message, &mut TcpStream) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    let (udp, tcp) = pair();
    let address = udp.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let Ok((length, peer)) = udp.recv_from(&mut buffer) else { continue };
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            for datagram in datagrams(&query) {
                let _ = udp.send_to(&datagram, peer);
            }
        }
    });
    thread::spawn(move || {
        for mut connection in tcp.incoming().flatten() {
            let _ = query_of(&mut connection).and_then(|query| stream(&query, &mut connection));
        }
    });
    address
}

/// A server that nothing listens behind by TCP.
pub(super) fn start_udp(
    datagrams: impl Fn(&Message) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    start(datagrams, |_, _| Ok(()))
}

/// Both protocols on one port; the system may have given the other one away.
fn pair() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn query_of(connection: &mut TcpStream) -> io::Result<Message> {
    let mut length = [0; 2];
    connection.read_exact(&mut length)?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut query)?;
    Message::from_vec(&query).map_err(io::Error::other)
}

/// Sends a message as a stream has it.
pub(super) fn send(connection: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    connection.write_all(&[&length[..], message].concat())
}

/// A reply to a query with these records, of the type that was asked for alone.
pub(super) fn reply(query: &Message, records: &[Record]) -> Message {
    let mut reply = query.clone().into_response();
    let kind = query.queries[0].query_type();
    let wanted = |record: &&Record| [kind, RecordType::CNAME].contains(&record.record_type());
    reply.answers = records.iter().filter(wanted).cloned().collect();
    reply
}

/// The same with an error code.
pub(super) fn reply_with(query: &Message, code: ResponseCode, records: &[Record]) -> Message {
    let mut reply = reply(query, records);
    reply.metadata.response_code = code;
    reply
}

pub(super) fn address(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::from(address))))
}

pub(super) fn alias(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub(super) fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}
