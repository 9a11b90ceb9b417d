//! Judges a chain, line by line: what was changed, removed, added, moved or cut.
//!
//! Pure over bytes, in constant memory. One line is held against the one before it, a signed head
//! against all before it. After a fault the next line is judged by what the faulty one states, so
//! that one change is one fault and not one in every line after it. What follows the last signed
//! head is only as good as the file: whoever can write it can cut it there, or write it anew.

use std::io::{self, BufRead, Read};

use super::{
    chain::{Chain, LineHash},
    event::Event,
    head::{PublicKey, Removal},
    strict::{self, Said, StrictLine},
};

/// The longest line that is read; egret writes none that is near it.
pub const LONGEST: usize = 1 << 20;

/// What is wrong with a line, or with the chain as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a line as egret writes it.
    #[error("this is not a record: {0}")]
    Syntax(String),
    /// The bytes are not those that were hashed.
    #[error("the line was changed: its bytes have the hash {found}, and it says {stated}")]
    Hash {
        /// What the line says.
        stated: LineHash,
        /// What its bytes have.
        found: LineHash,
    },
    /// The number is not that of the next line.
    #[error("line {expected} of the chain belongs here, and this is line {found}")]
    Seq {
        /// What the line before asks for.
        expected: u64,
        /// What the line says.
        found: u64,
    },
    /// The line continues another one than that before it.
    #[error("the line does not continue the one before it: its `prev` is not that one's hash")]
    Prev,
    /// A signed head whose signature is not that of its key over the line before, or a removal
    /// whose signature is not that of its key over what it says.
    #[error("the signature of this line is missing or not valid")]
    Signature,
    /// A signed line under another key than those before.
    #[error("this line is signed under key {found}, and those before under {before}")]
    Key {
        /// The key up to here.
        before: PublicKey,
        /// The key of this line.
        found: PublicKey,
    },
    /// The last line of a file has no end.
    #[error("the last line is torn after {bytes} bytes: egret crashed here, or the file was cut")]
    Torn {
        /// Bytes after the last line feed.
        bytes: u64,
    },
    /// The chain begins later than it should, and no record says why.
    #[error(
        "the chain begins with line {seq}, and no record says that those before were removed by age"
    )]
    Beginning {
        /// The first line there is.
        seq: u64,
    },
    /// There is no line at all.
    #[error("there are no records")]
    Empty,
    /// The chain does not reach the head that was kept.
    #[error("line {seq}, the signed head that was kept, is not in the chain")]
    HeadMissing {
        /// The number of that line.
        seq: u64,
    },
    /// The head that was kept is older than what is.
    #[error(
        "line {seq}, the signed head that was kept, was removed by age since: it shows nothing of \
         the lines that are left; keep a newer one"
    )]
    HeadRemoved {
        /// The number of that line.
        seq: u64,
    },
    /// The chain has another line in the place of the head that was kept.
    #[error("this line is not the signed head that was kept: the chain was written anew")]
    HeadDiffers,
}

impl Fault {
    /// Returns the word for it, which is public interface.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::Hash { .. } => "hash",
            Self::Seq { .. } => "seq",
            Self::Prev => "prev",
            Self::Signature => "signature",
            Self::Key { .. } => "key",
            Self::Torn { .. } => "torn",
            Self::Beginning { .. } => "beginning",
            Self::Empty => "empty",
            Self::HeadMissing { .. } => "head_missing",
            Self::HeadRemoved { .. } => "head_removed",
            Self::HeadDiffers => "head_differs",
        }
    }
}

/// A signed head, kept apart from the chain that it is of.
#[derive(Debug, Clone)]
pub struct KeptHead {
    seq: u64,
    hash: LineHash,
    key: PublicKey,
}

impl KeptHead {
    /// Reads the line of a head, with or without its line feed; refuses one that is not signed.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let strict = intact(line)?;
        match signed(&strict)? {
            Some(key) => Ok(Self { seq: strict.said.seq, hash: strict.hash, key }),
            None => Err(Fault::Syntax("it is not a signed head".to_owned())),
        }
    }

    /// Returns the number of its line in the chain.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the key that has signed it.
    pub fn key(&self) -> PublicKey {
        self.key
    }
}

/// Judges the lines of one chain.
#[derive(Debug, Default)]
pub struct Verifier {
    /// Where the next line goes on; unknown before the first line, and after what is none.
    next: Option<Chain>,
    begin: Option<Chain>,
    /// Whether a record says that what was before `begin` was removed.
    begin_explained: bool,
    key: Option<PublicKey>,
    lines: u64,
    heads: u64,
    since_head: u64,
    /// The number of the last head.
    last_head: Option<u64>,
    /// Heads that are still to be found.
    sought: Vec<KeptHead>,
}

/// What a chain holds.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Lines in all.
    pub lines: u64,
    /// Signed heads among them.
    pub heads: u64,
    /// Lines after the last signed head: nothing but the file itself vouches for them.
    pub since_head: u64,
    /// The number of the first line.
    pub first: Option<u64>,
    /// Whether a signed record says that what was before it was removed by age.
    pub removed: bool,
    /// The number and the hash of the last line.
    pub last: Option<(u64, LineHash)>,
    /// The key that has signed the heads.
    pub key: Option<PublicKey>,
}

/// What the first line that was read is the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Of a whole record: what was before it must have been removed by age.
    Whole,
    /// Of what was given; what was before is not judged.
    Part,
}

impl Verifier {
    /// Judges a chain that must hold these heads, and be signed under the key of the first.
    pub fn expecting(heads: Vec<KeptHead>) -> Self {
        Self { key: heads.first().map(KeptHead::key), sought: heads, ..Self::default() }
    }

    /// Whether no line was judged yet.
    pub fn is_new(&self) -> bool {
        self.lines == 0
    }

    /// Judges the lines of the next file. Tells each fault with the number of its line; fails only
    /// where reading does.
    pub fn file(
        &mut self,
        mut file: impl BufRead,
        mut tell: impl FnMut(u64, Fault),
    ) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // One byte more than the longest line and its end.
            let length = file.by_ref().take(LONGEST as u64 + 2).read_until(b'\n', &mut line)?;
            let fault = match line.strip_suffix(b"\n") {
                _ if length == 0 => break,
                Some(line) => self.line(line).err(),
                None if length > LONGEST => {
                    skip_line(&mut file)?;
                    self.next = None;
                    Some(Fault::Syntax(format!("it is longer than {LONGEST} bytes")))
                }
                None => Some(Fault::Torn { bytes: length as u64 }),
            };
            if let Some(fault) = fault {
                tell(number, fault);
            }
        }
        Ok(())
    }

    /// Judges the next line, without its line feed.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.lines += 1;
        self.since_head += 1;
        let strict = strict::read(line).map_err(|message| {
            self.next = None;
            Fault::Syntax(message)
        })?;
        let StrictLine { said: Said { seq, .. }, prev, hash, .. } = strict;
        let here = Chain { seq, prev };
        let begin = *self.begin.get_or_insert(here);
        // The line states what the next one continues, whether or not it should be here.
        let expected = self.next.replace(Chain { seq: seq.wrapping_add(1), prev: hash });
        let differs = self.sought.iter().any(|head| head.seq == seq && head.hash != hash);
        self.sought.retain(|head| head.seq != seq);
        is_intact(&strict)?;
        match expected {
            Some(expected) if expected.seq != seq => {
                return Err(Fault::Seq { expected: expected.seq, found: seq });
            }
            Some(expected) if expected.prev != prev => return Err(Fault::Prev),
            // Only the first line of all continues nothing.
            None if (seq == 0) != (prev == LineHash::ZERO) => return Err(Fault::Prev),
            Some(_) | None => {}
        }
        if differs {
            return Err(Fault::HeadDiffers);
        }
        if let Some(key) = signed(&strict)? {
            self.heads += 1;
            self.since_head = 0;
            self.last_head = Some(seq);
            self.under(key)?;
        }
        if let Some((key, removal)) = removed(&strict)? {
            self.under(key)?;
            self.begin_explained |=
                removal.begins_at == begin.seq && removal.begins_after == begin.prev.to_string();
        }
        Ok(())
    }

    /// Judges the key that has signed a line.
    fn under(&mut self, key: PublicKey) -> Result<(), Fault> {
        let before = *self.key.get_or_insert(key);
        match before == key {
            true => Ok(()),
            false => Err(Fault::Key { before, found: key }),
        }
    }

    /// Judges the chain as a whole, once all of its lines were.
    pub fn finish(self, extent: Extent) -> (Verified, Vec<Fault>) {
        let mut faults = Vec::new();
        match (self.begin, extent) {
            (None, Extent::Whole | Extent::Part) if self.lines == 0 => faults.push(Fault::Empty),
            (Some(Chain { seq, .. }), Extent::Whole) if seq != 0 && !self.begin_explained => {
                faults.push(Fault::Beginning { seq });
            }
            (None | Some(_), Extent::Whole | Extent::Part) => {}
        }
        let begins_after = |seq| self.begin.is_some_and(|begin| begin.seq > seq);
        faults.extend(self.sought.iter().map(|KeptHead { seq, .. }| {
            if self.begin_explained && begins_after(*seq) {
                Fault::HeadRemoved { seq: *seq }
            } else {
                Fault::HeadMissing { seq: *seq }
            }
        }));
        let verified = Verified {
            lines: self.lines,
            heads: self.heads,
            since_head: self.since_head,
            first: self.begin.map(|begin| begin.seq),
            removed: self.begin_explained,
            last: self.next.map(|next| (next.seq.wrapping_sub(1), next.prev)),
            key: self.key,
        };
        (verified, faults)
    }

    /// Returns what the next line has to continue.
    pub(super) fn next(&self) -> Option<Chain> {
        self.next
    }

    /// Returns the number of the last head so far.
    pub(super) fn last_head(&self) -> Option<u64> {
        self.last_head
    }

    /// Returns the key of the heads so far.
    pub(super) fn key(&self) -> Option<PublicKey> {
        self.key
    }
}

/// Reads a line whose hash is right.
fn intact(line: &[u8]) -> Result<StrictLine<'_>, Fault> {
    let strict = strict::read(line).map_err(Fault::Syntax)?;
    is_intact(&strict)?;
    Ok(strict)
}

fn is_intact(line: &StrictLine<'_>) -> Result<(), Fault> {
    let found = LineHash::of(line.sealed);
    if found != line.hash {
        return Err(Fault::Hash { stated: line.hash, found });
    }
    Ok(())
}

/// The key of a head whose signature is right; nothing where the line is none.
fn signed(line: &StrictLine<'_>) -> Result<Option<PublicKey>, Fault> {
    let Said { seq, time, event, key, signature, .. } = &line.said;
    if event != Event::Head.word() {
        return Ok(None);
    }
    let (Some(key), Some(signature)) = (key.as_deref().and_then(PublicKey::read), signature) else {
        return Err(Fault::Signature);
    };
    let before = seq.checked_sub(1).ok_or(Fault::Signature)?;
    if !key.has_signed(before, &line.prev, time, signature) {
        return Err(Fault::Signature);
    }
    Ok(Some(key))
}

/// The removal that a line is about, and the key that has signed it; nothing where it is another.
fn removed<'s>(line: &'s StrictLine<'_>) -> Result<Option<(PublicKey, Removal<'s>)>, Fault> {
    let Said { time, event, segment, begins_at, begins_after, key, signature, .. } = &line.said;
    if event != Event::Removed.word() {
        return Ok(None);
    }
    let (Some(segment), Some(begins_at), Some(begins_after)) =
        (segment.as_deref(), *begins_at, begins_after.as_deref())
    else {
        return Err(Fault::Syntax("it does not say what was removed".to_owned()));
    };
    let (Some(key), Some(signature)) = (key.as_deref().and_then(PublicKey::read), signature) else {
        return Err(Fault::Signature);
    };
    let removal = Removal { time, segment, begins_at, begins_after };
    if !key.has_signed_removal(&removal, signature) {
        return Err(Fault::Signature);
    }
    Ok(Some((key, removal)))
}

/// Reads past the end of a line, in pieces.
fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let piece = file.fill_buf()?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let (length, done) =
            (end.map_or(piece.len(), |at| at + 1), end.is_some() || piece.is_empty());
        file.consume(length);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
