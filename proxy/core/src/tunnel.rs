//! The raw ends of a tunnel: taking over the worker's socket after CONNECT, reading its first
//! bytes, and carrying bytes both ways when nobody is to look inside.
//!
//! Nothing here decides. An idle tunnel holds no buffer: one is taken when bytes are ready and
//! given back when they have moved.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    gate::Gate,
    hello::{self, FirstBytes},
    record::ClosedBy,
    relay::{Bounds, Meter},
    socket::Socket,
};

/// What is moved in one go; also all that one stalled direction holds.
const BUFFER: usize = 32 << 10;
const READ_AHEAD: usize = 4 << 10;

/// The worker's end of a tunnel and the bytes of it that were read already.
pub(crate) struct WorkerEnd {
    pub(crate) socket: Socket,
    pub(crate) early: BytesMut,
}

/// Read from its beginning again: the early bytes first, then what is still to come.
impl AsyncRead for WorkerEnd {
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

impl AsyncWrite for WorkerEnd {
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

/// Takes the socket back from hyper once the 200 has gone out.
pub(crate) async fn take_over(upgrade: OnUpgrade) -> io::Result<WorkerEnd> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<Gate<Socket>>>()
        .map_err(|_| io::Error::other("the connection is not the one that was accepted"))?;
    let (socket, held) = parts.io.into_inner().into_parts();
    let mut early = BytesMut::from(&*parts.read_buf);
    early.extend_from_slice(&held);
    Ok(WorkerEnd { socket, early })
}

/// Reads until the first bytes tell what they are; `NeedMore` when the worker stops before that.
pub(crate) async fn first_bytes(end: &mut WorkerEnd) -> io::Result<FirstBytes> {
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
/// or a limit (`Err`), after which neither end may take what it got for the whole.
pub(crate) async fn pump(
    worker: &Socket,
    origin: &Socket,
    first: &Bytes,
    meter: &Arc<Meter>,
    bounds: Bounds,
) -> Result<ClosedBy, ClosedBy> {
    let ended = OnceLock::new();
    let note = |result: Result<(), ClosedBy>, side: ClosedBy| {
        // Whoever ended first is the one to name.
        let _ = ended.set(result.err().unwrap_or(side));
        result
    };
    let up = async {
        send(origin, first).await.map_err(|_| ClosedBy::Upstream)?;
        meter.add_up(first.len());
        let sides = (ClosedBy::Client, ClosedBy::Upstream);
        let count = |bytes| {
            meter.add_up(bytes);
        };
        note(one_way(worker, origin, sides, count).await, ClosedBy::Client)
    };
    let down = async {
        let sides = (ClosedBy::Upstream, ClosedBy::Client);
        let count = |bytes| {
            meter.add_down(bytes);
        };
        note(one_way(origin, worker, sides, count).await, ClosedBy::Upstream)
    };
    tokio::select! {
        limit = bounds.exceeded(meter.clone()) => Err(limit),
        both = async { tokio::try_join!(up, down) } => {
            both.map(|_| ended.get().copied().unwrap_or(ClosedBy::Client))
        }
    }
}

/// Carries one direction to its end, then passes the end on (half-close).
async fn one_way(
    from: &Socket,
    to: &Socket,
    (reading, writing): (ClosedBy, ClosedBy),
    count: impl Fn(usize),
) -> Result<(), ClosedBy> {
    loop {
        from.readable().await.map_err(|_| reading)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.try_read(&mut buffer) {
                Ok(0) => {
                    // A peer that is gone already need not be told.
                    let _ = to.shut_down_writing();
                    return Ok(());
                }
                Ok(read) => {
                    send(to, &buffer[..read]).await.map_err(|_| writing)?;
                    count(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(reading),
            }
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
