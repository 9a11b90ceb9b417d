//! The writing side: passed through, and watched for the moment when the last answer is out.
//!
//! A connection that is closed while bytes of the client lie unread is reset by the kernel, and the
//! reset may overtake the answer. So after a refusal the gate closes its own direction only and
//! swallows what still comes, within a bound of bytes and of time. A client that takes nothing of
//! its answer for [`STALLED`] is given up: the rule's limits end with the exchange, and its last
//! bytes may be buffered long after that.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{Answer, Gate, State, facts::Ending, framing::After};

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let written = Pin::new(&mut gate.io).poll_write(cx, bytes);
        gate.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let written = Pin::new(&mut gate.io).poll_write_vectored(cx, slices);
        gate.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if let State::Lingering { .. } = gate.state {
            return gate.poll_linger(cx);
        }
        ready!(Pin::new(&mut gate.io).poll_flush(cx))?;
        if gate.answer != Answer::Written {
            return Poll::Ready(Ok(()));
        }
        gate.answer = Answer::Sent;
        // hyper gives up a connection that has ever asked for an upgrade without closing it, so
        // the end cannot wait for `poll_shutdown`.
        match gate.state {
            State::Held(After::Tunnel) if gate.shared.ending() != Ending::Opened => {
                gate.poll_linger(cx)
            }
            State::Refused => gate.poll_linger(cx),
            State::Held(_)
            | State::Head(_)
            | State::Length(_)
            | State::Chunked(_)
            | State::Raw
            | State::BodyFailed
            | State::Lingering { .. }
            | State::Ended => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        match gate.state {
            State::Ended => Poll::Ready(Ok(())),
            State::Raw => Pin::new(&mut gate.io).poll_shutdown(cx),
            State::Head(_) if gate.inbox.is_empty() => Pin::new(&mut gate.io).poll_shutdown(cx),
            State::Head(_)
            | State::Length(_)
            | State::Chunked(_)
            | State::Held(_)
            | State::BodyFailed
            | State::Refused
            | State::Lingering { .. } => gate.poll_linger(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.stalled = None;
            self.note_written(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        ready!(self.stall.poll_until(cx, since + STALLED));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn note_written(&mut self, written: usize) {
        if written == 0 {
            return;
        }
        self.last_write = Instant::now();
        // hyper asks for a head when all earlier answers are out, so this one is the head's own.
        if let State::Held(_) | State::Refused = self.state
            && self.answer == Answer::Due
        {
            self.answer = Answer::Written;
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut swallowed, mut until) = match self.state {
            State::Lingering { swallowed, until } => (swallowed, until),
            State::Head(_)
            | State::Length(_)
            | State::Chunked(_)
            | State::Held(_)
            | State::Raw
            | State::BodyFailed
            | State::Refused
            | State::Ended => (0, None),
        };
        self.inbox = BytesMut::new();
        self.state = State::Lingering { swallowed, until };
        if until.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        let deadline = *until.get_or_insert_with(|| Instant::now() + LINGER_TIME);
        let mut scratch = [const { MaybeUninit::uninit() }; 4096];
        while swallowed < LINGER_BYTES {
            let mut scratch = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(())) if !scratch.filled().is_empty() => {
                    swallowed += scratch.filled().len();
                }
                Poll::Ready(Ok(()) | Err(_)) => break,
                Poll::Pending => {
                    self.state = State::Lingering { swallowed, until };
                    ready!(self.clock.poll_until(cx, deadline));
                    break;
                }
            }
        }
        self.state = State::Ended;
        Poll::Ready(Ok(()))
    }
}

/// As long as the kernel gives a TCP peer that acknowledges nothing; on a Unix socket it would wait
/// for ever.
const STALLED: Duration = Duration::from_secs(600);
const LINGER_BYTES: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);
