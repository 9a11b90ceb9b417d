//! What the writer's thread writes to: the chain, the newest segment, and what a failure left.
//!
//! A file consists of whole lines always: what was half written is cut off again. While writing
//! fails, nothing is acknowledged under [`OnFailure::Refuse`]; what has happened already
//! (completions of what is on record) is kept for later, within a bound, and everything else is
//! counted. The first line that can be written again says how many records are missing.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use self::{kept::Kept, rotation::Believed, tally::Tally};
use super::{
    chain::Chain,
    end::{self, End, NEWEST_HEAD, OpenError},
    event::Event,
    folder,
    head::HeadKey,
    line::{HeadLine, Line},
    segments::segment,
    standing::Standing,
    time,
    writer::{FlushError, Message, Otherwise, RecordError},
};
use crate::{caused::caused, clock::Clock, seldom::Seldom};

mod in_place;
mod kept;
mod rotation;
mod tally;

/// How exchanges are recorded.
#[derive(Debug, Clone)]
pub struct RecordSettings {
    /// Where the segments are; made with mode 0700 if it is not there.
    pub directory: PathBuf,
    /// What becomes of exchanges that cannot be recorded.
    pub on_failure: OnFailure,
    /// Bytes after which a segment is ended and the next one begun.
    pub segment: u64,
    /// How long a segment is kept after its last line.
    pub keep: Duration,
}

impl RecordSettings {
    /// The defaults, in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            on_failure: OnFailure::Refuse,
            segment: 256 << 20,
            keep: Duration::from_hours(90 * 24),
        }
    }
}

/// What becomes of exchanges that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused.
    Refuse,
    /// They go on, and are counted.
    Continue,
}

/// The newest segment of a record, and the chain that goes on there.
pub(super) struct Ledger {
    /// Held in the directory: two chains in one place would be none.
    _lock: File,
    settings: RecordSettings,
    key: HeadKey,
    clock: Arc<dyn Clock>,
    standing: Arc<Standing>,
    chain: Chain,
    number: u32,
    file: File,
    /// Bytes of whole lines in the file.
    length: u64,
    /// The length from which on the segment is to be ended.
    full_at: u64,
    /// Lines that could not be written yet; the chain goes on after them.
    kept: Kept,
    /// Records that will never be written, and of which nothing says so yet.
    lost: u64,
    /// How many those are, and those that are kept, for a start after this process.
    tally: Tally,
    believed: Believed,
    /// Whether the last line is a signed head.
    headed: bool,
    /// Whether the disk did not take what the kernel had.
    unsynced: bool,
}

impl Ledger {
    /// Opens the record after its last whole line, and takes down that it begins here.
    pub(super) fn open(
        settings: RecordSettings,
        key: HeadKey,
        clock: Arc<dyn Clock>,
        standing: Arc<Standing>,
    ) -> Result<Self, OpenError> {
        let directory = &settings.directory;
        let using = |error| OpenError::using(directory, error);
        let lock = folder::take(directory)?;
        let End { number, length, chain, unsigned, newest, torn, begun } =
            end::find(directory, key.public())?;
        for path in begun {
            fs::remove_file(&path).map_err(|error| OpenError::using(&path, error))?;
        }
        let path = segment(directory, number);
        let file = continue_at(&path, length)?;
        let believed = match newest {
            Some(newest) => Believed::by_newest(newest, settings.keep),
            None => Believed::by_clock(clock.now(), settings.keep),
        };
        let (tally, lost) = Tally::open(directory);
        sync_directory(directory).map_err(using)?;
        let (event, count) = match torn {
            0 => (Event::Start, None),
            bytes => (Event::Restart, Some(bytes)),
        };
        let mut ledger = Self {
            _lock: lock,
            full_at: settings.segment,
            settings,
            key,
            clock,
            standing,
            chain,
            number,
            file,
            length,
            kept: Kept::default(),
            lost,
            tally,
            believed,
            headed: false,
            unsynced: false,
        };
        let unsigned = Some(unsigned).filter(|lines| *lines > 0);
        let line = Line { count, unsigned, ..ledger.own_line(event) };
        ledger.kept.seal(&mut ledger.chain, &line);
        Ok(ledger)
    }

    /// Writes a batch and answers whoever waits for it.
    pub(super) fn append(&mut self, batch: &mut Vec<Message>) {
        for piece in batch.chunks_mut(PIECE) {
            let began = Instant::now();
            let result = self.write(piece);
            self.standing.writes.observe(began.elapsed());
            if result.is_err() {
                self.missed(piece);
            }
            for message in piece {
                if let Otherwise::Told(written) = mem::take(&mut message.otherwise) {
                    // An exchange that no longer waits has been refused already.
                    let _ = written.send(result.clone());
                }
            }
        }
        batch.clear();
    }

    fn write(&mut self, piece: &[Message]) -> Result<(), RecordError> {
        self.catch_up()?;
        self.put_records(piece.iter().map(|message| &message.line))?;
        self.rotate();
        Ok(())
    }

    /// Keeps how exchanges ended whose decision is on record, as long as there is room for that,
    /// and counts the rest: those exchanges are refused, or go on without a record.
    fn missed(&mut self, piece: &[Message]) {
        self.standing.failed.add(piece.len() as u64);
        for message in piece {
            match (self.settings.on_failure, &message.otherwise) {
                (OnFailure::Refuse, Otherwise::Kept) if self.kept.has_room() => {
                    self.kept.seal(&mut self.chain, &message.line);
                }
                (OnFailure::Refuse | OnFailure::Continue, _) => {
                    self.lost = self.lost.saturating_add(1);
                    self.standing.missing.add(1);
                }
            }
        }
    }

    /// Writes what an earlier failure left, in pieces: a disk that has a little room takes some.
    fn catch_up(&mut self) -> Result<(), RecordError> {
        self.stay_in_place()?;
        if self.unsynced {
            self.sync()?;
        }
        while !self.kept.is_empty() {
            let piece = self.kept.piece().to_vec();
            self.put(&piece)?;
            self.kept.forget(piece.len());
        }
        self.lost = self.lost.saturating_add(self.standing.take_lost());
        if self.lost > 0 {
            let lost = Line { count: Some(self.lost), ..self.own_line(Event::Lost) };
            self.put_record(&lost)?;
            self.lost = 0;
        }
        Ok(())
    }

    /// Brings what the kernel has to the disk, and what it could not have before.
    pub(super) fn settle(&mut self) -> Result<(), RecordError> {
        let settled = self.catch_up().and_then(|()| self.sync());
        self.tally.set(self.missing());
        settled
    }

    /// Settles and signs for the last time; tells how many records are missing, and not on record
    /// as such.
    pub(super) fn finish(&mut self) -> Result<(), FlushError> {
        let settled = self.settle();
        let missing = self.missing();
        if let (Err(source), true) = (&settled, missing > 0) {
            if let Err(error) = self.tally.sync() {
                tracing::error!(error = %caused(&error), "keep how many records are missing");
            }
            return Err(FlushError::Missing { count: missing, source: source.clone() });
        }
        settled.and_then(|()| self.sign()).map_err(FlushError::Unsigned)
    }

    /// How many records are not written, and not on record as lost.
    fn missing(&self) -> u64 {
        // The count of an earlier process is whatever its file says.
        self.lost.saturating_add(self.standing.lost()).saturating_add(self.kept.lines())
    }

    /// Signs where the chain has got to, unless nothing was written since, and puts the head
    /// beside the segments, for who wants to keep it elsewhere.
    pub(super) fn sign(&mut self) -> Result<(), RecordError> {
        self.catch_up()?;
        if self.headed {
            return Ok(());
        }
        let time = time(&*self.clock);
        let Chain { seq, prev } = self.chain;
        let before = seq.checked_sub(1).expect("the start of the recorder is a line");
        let head = self.put_record(&HeadLine {
            time: &time,
            event: Event::Head,
            key: &self.key.public().to_string(),
            signature: &self.key.sign(before, &prev, &time),
        })?;
        // What is kept elsewhere must never be ahead of the disk.
        self.sync()?;
        self.headed = true;
        if let Err(error) = self.publish(&head) {
            tracing::error!(
                error = %caused(&error),
                "put the newest head of the records beside them"
            );
        }
        Ok(())
    }

    fn publish(&self, head: &[u8]) -> io::Result<()> {
        let directory = &self.settings.directory;
        let new = directory.join(NEW_HEAD);
        folder::write_new(&new, head).map_err(io::Error::other)?;
        fs::rename(&new, directory.join(NEWEST_HEAD))?;
        sync_directory(directory)
    }

    /// Writes a record of the recorder's own; nothing may be kept. Returns its line.
    fn put_record(&mut self, record: &impl Serialize) -> Result<Vec<u8>, RecordError> {
        self.put_records([record])
    }

    fn put_records<'r, R: Serialize + 'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r R>,
    ) -> Result<Vec<u8>, RecordError> {
        let before = self.chain;
        let mut bytes = Vec::new();
        for record in records {
            self.chain.seal(record, &mut bytes);
        }
        self.put(&bytes).inspect_err(|_| self.chain = before)?;
        Ok(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.headed = false;
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
                self.standing.written.add(lines as u64);
                self.stands(None);
                Ok(())
            }
            Err(error) => {
                if let Err(error) = self.file.set_len(self.length) {
                    static TORN: Seldom = Seldom::new();
                    if let Some(unsaid) = TORN.due() {
                        tracing::error!(
                            error = %caused(&error),
                            unsaid,
                            "cut off a half-written batch of records"
                        );
                    }
                }
                self.stands(Some(&error));
                Err(RecordError::Write(error.into()))
            }
        }
    }

    fn sync(&mut self) -> Result<(), RecordError> {
        let began = Instant::now();
        let synced = self.file.sync_data();
        self.standing.syncs.observe(began.elapsed());
        match synced {
            // A pipe has no disk behind it.
            Err(error) if error.kind() != ErrorKind::InvalidInput => {
                self.unsynced = true;
                self.stands(Some(&error));
                Err(RecordError::Write(error.into()))
            }
            Ok(()) | Err(_) => {
                self.unsynced = false;
                self.stands(None);
                Ok(())
            }
        }
    }

    /// Tells once that writing fails, and once that it does no longer.
    fn stands(&self, failure: Option<&io::Error>) {
        let writes = failure.is_none() && !self.unsynced;
        let wrote = self.standing.set_writing(writes);
        match failure {
            Some(error) if wrote => {
                let records = self.settings.directory.display();
                tracing::error!(error = %caused(error), %records, "records cannot be written");
            }
            None if writes && !wrote => tracing::info!("records are written again"),
            Some(_) | None => {}
        }
    }

    fn own_line(&self, event: Event) -> Line {
        Line { time: time(&*self.clock), event, ..Line::default() }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.standing.set_writing(false);
    }
}

/// Opens a segment to go on at `length`; what is after that is cut off.
fn continue_at(path: &Path, length: u64) -> Result<File, OpenError> {
    let using = |error| OpenError::using(path, error);
    let file = folder::append(path)?;
    if length < file.metadata().map_err(using)?.len() {
        tracing::warn!(file = %path.display(), "cut off a line that was only half written");
        file.set_len(length).map_err(using)?;
    }
    Ok(file)
}

/// The name of a file is on disk only when its directory is.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Lines that are written at a time: what an exchange waits for besides its own.
const PIECE: usize = 128;
const NEW_HEAD: &str = "head.json.new";

#[cfg(test)]
mod tests;
