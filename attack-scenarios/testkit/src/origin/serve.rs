//! One connection of an origin, from its first byte to its end.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};

use super::{Answer, Connection, Identity, Plan, Service, Step, Toxic, reset};
use crate::http1;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// After a scripted answer: time enough for a wrong reuse to show.
const LINGER: Duration = Duration::from_millis(600);
/// Between the last byte and a reset.
const BEFORE_RESET: Duration = Duration::from_millis(100);

/// Serves a connection as planned. Faults end it, and the log says what came until then.
pub(super) fn connection(plan: &Plan, connection: &Connection) {
    let _ = serve(plan, connection);
    if let Some(Toxic::SlowClose(late)) = plan.toxics.get(&connection.to.ip()) {
        thread::sleep(*late);
    }
    let _ = connection.socket.shutdown(Shutdown::Both);
}

fn serve(plan: &Plan, connection: &Connection) -> io::Result<()> {
    let mut tee = Tee {
        connection: connection.clone(),
        again: Vec::new(),
        forgets: plan.forgets,
        toxic: plan.toxics.get(&connection.to.ip()).copied(),
        passed: 0,
    };
    connection.socket.set_read_timeout(Some(IDLE))?;
    if plan.hang.contains(&connection.to.ip()) {
        return sink(&mut tee);
    }
    match plan.services.get(&connection.to.port()) {
        Some(Service::Sink) => return sink(&mut tee),
        Some(Service::Echo) => return echo(&mut tee),
        Some(Service::Banner(banner)) => {
            tee.write_all(banner)?;
            return echo(&mut tee);
        }
        None => {}
    }
    let mut first = vec![0; 65536];
    let length = tee.read(&mut first)?;
    first.truncate(length);
    let tls = first.first() == Some(&0x16);
    match &plan.identity {
        Identity::Plaintext if connection.to.port() == 443 => {
            return tee.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        Identity::Reset if tls => {
            reset(&connection.socket);
            return Ok(());
        }
        Identity::Alert if tls => return tee.write_all(&[0x15, 3, 1, 0, 2, 2, 70]),
        Identity::Certified(config) if tls && connection.to.port() != 80 => {
            tee.again = first;
            let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(session, tee);
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            connection.log().tls = true;
            let done = http(plan, connection, &mut stream, Vec::new());
            stream.conn.send_close_notify();
            let _ = stream.flush();
            return done;
        }
        Identity::Plaintext | Identity::Reset | Identity::Alert | Identity::Certified(_) => {}
    }
    http(plan, connection, &mut tee, first)
}

/// Reads requests and answers each; `data` are bytes that have been read already.
fn http(
    plan: &Plan,
    connection: &Connection,
    stream: &mut (impl Read + Write),
    data: Vec<u8>,
) -> io::Result<()> {
    let (mut plain, mut fresh) = (Vec::new(), data);
    let (mut answered, mut continued) = (0, false);
    let mut buffer = vec![0; 65536];
    loop {
        plain.extend(&fresh);
        if connection.is_tls() {
            connection.log().plain.extend(&fresh);
        }
        let messages = http1::requests(&plain);
        let due = messages.iter().filter(|message| message.complete || plan.early);
        for message in due.skip(answered) {
            answered += 1;
            continued = false;
            let keep = match &plan.answer {
                Answer::Ok => stream.write_all(ok(message)).map(|()| Keep::Open)?,
                Answer::With(steps) => play(&steps(message), connection, stream)?,
                Answer::Script(steps) => {
                    play(steps, connection, stream)?;
                    connection.socket.set_read_timeout(Some(LINGER))?;
                    let length = stream.read(&mut buffer)?;
                    if connection.is_tls() {
                        connection.log().plain.extend(&buffer[..length]);
                    }
                    Keep::Ended
                }
            };
            if keep == Keep::Ended {
                return Ok(());
            }
        }
        if plan.forgets && answered == messages.len() {
            plain.clear();
            answered = 0;
        }
        let waiting = messages.last().filter(|message| !message.complete);
        if waiting.is_some_and(|message| !message.values("expect").is_empty())
            && !continued
            && !plan.early
        {
            continued = true;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        fresh = buffer[..length].to_vec();
    }
}

#[derive(PartialEq, Eq)]
enum Keep {
    Open,
    Ended,
}

fn ok(message: &http1::Message) -> &'static [u8] {
    if message.method() == b"HEAD" {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    }
}

fn play(steps: &[Step], connection: &Connection, stream: &mut impl Write) -> io::Result<Keep> {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                stream.write_all(bytes)?;
                stream.flush()?;
            }
            Step::Repeat(bytes, count) => {
                for _ in 0..*count {
                    stream.write_all(bytes)?;
                }
            }
            Step::Wait(time) => thread::sleep(*time),
            Step::Close => return Ok(Keep::Ended),
            Step::Reset => {
                reset(&connection.socket);
                return Ok(Keep::Ended);
            }
        }
    }
    Ok(Keep::Open)
}

fn echo(stream: &mut Tee) -> io::Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

fn sink(stream: &mut Tee) -> io::Result<()> {
    let mut buffer = vec![0; 65536];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// The socket, with every byte that is read from it logged; `again` is read once more first.
struct Tee {
    connection: Connection,
    again: Vec<u8>,
    forgets: bool,
    toxic: Option<Toxic>,
    /// Bytes written until now.
    passed: usize,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.again.is_empty() {
            let length = self.again.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.again[..length]);
            self.again.drain(..length);
            return Ok(length);
        }
        let mut socket: &TcpStream = &self.connection.socket;
        let length = socket.read(buffer)?;
        if !self.forgets {
            self.connection.log().wire.extend(&buffer[..length]);
        }
        Ok(length)
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut socket: &TcpStream = &self.connection.socket;
        let (most, pause) = match self.toxic {
            None | Some(Toxic::SlowClose(_)) => (bytes.len(), Duration::ZERO),
            Some(Toxic::Bandwidth(rate)) => {
                let piece = (rate / 20).clamp(1, bytes.len().max(1));
                (piece, Duration::from_secs_f64(piece as f64 / rate.max(1) as f64))
            }
            Some(Toxic::Latency(time)) => {
                thread::sleep(time);
                (bytes.len(), Duration::ZERO)
            }
            Some(Toxic::Slices(size, pause)) => (size.clamp(1, bytes.len().max(1)), pause),
            Some(Toxic::LimitData(limit) | Toxic::ResetAfter(limit)) => {
                let left = limit.saturating_sub(self.passed);
                if left == 0 {
                    if matches!(self.toxic, Some(Toxic::ResetAfter(_))) {
                        // What was sent before must have a chance to arrive.
                        thread::sleep(BEFORE_RESET);
                        reset(socket);
                    }
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                (left.min(bytes.len()), Duration::ZERO)
            }
        };
        let length = socket.write(&bytes[..most])?;
        self.passed += length;
        thread::sleep(pause);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
