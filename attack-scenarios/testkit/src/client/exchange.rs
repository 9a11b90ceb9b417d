//! Segments out, replies in: one conversation over a channel.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Channel, is_timeout};
use crate::http1::{self, Message};

/// Bytes to send, and what to wait for before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What comes first.
    pub wait: Wait,
}

impl Segment {
    /// Returns a segment that is sent at once.
    pub fn now(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), wait: Wait::Nothing }
    }
}

/// What a segment waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    Nothing,
    /// The reply to what was sent before.
    Response,
    /// Time.
    For(Duration),
    /// Nothing; after it the write side is closed.
    Fin,
}

/// How long to listen on after the replies that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// A quarter of a second: another reply would have come.
    Brief,
    /// After a refusal, long enough to see whether the connection is closed.
    UntilClosed,
}

/// What came of a conversation.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Everything that was sent.
    pub sent: Vec<u8>,
    /// Everything that was received.
    pub raw: Vec<u8>,
    /// The final replies, in order; interim ones are only in `raw`.
    pub replies: Vec<Message>,
    /// The proxy closed the connection.
    pub closed: bool,
    /// Nothing came, not even after a half-close.
    pub silent: bool,
}

impl Channel {
    /// Sends the segments as they say and reads the replies.
    pub fn exchange(&mut self, segments: &[Segment], patience: Patience) -> Exchange {
        let due = segments
            .iter()
            .filter(|segment| matches!(segment.wait, Wait::Nothing | Wait::Response))
            .count();
        self.exchange_for(segments, due, patience)
    }

    /// Like [`Channel::exchange`], for a stated number of replies.
    pub fn exchange_for(
        &mut self,
        segments: &[Segment],
        due: usize,
        patience: Patience,
    ) -> Exchange {
        let sent: Vec<u8> = segments.iter().flat_map(|segment| segment.bytes.clone()).collect();
        let methods = methods(&sent);
        let mut heard = Exchange { sent, ..Exchange::default() };
        for (index, segment) in segments.iter().enumerate() {
            match segment.wait {
                Wait::Nothing | Wait::Fin => {}
                Wait::Response => self.hear(&mut heard, &methods, index, Patience::Brief),
                Wait::For(time) => thread::sleep(time),
            }
            self.send(&segment.bytes);
            if segment.wait == Wait::Fin {
                self.finish();
            }
        }
        self.hear(&mut heard, &methods, due, patience);
        heard
    }

    /// Reads until `due` final replies and a pause, the close, or the limit. A proxy that stays
    /// silent gets a half-close, and half as long again, before it counts as silent.
    pub fn hear(
        &mut self,
        heard: &mut Exchange,
        methods: &[Vec<u8>],
        due: usize,
        patience: Patience,
    ) {
        let mut deadline = Instant::now() + LIMIT;
        let mut half_closed = false;
        // Parsed again only when something came: a long answer must not cost its square.
        let mut parsed = None;
        loop {
            if parsed.is_none() || heard.closed {
                heard.replies = finals(&heard.raw, methods, heard.closed);
                parsed = Some(());
            }
            if heard.closed {
                break;
            }
            let done = heard.replies.iter().filter(|reply| reply.complete).count();
            let refused = heard.replies.iter().rfind(|reply| reply.complete);
            let refused = refused.is_some_and(|reply| reply.status() >= 400);
            let mut left = deadline.saturating_duration_since(Instant::now());
            if done >= due {
                left = left.min(match patience {
                    Patience::None => Duration::ZERO,
                    Patience::UntilClosed if refused => UNTIL_CLOSED,
                    Patience::Brief | Patience::UntilClosed => IDLE,
                });
            }
            if left.is_zero() || heard.raw.len() > ENOUGH {
                if done > 0 || half_closed || !heard.raw.is_empty() {
                    break;
                }
                half_closed = true;
                deadline = Instant::now() + LIMIT / 2;
                self.finish();
                continue;
            }
            match self.receive(left) {
                Ok(part) => {
                    heard.closed = part.is_empty();
                    heard.raw.extend(part);
                    parsed = None;
                }
                Err(error) if is_timeout(&error) => {
                    if done >= due {
                        break;
                    }
                }
                Err(_) => heard.closed = true,
            }
        }
        if heard.replies.is_empty()
            && !heard.raw.is_empty()
            && http1::responses(&heard.raw, methods, heard.closed).is_empty()
        {
            let start = heard.raw[..heard.raw.len().min(60)].to_vec();
            heard.replies.push(Message { start, ..Message::default() });
        }
        heard.silent = heard.raw.is_empty() && !heard.closed;
    }
}

/// The methods of the requests in some bytes; `GET` where none can be told.
pub fn methods(sent: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for line in sent.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\r\n") else { continue };
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        if let [method, target, b"HTTP/1.1" | b"HTTP/1.0"] = words[..]
            && !method.is_empty()
            && method.iter().all(u8::is_ascii_uppercase)
            && !target.is_empty()
        {
            found.push(method.to_vec());
        }
    }
    if found.is_empty() { vec![b"GET".to_vec()] } else { found }
}

fn finals(raw: &[u8], methods: &[Vec<u8>], closed: bool) -> Vec<Message> {
    let mut all = http1::responses(raw, methods, closed);
    all.retain(|message| message.status() / 100 != 1 || message.status() == 101);
    all
}

/// A silent proxy is waited for this long.
const LIMIT: Duration = Duration::from_secs(3);
/// Without a byte after the replies that were due.
const IDLE: Duration = Duration::from_millis(250);
/// After a refusal.
const UNTIL_CLOSED: Duration = Duration::from_millis(900);
/// More than this nobody needs for a verdict.
const ENOUGH: usize = 4 << 20;
