//! One request head, from its first byte to the empty line.
//!
//! The scan is incremental and strict: CRLF only, exactly one space twice, HTTP/1.0 or HTTP/1.1,
//! no folded lines. One empty line before the request line is skipped (RFC 9112, 2.2), a second one
//! is refused. A head that is passed is one that hyper, `http::Uri` and `http::Method` take as well.
//! What the target means is not judged here.

use std::ops::Range;

use bytes::Bytes;
use http::{Method, Uri, Version};

use super::{
    GateLimits,
    facts::PassedHead,
    fault::{Fault, Part},
    fields::{FieldLines, Step, is_token, is_visible, run},
    framing::{After, Content, Framing, Line},
};

/// Where the scan of one head stands.
#[derive(Debug)]
pub(super) struct HeadScan {
    at: usize,
    state: State,
    start: usize,
    method: Range<usize>,
    target: Range<usize>,
    version: Version,
    fields: FieldLines,
    framing: Framing,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Start,
    EmptyLineLf,
    Method,
    Target,
    /// This many bytes of `HTTP/1.` have been read.
    Version(usize),
    Minor,
    LineCr,
    LineLf,
    Fields,
}

/// A head that is complete and passed.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The bytes to skip before the head: none, or an empty line.
    pub(super) skip: usize,
    /// The length of the head, from the skipped bytes on.
    pub(super) length: usize,
    pub(super) facts: PassedHead,
    pub(super) content: Content,
    pub(super) after: After,
}

impl HeadScan {
    pub(super) fn new(limits: &GateLimits) -> Self {
        Self {
            at: 0,
            state: State::Start,
            start: 0,
            method: 0..0,
            target: 0..0,
            version: Version::HTTP_11,
            fields: FieldLines::new(limits.fields),
            framing: Framing::default(),
        }
    }

    /// Scans what has been added to `inbox` since the last call. `inbox` begins at the head's first
    /// byte every time; `None` asks for more.
    pub(super) fn scan(
        &mut self,
        inbox: &mut [u8],
        limits: &GateLimits,
    ) -> Result<Option<Scanned>, Fault> {
        let end = inbox.len().min(limits.head_bytes);
        let inbox = &mut inbox[..end];
        while let Some(&byte) = inbox.get(self.at) {
            match self.state {
                State::Start => {
                    if byte == b'\r' {
                        self.state = State::EmptyLineLf;
                        self.at += 1;
                    } else {
                        self.state = State::Method;
                    }
                }
                State::EmptyLineLf => {
                    self.expect(byte, b'\n', Fault::LineEnd)?;
                    self.start = self.at;
                    self.state = State::Method;
                }
                State::Method => self.method(inbox)?,
                State::Target => self.target(inbox, limits.target_bytes)?,
                State::Version(read) => {
                    self.expect(byte, VERSION[read], Fault::Version)?;
                    self.state = match read + 1 {
                        read if read < VERSION.len() => State::Version(read),
                        _ => State::Minor,
                    };
                }
                State::Minor => {
                    self.version = match byte {
                        b'0' => Version::HTTP_10,
                        b'1' => Version::HTTP_11,
                        _ => return Err(Fault::Version),
                    };
                    self.at += 1;
                    self.state = State::LineCr;
                }
                State::LineCr => {
                    let fault = if byte == b'\n' { Fault::LineEnd } else { Fault::Version };
                    self.expect(byte, b'\r', fault)?;
                    self.state = State::LineLf;
                }
                State::LineLf => {
                    self.expect(byte, b'\n', Fault::LineEnd)?;
                    // hyper answers a target that `Uri` refuses by itself, without body or record.
                    let target = Bytes::copy_from_slice(&inbox[self.target.clone()]);
                    Uri::from_maybe_shared(target).map_err(|_| Fault::Target)?;
                    self.state = State::Fields;
                }
                State::Fields => match self.fields.scan(inbox, &mut self.at)? {
                    Step::More => {}
                    Step::Field { name, value } => {
                        self.framing.field(self.line(inbox), inbox, name, value)?;
                    }
                    Step::End => return self.conclude(inbox).map(Some),
                },
            }
        }
        if self.at == limits.head_bytes {
            return Err(Fault::TooLarge { what: Part::Head });
        }
        Ok(None)
    }

    /// Returns the method and version of a request whose answer the client of this head, wherever
    /// it broke off, can read: no body for HEAD, no chunks for HTTP/1.0.
    pub(super) fn answerable(&self, inbox: &[u8]) -> (Method, Version) {
        let head = inbox.get(self.method.clone()) == Some(b"HEAD");
        (if head { Method::HEAD } else { Method::GET }, self.version)
    }

    fn expect(&mut self, byte: u8, expected: u8, fault: Fault) -> Result<(), Fault> {
        if byte != expected {
            return Err(fault);
        }
        self.at += 1;
        Ok(())
    }

    fn method(&mut self, inbox: &[u8]) -> Result<(), Fault> {
        self.at = run(inbox, self.at, is_token);
        let length = self.at - self.start;
        if length > METHOD_BYTES {
            return Err(Fault::Method);
        }
        match inbox.get(self.at) {
            None => Ok(()),
            Some(b' ') if length > 0 => {
                self.method = self.start..self.at;
                self.at += 1;
                self.target = self.at..self.at;
                self.state = State::Target;
                Ok(())
            }
            Some(_) => Err(Fault::Method),
        }
    }

    fn target(&mut self, inbox: &[u8], limit: usize) -> Result<(), Fault> {
        self.at = run(inbox, self.at, is_visible);
        self.target.end = self.at;
        if self.target.len() > limit {
            return Err(Fault::TooLarge { what: Part::Target });
        }
        match inbox.get(self.at) {
            None => Ok(()),
            Some(b' ') if !self.target.is_empty() => {
                self.at += 1;
                self.state = State::Version(0);
                Ok(())
            }
            Some(_) => Err(Fault::TargetByte),
        }
    }

    fn line(&self, inbox: &[u8]) -> Line {
        Line { connect: &inbox[self.method.clone()] == b"CONNECT", version: self.version }
    }

    fn conclude(&mut self, inbox: &[u8]) -> Result<Scanned, Fault> {
        let line = self.line(inbox);
        let (content, after, host) = std::mem::take(&mut self.framing).conclude(line)?;
        let facts = PassedHead {
            target: ascii(&inbox[self.target.clone()], Fault::TargetByte)?,
            method: ascii(&inbox[self.method.clone()], Fault::Method)?,
            version: self.version,
            host: host.map(|host| ascii(&inbox[host], Fault::Host)).transpose()?,
        };
        Ok(Scanned { skip: self.start, length: self.at - self.start, facts, content, after })
    }
}

/// Copies bytes that the scan has found to be visible ASCII; the fault is what it would have said.
fn ascii(bytes: &[u8], fault: Fault) -> Result<String, Fault> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| fault)
}

const VERSION: &[u8] = b"HTTP/1.";

/// The longest registered method has 17 bytes.
const METHOD_BYTES: usize = 32;
