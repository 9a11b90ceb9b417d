//! Field lines, byte by byte: the part of the syntax that heads and trailers share.
//!
//! A line is a token, a colon and a value, ended by CRLF; an empty line ends the section. The scan
//! stops at the first byte that cannot stand where it stands, so a verdict depends on the bytes
//! alone and never on how they were cut into segments.

use std::ops::Range;

use super::fault::{Fault, Part};

/// Where a scan of field lines stands. Offsets are those of the slice that is handed in, which
/// must begin at the same byte every time.
#[derive(Debug)]
pub(super) struct FieldLines {
    state: State,
    start: usize,
    colon: usize,
    count: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    LineStart,
    Name,
    Value,
    ValueLf,
    EndLf,
}

/// What a scan has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The bytes ran out.
    More,
    /// One line is complete; its value still has white space at both ends.
    Field { name: Range<usize>, value: Range<usize> },
    /// The empty line has been read.
    End,
}

impl FieldLines {
    /// Starts at the beginning of a line; more than `limit` fields are too many.
    pub(super) fn new(limit: usize) -> Self {
        Self { state: State::LineStart, start: 0, colon: 0, count: 0, limit }
    }

    /// Scans from `at`, which is moved past what was read.
    pub(super) fn scan(&mut self, bytes: &[u8], at: &mut usize) -> Result<Step, Fault> {
        while let Some(&byte) = bytes.get(*at) {
            match self.state {
                State::LineStart => match byte {
                    b'\r' => {
                        self.state = State::EndLf;
                        *at += 1;
                    }
                    b' ' | b'\t' => return Err(Fault::Fold),
                    b'\n' => return Err(Fault::LineEnd),
                    _ if self.count == self.limit => {
                        return Err(Fault::TooLarge { what: Part::Fields });
                    }
                    _ => {
                        self.count += 1;
                        self.start = *at;
                        self.state = State::Name;
                    }
                },
                State::Name => {
                    *at = run(bytes, *at, is_token);
                    let length = *at - self.start;
                    if length > NAME_BYTES {
                        return Err(Fault::TooLarge { what: Part::FieldName });
                    }
                    match bytes.get(*at) {
                        None => {}
                        Some(b':') if length > 0 => {
                            self.colon = *at;
                            self.state = State::Value;
                            *at += 1;
                        }
                        Some(_) => return Err(Fault::FieldName),
                    }
                }
                State::Value => {
                    *at = run(bytes, *at, is_value);
                    match bytes.get(*at) {
                        None => {}
                        Some(b'\r') => {
                            self.state = State::ValueLf;
                            *at += 1;
                        }
                        Some(b'\n') => return Err(Fault::LineEnd),
                        Some(_) => return Err(Fault::FieldValue),
                    }
                }
                State::ValueLf | State::EndLf if byte != b'\n' => return Err(Fault::LineEnd),
                State::ValueLf => {
                    *at += 1;
                    self.state = State::LineStart;
                    let value = self.colon + 1..*at - 2;
                    return Ok(Step::Field { name: self.start..self.colon, value });
                }
                State::EndLf => {
                    *at += 1;
                    return Ok(Step::End);
                }
            }
        }
        Ok(Step::More)
    }
}

/// Returns the first offset from `at` on whose byte is not in the class.
pub(super) fn run(bytes: &[u8], at: usize, class: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|byte| !class(*byte)).map_or(bytes.len(), |length| at + length)
}

/// Returns whether the byte may stand in a token (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// Returns whether the byte is visible ASCII.
pub(super) fn is_visible(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & VISIBLE != 0
}

/// Returns whether the byte may stand in a field value: visible ASCII, space, tab, or a byte above
/// ASCII, which is opaque (RFC 9110, 5.5).
pub(super) fn is_value(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & VALUE != 0
}

/// Returns the range without spaces and tabs at its ends. Nothing else is white space here: form
/// feeds, NEL and NBSP are how a coding is hidden from one of two parsers.
pub(super) fn trim(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    while range.start < range.end && matches!(bytes[range.start], b' ' | b'\t') {
        range.start += 1;
    }
    while range.start < range.end && matches!(bytes[range.end - 1], b' ' | b'\t') {
        range.end -= 1;
    }
    range
}

/// No field that anyone uses has a longer name, and `http::HeaderName` ends at 64 KiB.
const NAME_BYTES: usize = 256;

const TOKEN: u8 = 1;
const VISIBLE: u8 = 2;
const VALUE: u8 = 4;

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut class = 0;
        if matches!(byte as u8,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
        {
            class |= TOKEN;
        }
        if matches!(byte, 0x21..=0x7e) {
            class |= VISIBLE;
        }
        if matches!(byte, 0x09 | 0x20..=0x7e | 0x80..=0xff) {
            class |= VALUE;
        }
        classes[byte] = class;
        byte += 1;
    }
    classes
};
