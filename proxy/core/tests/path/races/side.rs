//! One end of a connection through the proxy, worker's or origin's, in the hand of the test: it
//! says and hears nothing by itself, and how it ended is told by the kernel.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

/// Long enough for anything that is to come; only a failing test waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Without room for a byte: the reader at the other end has stalled.
const STALLED: Duration = Duration::from_millis(150);

pub(crate) struct Side {
    stream: TcpStream,
    /// The peer has closed its direction, and that was heard.
    finished: bool,
    /// A reset showed when something was said.
    reset: bool,
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A reset came.
    Reset,
    /// The peer closed its direction in good order.
    Finished,
    /// Neither, within the time.
    Open,
}

impl Side {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, finished: false, reset: false }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes that must be taken.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes that may find nobody any more.
    pub(crate) fn try_to_say(&mut self, bytes: &[u8]) {
        // The kernel tells of a reset once, to whoever asks first. A broken pipe is the same, but
        // only where the peer has finished: else it is that this end has.
        if let Err(error) = self.stream.write_all(bytes) {
            self.reset = error.kind() == ErrorKind::ConnectionReset || self.finished;
        }
    }

    /// Sends until nothing more is taken, and returns how much was.
    pub(crate) fn say_until_stalled(&mut self) -> usize {
        // Small, so that what the kernel may hold is soon full.
        SockRef::from(&self.stream).set_send_buffer_size(1 << 16).unwrap();
        self.stream.set_write_timeout(Some(STALLED)).unwrap();
        let mut said = 0;
        loop {
            match self.stream.write(&[b'x'; 1 << 14]) {
                Ok(taken) => said += taken,
                Err(error) if is_timeout(error.kind()) => break,
                Err(error) => panic!("after {said} bytes: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        said
    }

    /// Closes this end's direction.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
    pub(crate) fn break_off(&mut self) {
        rustix::net::connect_unspec(&self.stream).unwrap();
    }

    /// Reads until `last` was heard, and returns everything up to there.
    pub(crate) fn hear(&mut self, last: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(last.as_bytes()) {
            let mut byte = [0];
            self.fill(&mut byte, last, &heard);
            heard.push(byte[0]);
        }
        String::from_utf8(heard).unwrap()
    }

    /// Reads as many bytes as are said to come.
    pub(crate) fn hear_exactly(&mut self, length: usize) -> Vec<u8> {
        let mut heard = vec![0; length];
        self.fill(&mut heard, "so many bytes", &[]);
        heard
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str, heard: &[u8]) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if let Err(error) = self.stream.read_exact(buffer) {
            panic!("waiting for {what:?}, heard {:?}: {error}", String::from_utf8_lossy(heard));
        }
    }

    /// Whether something comes, before the peer ends or nothing has come for long.
    pub(crate) fn hears_something(&mut self) -> bool {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.stream.peek(&mut [0]).is_ok_and(|length| length > 0)
    }

    /// Hears that the peer has closed its direction.
    pub(crate) fn hear_end(&mut self) {
        assert_eq!(self.rest(PATIENCE), (Vec::new(), Fate::Finished));
        self.finished = true;
    }

    /// Reads what is still there, and tells how the connection stands within a time.
    pub(crate) fn rest(&mut self, within: Duration) -> (Vec<u8>, Fate) {
        let (deadline, mut heard) = (Instant::now() + within, Vec::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.reset && self.finished {
                return (heard, Fate::Reset);
            }
            if self.finished {
                // There is nothing left to read: the error of the socket tells of a reset.
                match self.stream.take_error().unwrap() {
                    Some(_) => return (heard, Fate::Reset),
                    None if left.is_zero() => return (heard, Fate::Open),
                    None => thread::sleep(Duration::from_millis(1)),
                }
                continue;
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) if self.reset => return (heard, Fate::Reset),
                Ok(0) => return (heard, Fate::Finished),
                Ok(length) => heard.extend(&buffer[..length]),
                Err(error) if is_timeout(error.kind()) => {
                    if left.is_zero() {
                        return (heard, Fate::Open);
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return (heard, Fate::Reset);
                }
                Err(error) => panic!("after {} bytes: {error}", heard.len()),
            }
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
