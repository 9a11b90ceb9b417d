//! A TCP socket that belongs to one client connection and dies with it.
//!
//! When the connection was cut, dropping the socket resets it: the peer learns at once, and what
//! the kernel still held is discarded rather than delivered late.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::live::Cut;

/// A peer that is gone without a word is noticed within about this time, twice over.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A peer that takes none of what is there for it is given up by the kernel, whatever else waits:
/// the last bytes of an answer have no exchange left to time them.
#[cfg(target_os = "linux")]
const STALLED: Duration = Duration::from_secs(600);

pub(crate) struct Socket {
    stream: TcpStream,
    cut: Cut,
}

impl Socket {
    /// Takes over a connected stream; `cut` is the token of the client connection it serves.
    pub(crate) fn new(stream: TcpStream, cut: Cut) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        SockRef::from(&stream).set_tcp_user_timeout(Some(STALLED))?;
        Ok(Self { stream, cut })
    }

    /// Returns the stream, for readiness and vectored use; it stays owned here.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.cut.by().is_some() {
            // Linger of zero: close sends RST and drops what was not yet delivered (RFC 9293, 3.10.5).
            if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "a cut connection could not be reset");
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
