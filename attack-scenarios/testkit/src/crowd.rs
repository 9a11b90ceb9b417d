//! Many clients at once, from one thread: each has sent a prefix of the same script.
//!
//! Nothing blocks, so that thousands of slow or silent clients cost the test a sweep now and then.
//! How and when the proxy ended each connection is noted at the sweep that finds it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Clients that do the same.
#[derive(Debug)]
pub struct Crowd {
    script: Vec<u8>,
    members: Vec<Member>,
}

/// One of them.
#[derive(Debug)]
pub struct Member {
    stream: TcpStream,
    sent: usize,
    opened: Instant,
    /// The first bytes that came.
    pub heard: Vec<u8>,
    /// How many bytes came in all.
    pub received: usize,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
}

/// How the proxy ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How long after it was opened.
    pub after: Duration,
    /// With a reset, not with a FIN.
    pub reset: bool,
}

impl Crowd {
    /// Opens connections, at each of which the first bytes of a script are sent at once.
    pub fn open(
        proxy: SocketAddr,
        count: usize,
        script: Vec<u8>,
        first: usize,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(proxy);
        Self::gather(count, script, first, || {
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            // What is not read is to be the proxy's concern, not kept by the kernel for us.
            socket.set_recv_buffer_size(RECEIVES)?;
            socket.connect_timeout(&proxy.into(), PATIENCE)?;
            Ok(socket.into())
        })
    }

    /// Opens connections from one address of the client's side.
    pub fn open_from(
        from: Ipv4Addr,
        proxy: SocketAddr,
        count: usize,
        script: Vec<u8>,
        first: usize,
    ) -> io::Result<Self> {
        Self::gather(count, script, first, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect_timeout(&proxy.into(), PATIENCE)?;
            Ok(socket.into())
        })
    }

    fn gather(
        count: usize,
        script: Vec<u8>,
        first: usize,
        connect: impl Fn() -> io::Result<TcpStream>,
    ) -> io::Result<Self> {
        let mut crowd = Self { script, members: Vec::with_capacity(count) };
        let begin = Instant::now();
        for number in 0..count {
            // A network delivers them one after another too.
            let due = begin + PACE * u32::try_from(number).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let stream = connect()?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut member = Member {
                stream,
                sent: 0,
                opened: Instant::now(),
                heard: Vec::new(),
                received: 0,
                ended: None,
            };
            member.advance(&crowd.script[..first.min(crowd.script.len())]);
            crowd.members.push(member);
            if number % 100 == 99 {
                crowd.sweep();
            }
        }
        Ok(crowd)
    }

    /// Returns the clients.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns how many connections the proxy has not ended, as of the last sweep.
    pub fn open_count(&self) -> usize {
        self.members.iter().filter(|member| member.ended.is_none()).count()
    }

    /// Sends what the kernel takes of the script up to a position, to everyone; returns how many
    /// have sent that much.
    pub fn advance(&mut self, upto: usize) -> usize {
        let upto = upto.min(self.script.len());
        for member in self.members.iter_mut().filter(|member| member.ended.is_none()) {
            member.advance(&self.script[..upto]);
        }
        self.members.iter().filter(|member| member.sent >= upto).count()
    }

    /// Reads whatever has come, and notes who was ended.
    pub fn sweep(&mut self) {
        self.sip(usize::MAX);
    }

    /// Reads so many bytes of each at most.
    pub fn sip(&mut self, most: usize) {
        let mut buffer = [0; 4096];
        for member in self.members.iter_mut().filter(|member| member.ended.is_none()) {
            let mut left = most;
            while left > 0 && member.ended.is_none() {
                let piece = left.min(buffer.len());
                match member.stream.read(&mut buffer[..piece]) {
                    Ok(0) => member.end(false),
                    Ok(length) => {
                        let room = HEARD.saturating_sub(member.heard.len()).min(length);
                        member.heard.extend(&buffer[..room]);
                        member.received += length;
                        left -= length;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => member.end(true),
                }
            }
        }
    }

    /// Sweeps until a condition holds; false when it does not within the time.
    pub fn wait_until(&mut self, within: Duration, holds: impl Fn(&[Member]) -> bool) -> bool {
        let deadline = Instant::now() + within;
        loop {
            self.sweep();
            if holds(&self.members) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sweeps until all are ended; false when they are not within the time.
    pub fn wait_for_the_end(&mut self, within: Duration) -> bool {
        self.wait_until(within, |members| members.iter().all(|member| member.ended.is_some()))
    }

    /// Returns the longest time that a connection stood before it was ended; `None` while one
    /// stands.
    pub fn longest(&self) -> Option<Duration> {
        let ends: Option<Vec<Duration>> =
            self.members.iter().map(|member| member.ended.map(|ended| ended.after)).collect();
        Some(ends?.into_iter().max().unwrap_or_default())
    }

    /// Returns how many were answered with a status.
    pub fn answered(&self, status: u16) -> usize {
        let words = [format!("HTTP/1.1 {status} "), format!("HTTP/1.0 {status} ")];
        let begins =
            |member: &&Member| words.iter().any(|w| member.heard.starts_with(w.as_bytes()));
        self.members.iter().filter(begins).count()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        for member in &self.members {
            let _ = member.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Ends all with a reset.
    pub fn reset(self) {
        for member in self.members {
            let _ = SockRef::from(&member.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Member {
    fn advance(&mut self, script: &[u8]) {
        while self.sent < script.len() && self.ended.is_none() {
            match self.stream.write(&script[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.end(true),
            }
        }
    }

    fn end(&mut self, reset: bool) {
        self.ended = Some(Ended { after: self.opened.elapsed(), reset });
    }
}

/// The receive buffer of a client.
const RECEIVES: usize = 16 << 10;
/// A thousand connections a second.
const PACE: Duration = Duration::from_millis(1);
/// How many bytes of an answer are kept.
const HEARD: usize = 512;
/// A queue that is full for a moment delays a connection by seconds.
const PATIENCE: Duration = Duration::from_secs(10);
