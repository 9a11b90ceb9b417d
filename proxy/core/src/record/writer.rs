//! The one writer of record files: takes lines in batches, off the request path.
//!
//! A decision is acknowledged when its batch has reached the kernel; the disk follows within
//! [`SYNC_WITHIN`]. When writing fails, decisions are answered with the failure (and the exchanges
//! that wait for them refused), completions are kept for the next attempt, and a half-written
//! batch is cut off again, so that a file always consists of whole lines.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{self, OwnedPermit},
        oneshot,
    },
    time::{Instant, sleep_until, timeout},
};

use super::Line;

/// How long a line may be in the kernel alone.
const SYNC_WITHIN: Duration = Duration::from_millis(100);
/// How long an exchange waits for the writer before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that may wait: two for each exchange that is open, so `limits.connections` is what bounds
/// them. Room that is only reserved takes no memory.
const QUEUE: usize = 1 << 20;
const BATCH: usize = 1024;
/// What is written at a time of what a failure left.
const KEPT_PIECE: usize = 16 << 10;

/// Why a record could not be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// The directory or a file in it cannot be used.
    #[error("open the record `{}`", path.display())]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::sync::Arc<io::Error>,
    },
    /// A batch could not be written.
    #[error("write the record")]
    Write(#[source] std::sync::Arc<io::Error>),
    /// The writer did not answer in time, or has ended.
    #[error("the recorder does not answer")]
    Unavailable,
}

/// A handle to the writer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Message>,
}

/// Ends the writer in good order.
#[derive(Debug)]
pub struct Flush {
    finish: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Flush {
    /// Takes no new lines from here on, and returns once all that were taken are on disk. Blocks
    /// while an exchange that was promised room for its completion is still open.
    pub fn wait(self) {
        // A writer that has ended already has nothing to finish.
        let _ = self.finish.send(());
        if self.thread.join().is_err() {
            tracing::error!("the recorder ended with a panic");
        }
    }
}

#[derive(Debug)]
pub(crate) struct Message {
    line: Box<Line>,
    written: Option<oneshot::Sender<Result<(), RecordError>>>,
}

impl Message {
    /// A line that nobody waits for.
    pub(super) fn unanswered(line: Box<Line>) -> Self {
        Self { line, written: None }
    }
}

impl Recorder {
    /// Opens the record in `directory` (made with mode 0700 if missing), after its newest line.
    pub fn open(directory: &Path) -> Result<(Self, Flush), RecordError> {
        let segment = Segment::open(directory)?;
        let (queue, lines) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| cannot_open(directory, error))?;
        let (finish, finished) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || runtime.block_on(run(segment, lines, finished)))
            .map_err(|error| cannot_open(directory, error))?;
        Ok((Self { queue }, Flush { finish, thread }))
    }

    /// Takes the room for one line.
    pub(super) async fn reserve(&self) -> Result<OwnedPermit<Message>, RecordError> {
        match timeout(PATIENCE, self.queue.clone().reserve_owned()).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(RecordError::Unavailable),
        }
    }
}

/// Writes one line into the room that was taken for it, and returns when the kernel has it.
pub(super) async fn write(room: OwnedPermit<Message>, line: Box<Line>) -> Result<(), RecordError> {
    let (written, answer) = oneshot::channel();
    room.send(Message { line, written: Some(written) });
    match timeout(PATIENCE, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(RecordError::Unavailable),
    }
}

async fn run(
    mut segment: Segment,
    mut lines: mpsc::Receiver<Message>,
    mut finished: oneshot::Receiver<()>,
) {
    let mut finishing = false;
    let mut batch = Vec::with_capacity(BATCH);
    let mut sync_by: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = async { sleep_until(sync_by.unwrap_or_else(Instant::now)).await }, if sync_by.is_some() => {
                sync_by = None;
                if let Err(error) = segment.retry_and_sync() {
                    tracing::error!(%error, "sync the record");
                    sync_by = Some(Instant::now() + SYNC_WITHIN);
                }
            }
            _ = &mut finished, if !finishing => {
                finishing = true;
                lines.close();
            }
            count = lines.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    break;
                }
                segment.append(&mut batch);
                sync_by.get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
            }
        }
    }
    if let Err(error) = segment.retry_and_sync() {
        tracing::error!(%error, "the last records could not be written");
    }
}

/// The newest file of a record.
struct Segment {
    file: File,
    /// Bytes of whole lines in the file.
    length: u64,
    /// The number of the next line.
    seq: u64,
    /// Completions that a failed write left to be written again: at most one for each exchange
    /// that was open when writing began to fail, since none is let through after that.
    kept: Vec<u8>,
}

impl Segment {
    fn open(directory: &Path) -> Result<Self, RecordError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| cannot_open(directory, error))?;
        let newest = newest(directory).map_err(|error| cannot_open(directory, error))?;
        let path = directory.join(format!("{newest:08}.jsonl"));
        Self::continue_in(&path).map_err(|error| cannot_open(&path, error))
    }

    /// Continues a file after its last whole line; what a crash left of a torn one is cut off.
    fn continue_in(path: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let (length, last) = last_line(&mut file)?;
        if length < file.metadata()?.len() {
            tracing::warn!(file = %path.display(), "cut off a line that was only half written");
            file.set_len(length)?;
        }
        let seq = match last {
            None => 0,
            Some(line) => {
                let value: serde_json::Value = serde_json::from_slice(&line)?;
                value["seq"].as_u64().ok_or_else(|| io::Error::other("a line without `seq`"))? + 1
            }
        };
        Ok(Self { file, length, seq, kept: Vec::new() })
    }

    /// Writes a batch and answers whoever waits for it. What has happened already (completions) is
    /// kept when that fails; decisions are not, since they are refused.
    fn append(&mut self, batch: &mut Vec<Message>) {
        let result = self.write_kept().and_then(|()| self.write_batch(batch));
        if let Err(error) = &result {
            tracing::error!(%error, "write the record");
            let mut kept = std::mem::take(&mut self.kept);
            for message in batch.iter_mut().filter(|message| message.written.is_none()) {
                self.number(&mut message.line, &mut kept);
            }
            self.kept = kept;
        }
        for message in batch.drain(..) {
            if let Some(written) = message.written {
                // An exchange that no longer waits has been refused already.
                let _ = written.send(result.clone());
            }
        }
    }

    fn write_batch(&mut self, batch: &mut [Message]) -> Result<(), RecordError> {
        let seq = self.seq;
        let mut bytes = Vec::new();
        for message in batch {
            self.number(&mut message.line, &mut bytes);
        }
        self.put(&bytes).inspect_err(|_| self.seq = seq)
    }

    /// Writes what an earlier failure left, in pieces: a disk that has a little room takes some.
    fn write_kept(&mut self) -> Result<(), RecordError> {
        while !self.kept.is_empty() {
            let window = &self.kept[..self.kept.len().min(KEPT_PIECE)];
            let end =
                window.iter().rposition(|byte| *byte == b'\n').map_or(self.kept.len(), |at| at + 1);
            let piece: Vec<u8> = self.kept[..end].to_vec();
            self.put(&piece)?;
            self.kept.drain(..end);
        }
        self.kept = Vec::new();
        Ok(())
    }

    fn number(&mut self, line: &mut Line, bytes: &mut Vec<u8>) {
        line.seq = self.seq;
        self.seq += 1;
        serde_json::to_writer(&mut *bytes, line).expect("a line holds only strings and numbers");
        bytes.push(b'\n');
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                if let Err(error) = self.file.set_len(self.length) {
                    tracing::error!(%error, "cut off a half-written batch of records");
                }
                Err(RecordError::Write(error.into()))
            }
        }
    }

    fn retry_and_sync(&mut self) -> Result<(), RecordError> {
        self.write_kept()?;
        self.file.sync_data().map_err(|error| RecordError::Write(error.into()))
    }
}

/// The number of the newest file, or 1.
fn newest(directory: &Path) -> io::Result<u32> {
    let mut newest = 1;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        if let Some(Ok(number)) = number.map(str::parse::<u32>) {
            newest = newest.max(number);
        }
    }
    Ok(newest)
}

/// Where the last whole line of `file` ends, and that line. Reads from the end.
fn last_line(file: &mut File) -> io::Result<(u64, Option<Vec<u8>>)> {
    const STEP: u64 = 1 << 16;
    let mut start = file.metadata()?.len();
    let mut tail = Vec::new();
    loop {
        let ends: Vec<usize> = tail
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at)
            .take(2)
            .collect();
        match (ends.as_slice(), start) {
            (&[end, before], _) => {
                return Ok((start + end as u64 + 1, Some(tail[before + 1..end].to_vec())));
            }
            (&[end], 0) => return Ok((end as u64 + 1, Some(tail[..end].to_vec()))),
            (_, 0) => return Ok((0, None)),
            _ => {}
        }
        let from = start.saturating_sub(STEP);
        let mut piece = vec![0; usize::try_from(start - from).unwrap_or_default()];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece)?;
        piece.append(&mut tail);
        (tail, start) = (piece, from);
    }
}

fn cannot_open(path: &Path, error: io::Error) -> RecordError {
    RecordError::Open { path: path.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests;
