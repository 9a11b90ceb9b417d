//! Lines that have their place in the chain and are not written yet.
//!
//! They are what has happened already when writing begins to fail, and they are bounded: what is
//! beyond that is for the ledger to count. Taking from the front moves nothing, so that writing
//! them later costs no more than they are long.

use serde::Serialize;

use crate::record::chain::Chain;

#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    /// What of them is written.
    written: usize,
    /// How many are not.
    lines: u64,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether one more may be kept.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < MOST
    }

    /// Keeps a line as the next of the chain.
    pub(super) fn seal(&mut self, chain: &mut Chain, line: &impl Serialize) {
        // Only when it is half of all: so no byte is moved more than about once.
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        chain.seal(line, &mut self.bytes);
        self.lines += 1;
    }

    /// Returns the next whole lines that are to be written at a time.
    pub(super) fn piece(&self) -> &[u8] {
        let rest = &self.bytes[self.written..];
        let whole = rest[..rest.len().min(PIECE)].iter().rposition(|byte| *byte == b'\n');
        // A line that is longer than a piece is one.
        let end = whole.or_else(|| rest.iter().position(|byte| *byte == b'\n'));
        &rest[..end.map_or(rest.len(), |at| at + 1)]
    }

    /// Forgets what was written from the front.
    pub(super) fn forget(&mut self, length: usize) {
        let forgotten = &self.bytes[self.written..self.written + length];
        self.lines -= forgotten.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.written += length;
        if self.written == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// Bytes that are written at a time: a disk that has a little room takes some.
const PIECE: usize = 16 << 10;
/// Bytes above which nothing is kept.
const MOST: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::line::Line;

    fn line() -> Line {
        Line { path: Some("x".repeat(5000)), ..Line::default() }
    }

    #[test]
    fn what_is_kept_comes_out_in_whole_lines_as_it_went_in() {
        let (mut kept, mut chain) = (Kept::default(), Chain::EMPTY);
        let (mut expected, mut sealed) = (Vec::new(), Chain::EMPTY);
        let mut written = Vec::new();
        for round in 0..50 {
            for _ in 0..3 {
                kept.seal(&mut chain, &line());
                sealed.seal(&line(), &mut expected);
            }
            if round % 3 > 0 {
                let piece = kept.piece().to_vec();
                assert!(piece.ends_with(b"\n") && piece.len() <= PIECE, "{}", piece.len());
                kept.forget(piece.len());
                written.extend(piece);
                let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
                assert_eq!(kept.lines(), (lines(&expected) - lines(&written)) as u64);
            }
        }
        let long = Line { path: Some("y".repeat(3 * PIECE)), ..Line::default() };
        kept.seal(&mut chain, &long);
        sealed.seal(&long, &mut expected);
        while !kept.is_empty() {
            let piece = kept.piece().to_vec();
            kept.forget(piece.len());
            written.extend(piece);
        }
        assert!(written == expected);
    }

    #[test]
    fn no_more_is_kept_than_its_bound() {
        let (mut kept, mut chain) = (Kept::default(), Chain::EMPTY);
        while kept.has_room() {
            kept.seal(&mut chain, &line());
        }
        assert!((MOST..MOST + PIECE).contains(&kept.bytes.len()));
        kept.forget(kept.piece().len());
        assert!(kept.has_room());
    }
}
