//! What the fields of a head say about where the message ends, and nothing else.
//!
//! Every field that frames, routes or nominates is judged when its line is complete; a second one,
//! a list, a sign or a byte above ASCII in it is refused rather than repaired, because the next
//! parser may repair it otherwise.

use std::ops::Range;

use http::Version;

use super::{
    fault::{Fault, Part},
    fields::{is_token, is_visible, trim},
};

/// The framing facts of one head, gathered line by line.
#[derive(Debug, Default)]
pub(super) struct Framing {
    host: Option<Range<usize>>,
    content_length: Option<u64>,
    chunked: bool,
    expects: bool,
    options: usize,
    upgrade_nominated: bool,
    upgrade_named: bool,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing: the next byte belongs to the next head.
    None,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What comes after a message on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    Request,
    /// The bytes of a tunnel, once CONNECT has been answered with 2xx.
    Tunnel,
    /// Another protocol, once the request has been answered with 101.
    Upgrade,
    /// Nothing: the head was refused.
    Nothing,
}

/// The request line's part in the framing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) connect: bool,
    pub(super) version: Version,
}

impl Framing {
    /// Judges one field. `head` is writable for one repair: see `content_length`.
    pub(super) fn field(
        &mut self,
        line: Line,
        head: &mut [u8],
        name: Range<usize>,
        value: Range<usize>,
    ) -> Result<(), Fault> {
        let value = trim(head, value);
        // Lengths first: nearly all fields are told apart without looking at a byte.
        let named = |known: &[u8]| head[name.clone()].eq_ignore_ascii_case(known);
        match name.len() {
            4 if named(b"host") => self.host(&head[value.clone()], value),
            6 if named(b"expect") => self.expect(line, &head[value]),
            7 if named(b"upgrade") => {
                self.upgrade_named = true;
                Ok(())
            }
            10 if named(b"connection") => self.connection(&head[value]),
            14 if named(b"content-length") => self.content_length(line, &mut head[value]),
            17 if named(b"transfer-encoding") => self.transfer_encoding(line, &head[value]),
            _ => Ok(()),
        }
    }

    /// Ends the head: what follows it, what comes after that, and where its Host is.
    pub(super) fn conclude(
        self,
        line: Line,
    ) -> Result<(Content, After, Option<Range<usize>>), Fault> {
        let modern = line.version == Version::HTTP_11;
        if modern && self.host.is_none() {
            return Err(Fault::HostMissing);
        }
        let content = match self.content_length {
            _ if self.chunked => Content::Chunked,
            None | Some(0) => Content::None,
            Some(length) => Content::Length(length),
        };
        let after = if line.connect {
            After::Tunnel
        } else if modern
            && self.upgrade_named
            && self.upgrade_nominated
            // An upgrade with content is legal and unused: it is an ordinary request here, so
            // that where raw bytes may begin is never a question of where a body ended.
            && content == Content::None
        {
            After::Upgrade
        } else {
            After::Request
        };
        Ok((content, after, self.host))
    }

    fn host(&mut self, value: &[u8], at: Range<usize>) -> Result<(), Fault> {
        if !value.iter().all(|byte| is_visible(*byte)) {
            return Err(Fault::Host);
        }
        match self.host.replace(at) {
            None => Ok(()),
            Some(_) => Err(Fault::HostRepeated),
        }
    }

    fn expect(&mut self, line: Line, value: &[u8]) -> Result<(), Fault> {
        let known = value.eq_ignore_ascii_case(b"100-continue");
        let repeated = std::mem::replace(&mut self.expects, true);
        if known && !repeated && line.version == Version::HTTP_11 {
            Ok(())
        } else {
            Err(Fault::Expect)
        }
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Fault> {
        for option in value.split(|byte| *byte == b',') {
            let option = &option[trim(option, 0..option.len())];
            if !option.iter().all(|byte| is_token(*byte)) {
                return Err(Fault::Connection);
            }
            self.options += 1;
            if self.options > CONNECTION_OPTIONS {
                return Err(Fault::TooLarge { what: Part::ConnectionOptions });
            }
            // Whoever strips what is named here would strip the frame of the message.
            if FRAMING_FIELDS.iter().any(|field| option.eq_ignore_ascii_case(field)) {
                return Err(Fault::FramingNominated);
            }
            self.upgrade_nominated |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    fn content_length(&mut self, line: Line, value: &mut [u8]) -> Result<(), Fault> {
        if line.connect {
            return Err(Fault::ConnectBody);
        }
        if self.content_length.is_some() {
            return Err(Fault::ContentLengthRepeated);
        }
        if self.chunked {
            return Err(Fault::BothLengths);
        }
        if !(1..=LENGTH_DIGITS).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
            return Err(Fault::ContentLength);
        }
        let length = value.iter().fold(0, |length, digit| length * 10 + u64::from(*digit - b'0'));
        // `010` is ten by the grammar and eight to an origin that reads octal: leading zeros become
        // spaces, so that nobody behind the gate sees them.
        let last = value.len() - 1;
        value[..last].iter_mut().take_while(|digit| **digit == b'0').for_each(|zero| *zero = b' ');
        self.content_length = Some(length);
        Ok(())
    }

    fn transfer_encoding(&mut self, line: Line, value: &[u8]) -> Result<(), Fault> {
        if line.connect {
            Err(Fault::ConnectBody)
        } else if line.version != Version::HTTP_11 {
            Err(Fault::TransferEncodingVersion)
        } else if self.chunked {
            Err(Fault::TransferEncodingRepeated)
        } else if self.content_length.is_some() {
            Err(Fault::BothLengths)
        } else if !value.eq_ignore_ascii_case(b"chunked") {
            Err(Fault::TransferEncoding)
        } else {
            self.chunked = true;
            Ok(())
        }
    }
}

const FRAMING_FIELDS: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];

/// Nineteen digits always fit in a `u64`.
const LENGTH_DIGITS: usize = 19;

/// Far above any client; what strips the named fields may then be quadratic without harm.
const CONNECTION_OPTIONS: usize = 64;
