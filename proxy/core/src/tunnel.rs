//! The raw ends of a tunnel: taking over the worker's socket after CONNECT, reading its first
//! bytes, and carrying bytes both ways when nobody is to look inside.
//!
//! Nothing here decides. Bytes are spliced from socket to socket in the kernel where there is a pipe
//! to be had, and copied otherwise. An idle tunnel holds neither pipe nor buffer: one is taken when
//! bytes are ready and given back when they have moved.

use std::{
    io,
    mem::take,
    pin::{Pin, pin},
    sync::OnceLock,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::consume_budget,
    time::sleep,
};

use self::splice::Pipe;

use crate::{
    gate::Gate,
    hello::{self, FirstBytes},
    record::ClosedBy,
    relay::{Bounds, Meter},
    socket::Socket,
};

mod splice;

/// What is moved in one go; also all that one stalled direction holds.
const BUFFER: usize = 32 << 10;
const READ_AHEAD: usize = 4 << 10;
/// How long the last bytes of an origin that has reset may take to reach the worker.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One end of a tunnel and the bytes of it that were read already.
pub(crate) struct End {
    pub(crate) socket: Socket,
    pub(crate) early: BytesMut,
}

/// Read from its beginning again: the early bytes first, then what is still to come.
impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let moved = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..moved]);
        self.early.advance(moved);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Takes the worker's socket back from hyper once the 200, or the 101, has gone out.
pub(crate) async fn take_over(upgrade: OnUpgrade) -> io::Result<End> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    match upgraded.downcast::<TokioIo<Gate<Socket>>>() {
        Ok(parts) => {
            let (socket, held) = parts.io.into_inner().into_parts();
            Ok(End::joined(socket, [&*parts.read_buf, &*held]))
        }
        // A protocol that begins inside a tunnel.
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<Gate<End>>>().map_err(|_| stranger())?;
            let (end, held) = parts.io.into_inner().into_parts();
            Ok(End::joined(end.socket, [&*parts.read_buf, &*held, &*end.early]))
        }
    }
}

/// Takes the origin's socket back from hyper after its 101.
pub(crate) async fn take_over_origin(upgrade: OnUpgrade) -> io::Result<End> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded.downcast::<TokioIo<Socket>>().map_err(|_| stranger())?;
    Ok(End::joined(parts.io.into_inner(), [&*parts.read_buf]))
}

impl End {
    /// Joins a socket with what was read of it, in that order.
    fn joined<const N: usize>(socket: Socket, early: [&[u8]; N]) -> Self {
        Self { socket, early: BytesMut::from(&*early.concat()) }
    }
}

fn stranger() -> io::Error {
    io::Error::other("the connection is not the one that was accepted")
}

/// Reads until the first bytes tell what they are; `NeedMore` when the worker stops before that.
pub(crate) async fn first_bytes(end: &mut End) -> io::Result<FirstBytes> {
    loop {
        let told = hello::classify(&end.early);
        if !matches!(told, FirstBytes::NeedMore) {
            return Ok(told);
        }
        end.socket.readable().await?;
        end.early.reserve(READ_AHEAD);
        match end.socket.try_read_buf(&mut end.early) {
            Ok(0) => return Ok(FirstBytes::NeedMore),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Carries bytes both ways until both ends have closed (`Ok`, with who was first), or until a fault
/// or a limit (`Err`), after which neither end may take what it got for the whole: the caller cuts
/// while it still has the sockets.
pub(crate) async fn pump(
    worker: &mut End,
    origin: &mut End,
    meter: &Meter,
    bounds: Bounds,
) -> Result<ClosedBy, ClosedBy> {
    let (up_early, down_early) = (take(&mut worker.early), take(&mut origin.early));
    let (worker, origin) = (&worker.socket, &origin.socket);
    let ended = OnceLock::new();
    let note = |result: Result<(), ClosedBy>, side: ClosedBy| {
        // Whoever ended first is the one to name.
        let _ = ended.set(result.err().unwrap_or(side));
        result
    };
    let up = async {
        let pass = |bytes| meter.pass_up(bytes);
        let way = Direction { from: (worker, ClosedBy::Client), to: (origin, ClosedBy::Upstream) };
        note(way.carry(up_early, pass).await, ClosedBy::Client)
    };
    let down = async {
        let pass = |bytes| meter.pass_down(bytes);
        let way = Direction { from: (origin, ClosedBy::Upstream), to: (worker, ClosedBy::Client) };
        note(way.carry(down_early, pass).await, ClosedBy::Upstream)
    };
    // Pinned here, so that joining them does not hold each a second time.
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (at_worker, at_origin) = (worker.watch(), origin.watch());
    tokio::select! {
        limit = bounds.exceeded(meter) => Err(limit),
        // While a direction waits for room at its other end, it does not read the reset.
        () = at_worker.reset() => Err(ClosedBy::Client),
        // What an origin said before it reset is still to be delivered.
        () = async { at_origin.reset().await; sleep(LAST_WORDS).await } => Err(ClosedBy::Upstream),
        both = async { tokio::try_join!(up.as_mut(), down.as_mut()) } => {
            both.map(|_| ended.get().copied().unwrap_or(ClosedBy::Client))
        }
    }
}

/// One direction of a tunnel: each end with whose fault a failure there is.
struct Direction<'a> {
    from: (&'a Socket, ClosedBy),
    to: (&'a Socket, ClosedBy),
}

impl Direction<'_> {
    /// Carries what there is to its end, then passes the end on (half-close). `pass` is asked how
    /// many of the bytes at hand may go on; where that is not all of them, they are the last.
    async fn carry(self, early: BytesMut, pass: impl Fn(usize) -> usize) -> Result<(), ClosedBy> {
        let Self { from: (from, reading), to: (to, writing) } = self;
        from.unless_cut().await;
        let passed = pass(early.len());
        send(to, &early[..passed]).await.map_err(|_| writing)?;
        if passed < early.len() {
            return Err(ClosedBy::Limit);
        }
        drop(early);
        loop {
            from.readable().await.map_err(|_| reading)?;
            let moved = match Pipe::take() {
                Some(pipe) => pipe.move_all(from, to, &pass).await,
                None => copy_all(from, to, &pass).await,
            };
            match moved {
                Ok(Moved::All) => {}
                Ok(Moved::End) => {
                    // A peer that is gone already need not be told.
                    let _ = to.shut_down_writing();
                    return Ok(());
                }
                Err(Fault::Reading) => return Err(reading),
                Err(Fault::Writing) => return Err(writing),
                Err(Fault::Spent) => return Err(ClosedBy::Limit),
            }
        }
    }
}

/// Where a direction stands when there is nothing to be read.
enum Moved {
    /// More may come.
    All,
    /// The end has come.
    End,
}

/// Why moving ended before the bytes did.
enum Fault {
    Reading,
    Writing,
    /// No more may go on.
    Spent,
}

/// Moves what there is by way of a buffer, which is given back when it has moved.
async fn copy_all(
    from: &Socket,
    to: &Socket,
    pass: impl Fn(usize) -> usize,
) -> Result<Moved, Fault> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.try_read(&mut buffer) {
            Ok(0) => return Ok(Moved::End),
            Ok(read) => {
                from.unless_cut().await;
                let passed = pass(read);
                send(to, &buffer[..passed]).await.map_err(|_| Fault::Writing)?;
                if passed < read {
                    return Err(Fault::Spent);
                }
                consume_budget().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::All),
            Err(_) => return Err(Fault::Reading),
        }
    }
}

async fn send(to: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
