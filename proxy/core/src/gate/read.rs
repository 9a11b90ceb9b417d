//! The reading side: what is released to hyper, and when.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::{Answer, Gate, State, chunks::Piece, facts::Ending, fault::Fault, framing::After};

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !gate.outbox.is_empty() {
                release(&mut gate.outbox, buf, usize::MAX);
                if gate.outbox.is_empty() {
                    gate.outbox = Bytes::new();
                }
                return Poll::Ready(Ok(()));
            }
            match &mut gate.state {
                State::Head(scan) => match scan.scan(&mut gate.inbox, &gate.limits) {
                    Ok(Some(head)) => gate.pass(head),
                    Err(fault) => gate.refuse(fault),
                    Ok(None) => match ready!(gate.poll_head(cx, buf))? {
                        HeadRead::Bytes => {}
                        HeadRead::Late => gate.refuse(Fault::Timeout),
                        HeadRead::End => return Poll::Ready(Ok(())),
                    },
                },
                State::Length(0) => gate.state = gate.next_head(),
                State::Length(left) => {
                    let left = *left;
                    let released = ready!(gate.poll_data(cx, buf, left))?;
                    if released == 0 {
                        gate.fail_body(Fault::BodyCutShort, b"");
                    } else {
                        gate.state = State::Length(left - released);
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Chunked(_) => {
                    if ready!(gate.poll_chunks(cx, buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Held(after) => match (gate.shared.ending(), after) {
                    (Ending::Opened, _) => gate.state = State::Raw,
                    (Ending::Unknown | Ending::Awaited | Ending::Refused, After::Upgrade)
                        if gate.answer == Answer::Sent =>
                    {
                        gate.state = gate.next_head();
                    }
                    // Nobody asks for more here before the answer; and after a CONNECT that was
                    // not opened, the answer has ended the connection.
                    (Ending::Unknown | Ending::Awaited | Ending::Refused, _) => {
                        return Poll::Pending;
                    }
                },
                State::Raw if gate.inbox.is_empty() => {
                    return Pin::new(&mut gate.io).poll_read(cx, buf);
                }
                State::Raw => {
                    release(&mut gate.inbox, buf, usize::MAX);
                    gate.shrink();
                    return Poll::Ready(Ok(()));
                }
                // The answer is what hyper has to do next; the writing side goes on from there.
                State::BodyFailed | State::Refused | State::Lingering { .. } => {
                    return Poll::Pending;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// What waiting for more of a head has come to.
enum HeadRead {
    Bytes,
    /// The stream has ended, or nothing has come in time: there is nobody to answer.
    End,
    /// A head was begun and not completed in time.
    Late,
}

impl<S: AsyncRead + Unpin> Gate<S> {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<HeadRead>> {
        if let Poll::Ready(read) = self.poll_fill(cx, buf) {
            return Poll::Ready(Ok(if read? == 0 { HeadRead::End } else { HeadRead::Bytes }));
        }
        if self.inbox.is_empty() && self.shared.ends_idle() {
            return Poll::Ready(Ok(HeadRead::End));
        }
        let deadline = match (self.head_began, self.inbox.is_empty()) {
            (Some(began), _) => began + self.limits.header_timeout,
            (None, false) => *self.head_began.insert(Instant::now()) + self.limits.header_timeout,
            (None, true) => self.last_write + self.limits.idle_timeout,
        };
        ready!(self.clock.poll_until(cx, deadline));
        Poll::Ready(Ok(if self.inbox.is_empty() { HeadRead::End } else { HeadRead::Late }))
    }

    /// Moves data of a body, at most `left` bytes; none means that the stream has ended.
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<u64>> {
        let before = buf.filled().len();
        if self.inbox.is_empty() && left >= buf.remaining() as u64 {
            // All that fits belongs to the body: no need to see it first.
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            if self.inbox.is_empty() {
                ready!(self.poll_fill(cx, buf))?;
            }
            release(&mut self.inbox, buf, usize::try_from(left).unwrap_or(usize::MAX));
            self.shrink();
        }
        Poll::Ready(Ok((buf.filled().len() - before) as u64))
    }

    /// Advances a chunked body; returns whether hyper has been given something, if only its end.
    fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let State::Chunked(chunks) = &mut self.state else { return Poll::Ready(Ok(false)) };
        let piece = match chunks.next(&self.inbox, &self.limits) {
            Ok((read, piece)) => {
                self.inbox.advance(read);
                self.shrink();
                piece
            }
            Err(fault) => {
                // No chunk begins or ends with this, wherever hyper stands.
                self.fail_body(fault, b"!");
                return Poll::Ready(Ok(false));
            }
        };
        match piece {
            Piece::Size(size) => self.outbox = Bytes::from(format!("{size:x}\r\n")),
            Piece::DataEnd => self.outbox = Bytes::from_static(b"\r\n"),
            Piece::End => {
                self.outbox = Bytes::from_static(b"0\r\n\r\n");
                self.state = self.next_head();
            }
            Piece::Data(left) => {
                let released = ready!(self.poll_data(cx, buf, left))?;
                if released == 0 {
                    self.fail_body(Fault::BodyCutShort, b"");
                } else if let State::Chunked(chunks) = &mut self.state {
                    chunks.take(released);
                }
                return Poll::Ready(Ok(true));
            }
            Piece::More => {
                if ready!(self.poll_fill(cx, buf))? == 0 {
                    self.fail_body(Fault::BodyCutShort, b"");
                    return Poll::Ready(Ok(true));
                }
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Reads once into the inbox; zero is the end of the stream. The room behind what `buf` holds
    /// serves as scratch space, so that a connection which waits holds no buffer here.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = buf.take(READ_BYTES);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch))?;
        self.inbox.extend_from_slice(scratch.filled());
        Poll::Ready(Ok(scratch.filled().len()))
    }
}

/// Moves bytes that hyper may see, as many as fit and no more than `limit`.
fn release(from: &mut impl Buf, buf: &mut ReadBuf<'_>, limit: usize) {
    let count = from.remaining().min(buf.remaining()).min(limit);
    buf.put_slice(&from.chunk()[..count]);
    from.advance(count);
}

/// The most that is read at a time, and so the most that is held beyond `GateLimits::head_bytes`.
pub(super) const READ_BYTES: usize = 16 << 10;
