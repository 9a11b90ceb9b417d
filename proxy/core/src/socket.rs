//! A socket that belongs to one client connection and dies with it.
//!
//! When the connection was cut, dropping the socket resets it: the peer learns at once, and what
//! the kernel still held is discarded rather than delivered late. A [`Watch`] sees the peer's own
//! reset while nobody reads, as hyper does not while an answer is awaited.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::live::Cut;

/// A peer that is gone without a word is noticed within about this time, twice over.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A peer that takes none of what is there for it is given up by the kernel, whatever else waits:
/// the last bytes of an answer have no exchange left to time them.
#[cfg(target_os = "linux")]
const STALLED: Duration = Duration::from_secs(600);

/// A connected stream of either kind.
#[allow(dead_code, reason = "listeners on Unix sockets take the second kind")]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method that both kinds of stream have.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

pub(crate) struct Socket {
    stream: Arc<Stream>,
    cut: Cut,
}

impl Socket {
    /// Takes over a connected stream; `cut` is the token of whatever it must not outlive.
    pub(crate) fn new(stream: Stream, cut: Cut) -> io::Result<Self> {
        match &stream {
            Stream::Tcp(tcp) => {
                tcp.set_nodelay(true)?;
                // An urgent byte is a byte like any other here, at its place.
                SockRef::from(tcp).set_out_of_band_inline(true)?;
                let keepalive =
                    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
                SockRef::from(tcp).set_tcp_keepalive(&keepalive)?;
                #[cfg(target_os = "linux")]
                SockRef::from(tcp).set_tcp_user_timeout(Some(STALLED))?;
            }
            // The kernel knows when a peer on the same machine is gone.
            Stream::Unix(_) => {}
        }
        Ok(Self { stream: Arc::new(stream), cut })
    }

    /// Waits until there is something to read, or the end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        either!(&*self.stream, stream => stream.readable().await)
    }

    /// Waits until something can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        either!(&*self.stream, stream => stream.writable().await)
    }

    /// Runs a system call on the socket that is ready for it; `WouldBlock` ends the readiness.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        either!(&*self.stream, stream => stream.try_io(interest, call))
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(&*self.stream, stream => stream.try_read(buffer))
    }

    pub(crate) fn try_read_buf(&self, buffer: &mut impl bytes::BufMut) -> io::Result<usize> {
        either!(&*self.stream, stream => stream.try_read_buf(buffer))
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(&*self.stream, stream => stream.try_write(bytes))
    }

    /// Goes on unless a cut was made; then never, since what waits here is being dropped. Asked when
    /// bytes have been read and before they are sent, so that none which came after the cut go on,
    /// although the task may have been at work when it was made.
    pub(crate) async fn unless_cut(&self) {
        if self.cut.is_made() {
            std::future::pending().await
        }
    }

    /// Whether there are bytes to be read.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_bytes(&self) -> bool {
        peek(&self.stream).is_ok_and(|bytes| bytes > 0)
    }

    /// Closes our direction only; what was cut is reset instead, when it is dropped.
    pub(crate) fn shut_down_writing(&self) -> io::Result<()> {
        if self.cut.is_made() {
            return Ok(());
        }
        SockRef::from(&self.as_fd()).shutdown(Shutdown::Write)
    }

    /// Makes the socket die with something else than it was made for.
    pub(crate) fn handed_to(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    /// Returns what sees the peer's reset.
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.stream.clone())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(&*self.stream, stream => stream.as_fd())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.cut.by().is_some() {
            reset_on_close(&self.stream);
        }
    }
}

/// Linger of zero: close sends RST and drops what was not yet delivered (RFC 9293, 3.10.5).
fn reset_on_close(stream: &Stream) {
    // A Unix peer is told by the close itself.
    let Stream::Tcp(stream) = stream else { return };
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a cut connection could not be reset");
    }
}

/// Sees a peer's reset without reading.
pub(crate) struct Watch(Arc<Stream>);

impl Watch {
    /// Returns when the peer has reset the connection, or the kernel has given it up. A peer that
    /// has only closed its direction still waits for its answer.
    pub(crate) async fn reset(&self) {
        let ready = either!(&*self.0, stream => stream.ready(Interest::ERROR).await);
        if let Err(error) = ready {
            // The runtime is shutting down; there is nothing left to watch.
            tracing::debug!(%error, "watch a socket");
            std::future::pending::<()>().await;
        }
    }
}

impl Watch {
    /// Whether there is nothing to be read, not even the end.
    pub(crate) fn is_quiet(&self) -> bool {
        peek(&self.0) == Err(Errno::WOULDBLOCK)
    }
}

/// Looks whether there is a byte to be read: zero is the end.
fn peek(stream: &Stream) -> rustix::io::Result<usize> {
    let mut byte = [0; 1];
    let descriptor = either!(stream, stream => stream.as_fd());
    Ok(recv(descriptor, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(either!(&*self.stream, stream => stream.poll_read_ready(cx)))?;
            match self.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl Socket {
    fn poll_try_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(&*self.stream, stream => stream.poll_write_ready(cx)))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |stream| either!(stream, stream => stream.try_write(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(
            cx,
            |stream| either!(stream, stream => stream.try_write_vectored(slices)),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has whatever was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down_writing())
    }
}
