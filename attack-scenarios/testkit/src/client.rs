//! Raw clients: bytes out as a case wants them, replies read tolerantly.
//!
//! Nothing here is an HTTP library: requests are sent byte for byte, also wrong ones, in segments
//! with waits between them. Each connection registers itself as the test's own, so that the packet
//! log does not take it for a dial of the proxy.

use std::{
    io::{self, Read, Write},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

pub use self::{
    channel::{Channel, Leaf},
    exchange::{Exchange, Patience, Segment, Wait},
};
use crate::{http1::Message, packets::Own};

pub use self::exchange::methods;

mod channel;
mod exchange;

/// Opens connections to one proxy.
#[derive(Debug, Clone)]
pub struct Client {
    proxy: SocketAddr,
    own: Own,
}

impl Client {
    /// Returns a client of the proxy at an address; `own` is [`crate::packets::PacketLog::own`],
    /// or a default where packets are not watched.
    pub fn new(proxy: SocketAddr, own: Own) -> Self {
        Self { proxy, own }
    }

    /// Returns where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.proxy
    }

    /// Opens a connection to the proxy.
    pub fn connect(&self) -> io::Result<Channel> {
        let stream = TcpStream::connect_timeout(&self.proxy, Duration::from_secs(3))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        self.own.add(stream.local_addr()?);
        Ok(Channel::Plain(stream))
    }

    /// Whether the address accepts connections.
    pub fn is_accepted(&self) -> io::Result<bool> {
        let domain = Domain::for_address(self.proxy);
        let socket = Socket::new(domain, Type::STREAM, None)?;
        let any: SocketAddr = if self.proxy.is_ipv4() {
            ([127, 0, 0, 1], 0).into()
        } else {
            (Ipv6Addr::LOCALHOST, 0).into()
        };
        // Bound first: what is refused has no address left to tell it by.
        socket.bind(&any.into())?;
        self.own.add(socket.local_addr()?.as_socket().unwrap_or(any));
        match socket.connect_timeout(&self.proxy.into(), Duration::from_secs(3)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends one request and returns the final reply; an error when none came.
    pub fn request(&self, bytes: &[u8]) -> io::Result<Message> {
        let mut channel = self.connect()?;
        let played = channel.exchange(&[Segment::now(bytes)], Patience::Brief);
        played.replies.into_iter().next().ok_or_else(|| {
            let how = if played.closed { "closed" } else { "silent" };
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("no reply: {how}"))
        })
    }

    /// Sends a plain `GET` in absolute form.
    pub fn get(&self, url: &str) -> io::Result<Message> {
        self.request(get(url).as_bytes())
    }

    /// Asks for a tunnel; the outcome says what was answered, and holds the channel.
    pub fn tunnel(&self, authority: &str) -> io::Result<Tunnel> {
        self.tunnel_with(authority, "", PATIENCE)
    }

    /// Asks for a tunnel with extra header lines, each ended by CRLF, waiting for a time.
    pub fn tunnel_with(&self, authority: &str, lines: &str, wait: Duration) -> io::Result<Tunnel> {
        let mut channel = self.connect()?;
        let sent = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{lines}\r\n");
        channel.send(sent.as_bytes());
        let mut tunnel = Tunnel {
            channel,
            sent: sent.into_bytes(),
            raw: Vec::new(),
            reply: None,
            closed: false,
            silent: false,
        };
        tunnel.read_head(wait);
        Ok(tunnel)
    }
}

/// A tunnel that was asked for, granted or not.
#[derive(Debug)]
pub struct Tunnel {
    /// The connection; after a 2xx it is the tunnel.
    pub channel: Channel,
    /// The request as it was sent.
    pub sent: Vec<u8>,
    /// What was received up to the end of the head.
    pub raw: Vec<u8>,
    /// The final reply, when there was one.
    pub reply: Option<Message>,
    /// The proxy closed the connection.
    pub closed: bool,
    /// Nothing came within the time.
    pub silent: bool,
}

impl Tunnel {
    /// Returns the status of the reply; 0 when there was none.
    pub fn status(&self) -> u16 {
        self.reply.as_ref().map_or(0, Message::status)
    }

    /// Makes the tunnel's channel a TLS one, with this SNI or none; the certificate is not judged.
    pub fn tls(self, sni: Option<&str>) -> io::Result<Channel> {
        self.channel.tls(sni, &["http/1.1"])
    }

    /// Reads up to the end of a 2xx head and no further: what follows belongs to the tunnel.
    fn read_head(&mut self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let connect = [b"CONNECT".to_vec()];
        loop {
            // A byte at a time where it could overshoot is slow, so peek at what is there.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.silent = self.raw.is_empty();
                break;
            }
            match self.channel.read_head_part(&self.raw, left) {
                Ok(part) if part.is_empty() => self.closed = true,
                Ok(part) => self.raw.extend(part),
                Err(error) if is_timeout(&error) => continue,
                Err(_) => self.closed = true,
            }
            let found = crate::http1::responses(&self.raw, &connect, self.closed);
            let last = found.into_iter().find(|message| message.status() / 100 != 1);
            let whole = last.as_ref().is_some_and(|message| message.complete);
            self.reply = last;
            if whole || self.closed {
                break;
            }
        }
        if self.reply.is_none() && !self.raw.is_empty() {
            let start = self.raw[..self.raw.len().min(60)].to_vec();
            self.reply = Some(Message { start, ..Message::default() });
        }
    }
}

/// The bytes of a plain `GET` in absolute form with the fitting Host.
pub fn get(url: &str) -> String {
    let host = url.split('/').nth(2).unwrap_or_default();
    format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Whether a read or write ended for want of time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Channel {
    /// Sends bytes. A failure is no error here: a proxy may answer and close before it has read
    /// everything, and the reply is what counts.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.write_all(bytes).and_then(|()| self.flush());
    }

    /// Half-closes: no more bytes will be sent.
    pub fn finish(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Reads whatever comes within a time; empty means that the peer closed.
    pub fn receive(&mut self, wait: Duration) -> io::Result<Vec<u8>> {
        self.socket().set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = vec![0; 262_144];
        let length = self.read(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Reads until as many bytes have come, the peer closes or the time is up.
    pub fn receive_exactly(&mut self, length: usize, wait: Duration) -> Vec<u8> {
        let (deadline, mut data) = (Instant::now() + wait, Vec::new());
        while data.len() < length {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left) {
                Ok(part) if part.is_empty() => break,
                Ok(part) => data.extend(part),
                Err(error) if is_timeout(&error) && !left.is_zero() => {}
                Err(_) => break,
            }
        }
        data
    }

    /// Whether the peer ends the connection within a time, whatever it sends before.
    pub fn is_closed_within(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left) {
                Ok(part) if part.is_empty() => return true,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {
                    if left.is_zero() {
                        return false;
                    }
                }
                Err(_) => return true,
            }
        }
    }
}

/// How long a proxy may take to answer a CONNECT, unless the case says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(6);
