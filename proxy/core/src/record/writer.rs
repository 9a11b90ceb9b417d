//! The one writer of record files: takes lines in batches, off the request path.
//!
//! A decision is acknowledged when its batch has reached the kernel; the disk follows within
//! [`SYNC_WITHIN`], and a signed head within [`HEAD_WITHIN`]. Where exchanges may go on unrecorded
//! nobody waits for the writer, and a line that finds no room is counted.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use egret_policy::Revision;
use tokio::{
    sync::{
        mpsc::{self, OwnedPermit, error::TrySendError},
        oneshot,
    },
    time::{Instant, sleep_until, timeout},
};

use super::{
    end::{self, OpenError},
    event::Event,
    folder,
    head::{HeadKey, PublicKey},
    ledger::{Ledger, OnFailure, RecordSettings},
    line::Line,
    standing::{RecordMetrics, Standing},
    time,
};
use crate::{caused::caused, clock::Clock};

/// How long a line may be in the kernel alone.
const SYNC_WITHIN: Duration = Duration::from_millis(100);
/// How long a line may be the last without a signature.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How often segments are looked for that are too old; at each rotation, too.
const LOOK_FOR_OLD: Duration = Duration::from_hours(1);
/// How long an exchange waits for the writer before it is refused.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that may wait: two for each exchange that is open. Room that is only reserved takes no
/// memory; what lines that wait may take is bounded by [`Standing`].
const QUEUE: usize = 1 << 20;
/// Where exchanges do not wait for their records, this bounds what a disk that stands still costs.
const QUEUE_WITHOUT_WAITING: usize = 1 << 17;
const BATCH: usize = 1024;

/// Why a record could not be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// A batch could not be written.
    #[error("write the record")]
    Write(#[source] Arc<io::Error>),
    /// The writer did not answer in time, or has ended.
    #[error("the recorder does not answer")]
    Unavailable,
    /// Writing is known to fail, or to take too long; it was not tried for this record.
    #[error("records cannot be written")]
    Failing,
}

/// A handle to the writer; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Message>,
    on_failure: OnFailure,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
}

/// Ends the writer in good order.
#[derive(Debug)]
pub struct Flush {
    finish: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), FlushError>>,
}

/// Why the record does not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// Records could not be written. The next start takes down how many.
    #[error("records are missing at the end: {count}")]
    Missing {
        /// How many.
        count: u64,
        /// What the last attempt met.
        #[source]
        source: RecordError,
    },
    /// All is written, and the end is not on the disk or not signed.
    #[error("sign the end of the records")]
    Unsigned(#[source] RecordError),
    /// The writer is gone, and what it had with it.
    #[error("the recorder ended with a panic")]
    Panicked,
}

impl Flush {
    /// Takes no new lines from here on, and returns once all that were taken are on disk and
    /// signed. Blocks while an exchange that was promised room for its completion is still open.
    pub fn wait(self) -> Result<(), FlushError> {
        // A writer that has ended already has nothing to finish.
        let _ = self.finish.send(());
        self.thread.join().unwrap_or(Err(FlushError::Panicked))
    }
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) line: Box<Line>,
    pub(super) otherwise: Otherwise,
}

/// What becomes of a line that cannot be written when it comes.
#[derive(Debug, Default)]
pub(super) enum Otherwise {
    /// Whoever waits until the kernel has the line is told, and refuses.
    Told(oneshot::Sender<Result<(), RecordError>>),
    /// It says how something ended whose beginning is on record: it is written later.
    Kept,
    /// It is counted.
    #[default]
    Counted,
}

/// The room for one line.
#[derive(Debug)]
pub(super) enum Room {
    /// The writer is waited for.
    Awaited(Place),
    /// The writer is told.
    Told(Place),
    /// There is none, and the line will be missing.
    Lost(Arc<Standing>),
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Place {
    permit: OwnedPermit<Message>,
    standing: Arc<Standing>,
}

impl Place {
    fn send(self, line: Box<Line>, otherwise: Otherwise) {
        self.standing.queued(line.weight());
        self.permit.send(Message { line, otherwise });
    }
}

impl Room {
    /// Writes one line, and returns when the kernel has it; at once where nobody waits.
    pub(super) async fn write(self, line: Box<Line>) -> Result<(), RecordError> {
        let Self::Awaited(room) = self else {
            self.tell(line, Otherwise::Counted);
            return Ok(());
        };
        let (written, answer) = oneshot::channel();
        room.send(line, Otherwise::Told(written));
        match timeout(PATIENCE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(RecordError::Unavailable),
        }
    }

    /// Writes a line that nobody waits for.
    pub(super) fn tell(self, line: Box<Line>, otherwise: Otherwise) {
        match self {
            Self::Awaited(room) | Self::Told(room) => room.send(line, otherwise),
            Self::Lost(standing) => standing.lose(),
        }
    }
}

/// What became of a policy that was given to a running proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChange {
    /// It is the first.
    Loaded,
    /// It has replaced another.
    Replaced {
        /// Live entries that it does not allow, and that were cut.
        cut: u64,
    },
    /// It is not valid, and the one before stays.
    Refused {
        /// What is wrong with it.
        problems: u64,
    },
}

impl Recorder {
    /// Opens the record after its newest line, and begins to write.
    pub fn open(
        settings: RecordSettings,
        key: HeadKey,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Flush), OpenError> {
        let standing = Arc::<Standing>::default();
        let (directory, on_failure) = (settings.directory.clone(), settings.on_failure);
        let ledger = Ledger::open(settings, key, clock.clone(), standing.clone())?;
        let (queue, lines) = mpsc::channel(match on_failure {
            OnFailure::Refuse => QUEUE,
            OnFailure::Continue => QUEUE_WITHOUT_WAITING,
        });
        let using = |error| OpenError::using(&directory, error);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().map_err(using)?;
        let (finish, finished) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn({
                let standing = standing.clone();
                move || runtime.block_on(run(ledger, &standing, lines, finished))
            })
            .map_err(using)?;
        Ok((Self { queue, on_failure, standing, clock }, Flush { finish, thread }))
    }

    /// Judges whether a record could be opened under a key. Makes no more than the file by which
    /// the directory is locked.
    pub fn judge(settings: &RecordSettings, key: PublicKey) -> Result<(), OpenError> {
        if let Ok(false) = settings.directory.try_exists() {
            return Ok(());
        }
        // What is being written has no end that could be judged.
        let _lock = folder::take(&settings.directory)?;
        end::find(&settings.directory, key).map(|_| ())
    }

    /// Whether records get through, as far as the last attempt tells or the one that is under way.
    pub fn is_writing(&self) -> bool {
        self.standing.is_writing()
    }

    /// Returns what the writer counts.
    pub fn metrics(&self) -> RecordMetrics {
        RecordMetrics(self.standing.clone())
    }

    /// Whether there is a writer; one that has ended cannot begin again in this process.
    pub fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Returns once there is no writer any more.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    /// Records what became of a policy, and which one is in force now. Returns when the kernel has
    /// it.
    pub async fn policy(
        &self,
        in_force: Revision,
        change: PolicyChange,
    ) -> Result<(), RecordError> {
        let (reason, count) = match change {
            PolicyChange::Loaded => ("policy.loaded", None),
            PolicyChange::Replaced { cut } => ("policy.replaced", Some(cut)),
            PolicyChange::Refused { problems } => ("policy.refused", Some(problems)),
        };
        let line = Line {
            time: time(&*self.clock),
            event: Event::Policy,
            reason: Some(reason),
            policy: Some(in_force.to_string()),
            count,
            ..Line::default()
        };
        // Tried whatever is known: it comes seldom, and whoever asks is told what is wrong.
        self.room().await?.write(Box::new(line)).await
    }

    /// Takes the room for one line; refuses at once while nothing can be written. The writer tries
    /// by itself whether it can again.
    pub(super) async fn reserve(&self) -> Result<Room, RecordError> {
        let fits = self.standing.has_room();
        match self.on_failure {
            OnFailure::Refuse if !(fits && self.is_writing()) => Err(RecordError::Failing),
            OnFailure::Continue if !fits => Ok(Room::Lost(self.standing.clone())),
            OnFailure::Refuse | OnFailure::Continue => self.room().await,
        }
    }

    async fn room(&self) -> Result<Room, RecordError> {
        let place = |permit| Place { permit, standing: self.standing.clone() };
        match self.on_failure {
            OnFailure::Refuse => {
                match timeout(PATIENCE, self.queue.clone().reserve_owned()).await {
                    Ok(Ok(permit)) => Ok(Room::Awaited(place(permit))),
                    Ok(Err(_)) | Err(_) => Err(RecordError::Unavailable),
                }
            }
            OnFailure::Continue => match self.queue.clone().try_reserve_owned() {
                Ok(permit) => Ok(Room::Told(place(permit))),
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                    Ok(Room::Lost(self.standing.clone()))
                }
            },
        }
    }

    /// Counts an exchange that was refused since there was no room for its record.
    pub(super) fn lose(&self) {
        self.standing.lose();
    }
}

async fn run(
    mut ledger: Ledger,
    standing: &Standing,
    mut lines: mpsc::Receiver<Message>,
    mut finished: oneshot::Receiver<()>,
) -> Result<(), FlushError> {
    let mut finishing = false;
    let mut batch = Vec::with_capacity(BATCH);
    // That the recorder has begun is to be written.
    let mut sync_by = Some(Instant::now());
    let mut head_by = Some(Instant::now() + HEAD_WITHIN);
    let mut old_by = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = until(sync_by), if sync_by.is_some() => {
                // A failure has been told; it is tried again soon.
                let settled = standing.while_busy(|| ledger.settle());
                sync_by = settled.is_err().then(|| Instant::now() + SYNC_WITHIN);
            }
            () = until(head_by), if head_by.is_some() => {
                let signed = standing.while_busy(|| ledger.sign());
                head_by = signed.is_err().then(|| Instant::now() + HEAD_WITHIN);
            }
            () = sleep_until(old_by) => {
                ledger.remove_old();
                old_by = Instant::now() + LOOK_FOR_OLD;
            }
            _ = &mut finished, if !finishing => {
                finishing = true;
                lines.close();
            }
            count = lines.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    break;
                }
                standing.taken(batch.iter().map(|message| message.line.weight()).sum());
                standing.while_busy(|| ledger.append(&mut batch));
                sync_by.get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
                head_by.get_or_insert_with(|| Instant::now() + HEAD_WITHIN);
            }
        }
        // Nobody is let in while it fails, so this is what finds out that it does no longer.
        if !standing.writes_get_through() {
            sync_by.get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
        }
    }
    ledger.finish().inspect_err(|error| tracing::error!(error = %caused(error), "end the records"))
}

/// Waits for a time; never asked for one that is not set.
async fn until(time: Option<Instant>) {
    sleep_until(time.unwrap_or_else(Instant::now)).await;
}

#[cfg(test)]
pub(super) mod tests;
