//! Where a record ends, and whether that can be built upon.
//!
//! What a crash may leave is taken: a line that is half written, and a segment that was begun and
//! holds no whole line. Anything else that is not the end of a chain refuses, since to go on there
//! would bury it: lines that were changed, an end before the newest signed head, heads under
//! another key. Only the end is read; `verify` judges all of it.

use std::{
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use egret_policy::Timestamp;

use super::{
    chain::Chain,
    event::Event,
    folder,
    head::PublicKey,
    segments::{Tail, segment, segments, tail},
    strict,
    verify::{Fault, KeptHead, LONGEST, Verifier},
};

/// The newest signed head, beside the segments.
pub const NEWEST_HEAD: &str = "head.json";

/// Why a record cannot be continued.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("use `{}`", path.display())]
    Use {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Somebody else may write there.
    #[error("`{}` may be written by others (mode {mode:03o})", path.display())]
    WritableByOthers {
        /// The directory or a file in it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is neither ours nor root's.
    #[error(
        "`{}` belongs to user {owner}, who is neither root nor the user that runs egret",
        path.display()
    )]
    OwnedByOther {
        /// The directory or a file in it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A pipe, a directory or a device has the name of a file of the record.
    #[error("`{}` is not a file", path.display())]
    NoFile {
        /// What is in the place of the file.
        path: PathBuf,
    },
    /// What is there is not the end of a chain.
    #[error("`{}` does not end in a chain of records", path.display())]
    Broken {
        /// The segment, or the newest head.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: Fault,
    },
    /// Another recorder writes there.
    #[error("the records in `{}` are being written by another process", directory.display())]
    InUse {
        /// Where the records are.
        directory: PathBuf,
    },
    /// Lines that were signed are gone.
    #[error(
        "the records in `{}` end before line {head}, the head that was signed last",
        directory.display()
    )]
    Cut {
        /// Where the records are.
        directory: PathBuf,
        /// The number of that head's line.
        head: u64,
    },
    /// The heads are signed under a key that is not ours.
    #[error("the records in `{}` are signed under key {found}, not {own}", directory.display())]
    OtherKey {
        /// Where the records are.
        directory: PathBuf,
        /// The key that has signed them.
        found: PublicKey,
        /// The key that we would sign with.
        own: PublicKey,
    },
}

impl OpenError {
    pub(super) fn using(path: &Path, source: io::Error) -> Self {
        Self::Use { path: path.to_owned(), source: source.into() }
    }
}

/// The end of a record.
#[derive(Debug)]
pub(super) struct End {
    /// The segment to go on in, and where in it.
    pub(super) number: u32,
    pub(super) length: u64,
    pub(super) chain: Chain,
    /// Lines after the newest signed head.
    pub(super) unsigned: u64,
    /// When the last line was written, as it says.
    pub(super) newest: Option<Timestamp>,
    /// Bytes of a torn line, in all.
    pub(super) torn: u64,
    /// Segments without a whole line, after the one to go on in.
    pub(super) begun: Vec<PathBuf>,
}

/// Finds the end of the record in a directory. Changes nothing.
pub(super) fn find(directory: &Path, own: PublicKey) -> Result<End, OpenError> {
    let mut end = End {
        number: FIRST,
        length: 0,
        chain: Chain::EMPTY,
        unsigned: 0,
        newest: None,
        torn: 0,
        begun: Vec::new(),
    };
    let (mut signed, mut key) = (None, None);
    let mut numbers = segments(directory).map_err(|error| OpenError::using(directory, error))?;
    while let Some(number) = numbers.pop() {
        let path = segment(directory, number);
        let tail = tail(&path)?;
        end.torn += tail.torn;
        if tail.length == 0 && !numbers.is_empty() {
            end.begun.push(path);
            continue;
        }
        (end.number, end.length) = (number, tail.length);
        let before = numbers.last().map(|number| segment(directory, *number));
        if tail.length > 0 {
            let verifier = judge(&path, &tail, before.as_deref())?;
            end.chain = verifier
                .next()
                .ok_or_else(|| OpenError::Broken { path: path.clone(), fault: Fault::Empty })?;
            end.newest = newest(&tail);
            (signed, key) = (verifier.last_head(), verifier.key());
        }
        break;
    }
    let head = newest_head(directory)?;
    if let Some(head) = head.as_ref().filter(|head| head.seq() >= end.chain.seq) {
        return Err(OpenError::Cut { directory: directory.to_owned(), head: head.seq() });
    }
    // The last head may be before what was read, or not be beside the segments yet.
    let signed = signed.max(head.as_ref().map(KeptHead::seq));
    end.unsigned = end.chain.seq.saturating_sub(signed.map_or(0, |head| head.saturating_add(1)));
    match head.map(|head| head.key()).into_iter().chain(key).find(|key| *key != own) {
        Some(found) => Err(OpenError::OtherKey { directory: directory.to_owned(), found, own }),
        None => Ok(end),
    }
}

/// Judges the last lines of a segment, and how they go on from the segment before.
fn judge(path: &Path, tail: &Tail, before: Option<&Path>) -> Result<Verifier, OpenError> {
    let mut verifier = Verifier::default();
    // Where the one before is on record as missing, there is nothing to go on from; verifying the
    // record tells the gap for as long as it is there.
    let before = before.filter(|_| tail.whole && !tells_of_missing(tail));
    if let Some(before) = before {
        let tail = self::tail(before)?;
        feed(&mut verifier, before, &tail)?;
        if tail.torn > 0 {
            let fault = Fault::Torn { bytes: tail.torn };
            return Err(OpenError::Broken { path: before.to_owned(), fault });
        }
    }
    feed(&mut verifier, path, tail)?;
    Ok(verifier)
}

fn tells_of_missing(tail: &Tail) -> bool {
    let mut lines = tail.lines.split(|byte| *byte == b'\n');
    lines.any(|line| strict::read(line).is_ok_and(|line| line.said.event == Event::Missing.word()))
}

fn feed(verifier: &mut Verifier, path: &Path, tail: &Tail) -> Result<(), OpenError> {
    for line in tail.lines.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        verifier.line(line).map_err(|fault| OpenError::Broken { path: path.to_owned(), fault })?;
    }
    Ok(())
}

/// The time of the last line.
fn newest(tail: &Tail) -> Option<Timestamp> {
    let last = tail.lines.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    strict::read(last).ok()?.said.time.parse().ok()
}

fn newest_head(directory: &Path) -> Result<Option<KeptHead>, OpenError> {
    let path = directory.join(NEWEST_HEAD);
    let file = match folder::read(&path) {
        Err(OpenError::Use { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        opened => opened?,
    };
    let mut bytes = Vec::new();
    let read = file.take(LONGEST as u64).read_to_end(&mut bytes);
    read.map_err(|error| OpenError::using(&path, error))?;
    KeptHead::read(&bytes).map(Some).map_err(|fault| OpenError::Broken { path, fault })
}

const FIRST: u32 = 1;
