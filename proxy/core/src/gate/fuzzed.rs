//! What must hold for the gate whatever bytes come, for the fuzz target and for the bounded test.
//!
//! Everything that is released is read again by a strict reader that shares no code with the gate,
//! and must be what the facts say. How the bytes were cut must make no difference.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Facts, Fault, Gate, GateLimits, HeadFact, gate, read::READ_BYTES};

pub(super) const LIMITS: GateLimits = GateLimits {
    head_bytes: 64 << 10,
    target_bytes: 8 << 10,
    fields: 100,
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(60),
};

/// Panics when the gate releases what a strict reader would not take, or what depends on how the
/// bytes came.
pub fn only_well_formed_messages_pass(bytes: &[u8]) {
    let mut whole = drain(vec![bytes.to_vec()], 8999);
    let (facts, fault) = whole.facts();
    let fine = 1 + bytes.len() / 4096;
    for mut apart in [
        drain(bytes.chunks(fine).map(<[u8]>::to_vec).collect(), fine),
        drain(pieces(bytes), 1 + bytes.len() % 997),
    ] {
        assert_eq!(whole.released, apart.released, "cutting changes what is released");
        assert_eq!((facts.clone(), fault), apart.facts(), "cutting changes the facts");
    }

    let (messages, end) = match strict::read(&whole.released) {
        Ok(read) => read,
        Err(why) => panic!("{why}: {}", whole.released.escape_ascii()),
    };
    assert_eq!(end == strict::End::InABody, fault.is_some(), "{end:?} with {fault:?}");
    assert_eq!(messages.len(), facts.len(), "one fact a message: {facts:?}");
    for (at, (message, fact)) in messages.iter().zip(&facts).enumerate() {
        match fact {
            HeadFact::Passed(head) => {
                assert_eq!((head.method.as_bytes(), head.target.as_bytes()), *message);
            }
            HeadFact::Refused(_) => {
                assert_eq!(message.1, b"http://refused.invalid/");
                assert_eq!(at + 1, facts.len(), "something follows a refusal");
            }
        }
    }

    let tunnels =
        |fact: &HeadFact| matches!(fact, HeadFact::Passed(head) if head.method == "CONNECT");
    if facts.last().is_some_and(tunnels) {
        // The facts have been taken, so this is about the last of them.
        whole.facts.opened();
        whole.released.clear();
        whole.read();
        assert!(bytes.ends_with(&whole.released), "the tunnel's bytes were changed");
    }
}

/// Cuts where the bytes themselves say, so that a case is one string of bytes.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut sum = 0_u32;
    let mut pieces = vec![vec![]];
    for byte in bytes {
        sum = sum.wrapping_mul(31).wrapping_add(u32::from(*byte));
        match pieces.last_mut() {
            Some(piece) if !sum.is_multiple_of(7) => piece.push(*byte),
            Some(_) | None => pieces.push(vec![*byte]),
        }
    }
    pieces
}

/// A stream that gives one piece per read and then ends.
pub(super) struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let count = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A gate that has been read until it gives no more.
pub(super) struct Drained {
    pub(super) gate: Gate<Pieces>,
    pub(super) facts: Facts,
    pub(super) released: Vec<u8>,
    room: usize,
}

/// Reads a gate before these pieces to its end, at most `room` bytes at a time.
pub(super) fn drain(pieces: Vec<Vec<u8>>, room: usize) -> Drained {
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    let (gate, facts) = gate(Pieces(pieces), LIMITS);
    let mut drained = Drained { gate, facts, released: Vec::new(), room };
    drained.read();
    drained
}

impl Drained {
    fn read(&mut self) {
        let mut room = vec![0; self.room];
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let mut buf = ReadBuf::new(&mut room);
            let read = Pin::new(&mut self.gate).poll_read(cx, &mut buf);
            let held = self.gate.inbox.len();
            assert!(held <= LIMITS.head_bytes + READ_BYTES, "the inbox is not bounded");
            match read {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.released.extend(buf.filled());
                }
                Poll::Ready(Ok(())) | Poll::Pending => return,
                Poll::Ready(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// Takes all facts there are.
    pub(super) fn facts(&mut self) -> (Vec<HeadFact>, Option<Fault>) {
        let facts = std::iter::from_fn(|| match self.facts.next() {
            HeadFact::Refused(Fault::Unannounced) => None,
            verdict @ (HeadFact::Passed(_) | HeadFact::Refused(_)) => Some(verdict),
        });
        (facts.collect(), self.facts.body_fault())
    }
}

/// A reader of HTTP/1 requests that forgives nothing.
mod strict {
    /// How the bytes end.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum End {
        BetweenMessages,
        InABody,
    }

    type Message<'a> = (&'a [u8], &'a [u8]);

    /// Returns method and target of each message, or what is wrong.
    pub(super) fn read(mut rest: &[u8]) -> Result<(Vec<Message<'_>>, End), String> {
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let end = find(rest, b"\r\n\r\n").ok_or("a head without an end")?;
            let (message, framing) = head(&rest[..end])?;
            messages.push(message);
            rest = &rest[end + 4..];
            let whole = match framing {
                Framing::Length(length) => match rest.split_at_checked(length) {
                    Some((_, after)) => Some(after),
                    None => return Ok((messages, End::InABody)),
                },
                Framing::Chunked => chunks(rest)?,
            };
            match whole {
                Some(after) => rest = after,
                None => return Ok((messages, End::InABody)),
            }
            if message.0 == b"CONNECT" && !rest.is_empty() {
                return Err("something follows a CONNECT".to_owned());
            }
        }
        Ok((messages, End::BetweenMessages))
    }

    enum Framing {
        Length(usize),
        Chunked,
    }

    fn head(head: &[u8]) -> Result<(Message<'_>, Framing), String> {
        let mut lines = lines(head)?.into_iter();
        let request: Vec<_> =
            lines.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
        let [method, target, version] = request[..] else { return Err("request line".to_owned()) };
        let modern = version == b"HTTP/1.1";
        if !token(method) || method.len() > 32 || target.is_empty() {
            return Err("method or target".to_owned());
        }
        if !target.iter().all(u8::is_ascii_graphic) || !(modern || version == b"HTTP/1.0") {
            return Err("target or version".to_owned());
        }
        let (mut hosts, mut lengths, mut codings) = (0, vec![], vec![]);
        for line in lines {
            let colon = find(line, b":").ok_or("a field without a colon")?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let clean = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            if !token(name) || !line[colon + 1..].iter().all(clean) {
                return Err("a field".to_owned());
            }
            match &name.to_ascii_lowercase()[..] {
                b"host" => hosts += 1,
                b"content-length" => lengths.push(value),
                b"transfer-encoding" => codings.push(value),
                _ => {}
            }
        }
        if hosts > 1 || (modern && hosts == 0) {
            return Err("Host".to_owned());
        }
        let framing = match (&lengths[..], &codings[..]) {
            ([], []) => Framing::Length(0),
            ([length], []) if length.iter().all(u8::is_ascii_digit) => {
                let length = str::from_utf8(length).unwrap_or_default();
                let length = length.parse::<u64>().map_err(|error| error.to_string())?;
                Framing::Length(usize::try_from(length).unwrap_or(usize::MAX))
            }
            ([], [coding]) if modern && coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            (_, _) => return Err("framing".to_owned()),
        };
        Ok(((method, target), framing))
    }

    /// Returns what follows the body, or nothing when it is not whole or was made to fail.
    fn chunks(mut rest: &[u8]) -> Result<Option<&[u8]>, String> {
        loop {
            let Some(end) = find(rest, b"\r\n") else {
                let digits = rest.iter().all(u8::is_ascii_hexdigit);
                return if digits || rest == b"!" || rest == b"0\r" {
                    Ok(None)
                } else {
                    Err("size".into())
                };
            };
            let digits = str::from_utf8(&rest[..end]).unwrap_or_default();
            let size = usize::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
            if format!("{size:x}") != digits {
                return Err(format!("the size {digits}"));
            }
            rest = &rest[end + 2..];
            let Some((_, after)) = rest.split_at_checked(size) else { return Ok(None) };
            match after {
                [b'\r', b'\n', after @ ..] if size == 0 => return Ok(Some(after)),
                [b'\r', b'\n', after @ ..] => rest = after,
                [] | [b'!'] => return Ok(None),
                _ => return Err("the end of a chunk".to_owned()),
            }
        }
    }

    /// Lines end with CR LF, and neither stands anywhere else.
    fn lines(head: &[u8]) -> Result<Vec<&[u8]>, String> {
        let mut lines = vec![];
        let mut rest = head;
        while let Some(end) = find(rest, b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        lines.push(rest);
        match lines.concat().iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            true => Err("a bare CR or LF".to_owned()),
            false => Ok(lines),
        }
    }

    fn token(text: &[u8]) -> bool {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        !text.is_empty() && text.iter().all(allowed)
    }

    fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
        bytes.windows(needle.len()).position(|window| window == needle)
    }
}
