//! What the first bytes in a tunnel are: a TLS hello with its claims, an HTTP request, or neither.
//!
//! The hello is read raw, as the origin will read it: a TLS library reports an IP literal as no
//! name at all and hides which of two names it took. Records and segments may cut it anywhere.
//! Lengths that do not add up, anything before or behind the hello in its records, and more than
//! 64 KiB are `Other`; a name that is odd in itself is `Malformed`. Nothing here decides, and once
//! the answer is not `NeedMore`, more bytes do not change it.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

/// What the first bytes of a client have told so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FirstBytes {
    /// Nothing yet.
    NeedMore,
    /// A whole ClientHello.
    Tls(ClientHello),
    /// A method and a space: something that the gate is to judge.
    Http,
    /// Anything else.
    Other,
}

/// What a ClientHello claims in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The server name.
    pub(crate) sni: ClaimedName,
    /// Whether an encrypted ClientHello goes with it, real or GREASE: nobody can tell which.
    pub(crate) ech: bool,
}

/// The server name of a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClaimedName {
    /// There is no such extension.
    Absent,
    /// One name of letters, digits, hyphens and underscores, as it was written.
    Name(String),
    /// The extension is there and names nothing that one origin would serve: no name or several,
    /// an IP literal, a trailing dot, an empty label, other bytes.
    Malformed,
}

/// Tells what `bytes`, all that has come so far, begin with.
pub(crate) fn classify(bytes: &[u8]) -> FirstBytes {
    match bytes.first() {
        None => FirstBytes::NeedMore,
        Some(&HANDSHAKE) => tls(bytes),
        Some(b'A'..=b'Z') => http(bytes),
        Some(_) => FirstBytes::Other,
    }
}

/// Methods are upper-case letters and hyphens here: the banner of SSH must not pass for one.
fn http(bytes: &[u8]) -> FirstBytes {
    match bytes.iter().position(|byte| !matches!(byte, b'A'..=b'Z' | b'-')) {
        Some(length) if length <= METHOD_BYTES && bytes[length] == b' ' => FirstBytes::Http,
        None if bytes.len() <= METHOD_BYTES => FirstBytes::NeedMore,
        Some(_) | None => FirstBytes::Other,
    }
}

fn tls(bytes: &[u8]) -> FirstBytes {
    match message(bytes) {
        Message::Partial => FirstBytes::NeedMore,
        Message::Broken => FirstBytes::Other,
        Message::Whole(hello) => parse(&hello).map_or(FirstBytes::Other, FirstBytes::Tls),
    }
}

/// The body of the first handshake message, put together from its records.
enum Message {
    Partial,
    Whole(Vec<u8>),
    Broken,
}

fn message(bytes: &[u8]) -> Message {
    let mut message = Vec::new();
    let mut at = 0;
    loop {
        let header = &bytes[at..bytes.len().min(at + RECORD_HEADER)];
        // Each byte is judged as soon as it is there; the minor version is to be ignored by all.
        let expected = [HANDSHAKE, TLS_MAJOR];
        if header.iter().zip(expected).any(|(byte, expected)| *byte != expected) {
            return Message::Broken;
        }
        let &[_, _, _, high, low] = header else { return Message::Partial };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let start = at + RECORD_HEADER;
        at = start + length;
        if !(1..=RECORD_BYTES).contains(&length) || at > HELLO_BYTES {
            return Message::Broken;
        }
        let before = message.len();
        message.extend_from_slice(&bytes[start.min(bytes.len())..at.min(bytes.len())]);
        match message.first() {
            None | Some(&CLIENT_HELLO) => {}
            Some(_) => return Message::Broken,
        }
        if let Some(&[_, top, high, low]) = message.first_chunk() {
            let end = MESSAGE_HEADER + u32::from_be_bytes([0, top, high, low]) as usize;
            // A record that goes on after the hello holds something that nobody would look at.
            if end > HELLO_BYTES || before + length > end {
                return Message::Broken;
            }
            if message.len() == end {
                message.drain(..MESSAGE_HEADER);
                return Message::Whole(message);
            }
        }
        if at > bytes.len() {
            return Message::Partial;
        }
    }
}

/// Returns nothing when a length does not add up.
fn parse(hello: &[u8]) -> Option<ClientHello> {
    let mut hello = Reader(hello);
    let _version_and_random = hello.take(2 + 32)?;
    let session = hello.short()?;
    let suites = hello.long()?;
    let compressions = hello.short()?;
    if session.0.len() > 32
        || suites.0.is_empty()
        || suites.0.len() % 2 != 0
        || compressions.0.is_empty()
    {
        return None;
    }
    let mut claims = ClientHello { sni: ClaimedName::Absent, ech: false };
    if hello.0.is_empty() {
        return Some(claims);
    }
    let mut extensions = hello.long()?;
    if !hello.0.is_empty() {
        return None;
    }
    let mut kinds = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        match kind {
            SERVER_NAME if claims.sni == ClaimedName::Absent => claims.sni = name(content),
            SERVER_NAME => claims.sni = ClaimedName::Malformed,
            _ => kinds.push(kind),
        }
    }
    claims.ech = kinds.iter().any(|kind| HIDES_A_NAME.contains(kind));
    kinds.sort_unstable();
    match kinds.windows(2).any(|pair| pair[0] == pair[1]) {
        true => None,
        false => Some(claims),
    }
}

fn name(content: Reader<'_>) -> ClaimedName {
    match only_name(content) {
        Some(name) if is_host(name) => ClaimedName::Name(name.to_owned()),
        Some(_) | None => ClaimedName::Malformed,
    }
}

fn only_name(mut content: Reader<'_>) -> Option<&str> {
    let mut names = content.long()?;
    let kind = names.take(1)?;
    let name = names.long()?;
    let only = kind == [HOST_NAME] && names.0.is_empty() && content.0.is_empty();
    str::from_utf8(name.0).ok().filter(|_| only)
}

fn is_host(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.len() <= NAME_BYTES
        && name.split('.').all(|label| !label.is_empty() && label.bytes().all(allowed))
        && name.parse::<IpAddr>().is_err()
}

/// Bytes still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let &[high, low] = self.take(2)? else { return None };
        Some(u16::from_be_bytes([high, low]))
    }

    /// A vector whose length is one byte.
    fn short(&mut self) -> Option<Self> {
        let &[length] = self.take(1)? else { return None };
        self.take(usize::from(length)).map(Self)
    }

    /// A vector whose length is two bytes.
    fn long(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(usize::from(length)).map(Self)
    }
}

const HANDSHAKE: u8 = 0x16;
const TLS_MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Encrypted ClientHello, its drafts, and the encrypted server name before them.
const HIDES_A_NAME: [u16; 7] = [0xfe0d, 0xfe0c, 0xfe0b, 0xfe0a, 0xfe09, 0xfe08, 0xffce];

const RECORD_HEADER: usize = 5;
const RECORD_BYTES: usize = 1 << 14;
const MESSAGE_HEADER: usize = 4;

/// Of a hello with its record headers.
const HELLO_BYTES: usize = 64 << 10;

const METHOD_BYTES: usize = 32;
const NAME_BYTES: usize = 253;
