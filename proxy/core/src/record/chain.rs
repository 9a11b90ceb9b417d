//! The chain: every line carries the hash of the line before it and its own.
//!
//! A line ends in `,"prev":"HEX","hash":"HEX"}`. `hash` is the SHA-256 of the line's bytes before
//! `,"hash":`, so it can be had without a JSON parser; `prev` is the `hash` of the line before, or
//! zeros on the first line of all. Whoever can write the file can write a chain anew: that is what
//! signed heads are for.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::hex;

/// A SHA-256, printed in hex as it stands in the lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LineHash([u8; 32]);

impl LineHash {
    /// What the first line of a chain carries as `prev`.
    pub(super) const ZERO: Self = Self([0; 32]);
    const DIGITS: usize = 64;

    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    fn read(digits: &[u8]) -> Option<Self> {
        hex::read(digits).map(Self)
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::text(&self.0))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a chain has got to: what the next line continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The number of the next line.
    pub(super) seq: u64,
    /// The hash of the line before it.
    pub(super) prev: LineHash,
}

impl Chain {
    /// The chain that has no line yet.
    pub(crate) const EMPTY: Self = Self { seq: 0, prev: LineHash::ZERO };

    /// Appends a record to `bytes` as the next line.
    pub(crate) fn seal(&mut self, record: &impl Serialize, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend(br#"{"seq":"#);
        write_json(&self.seq, bytes);
        let open = bytes.len();
        write_json(record, bytes);
        // The fields go on where the object was begun.
        bytes[open] = b',';
        bytes.pop();
        bytes.extend(PREV);
        hex::write(&self.prev.0, bytes);
        bytes.push(b'"');
        let hash = LineHash::of(&bytes[start..]);
        bytes.extend(HASH);
        hex::write(&hash.0, bytes);
        bytes.extend(END);
        bytes.push(b'\n');
        *self = Self { seq: self.seq + 1, prev: hash };
    }
}

fn write_json(value: &impl Serialize, bytes: &mut Vec<u8>) {
    serde_json::to_writer(bytes, value).expect("a record is strings and numbers alone");
}

/// What the end of a line says.
#[derive(Debug)]
pub(super) struct Seals<'l> {
    /// What `hash` is the hash of.
    pub(super) sealed: &'l [u8],
    pub(super) prev: LineHash,
    pub(super) hash: LineHash,
}

/// Takes a line apart from its end; nothing where that is not as [`Chain::seal`] writes it.
pub(super) fn seals(line: &[u8]) -> Option<Seals<'_>> {
    let line = line.strip_suffix(END)?;
    let (line, hash) = line.split_at_checked(line.len().checked_sub(LineHash::DIGITS)?)?;
    let sealed = line.strip_suffix(HASH)?;
    let line = sealed.strip_suffix(b"\"")?;
    let (line, prev) = line.split_at_checked(line.len().checked_sub(LineHash::DIGITS)?)?;
    line.strip_suffix(PREV)?;
    Some(Seals { sealed, prev: LineHash::read(prev)?, hash: LineHash::read(hash)? })
}

const PREV: &[u8] = br#","prev":""#;
const HASH: &[u8] = br#","hash":""#;
const END: &[u8] = br#""}"#;
