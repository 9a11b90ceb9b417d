//! Puts another policy and other workers in force while egret runs: on SIGHUP, and when one of
//! the two files has become another one.
//!
//! All of it or nothing: both files are read and judged as at the start, and what is in force stays
//! unless both are good. Then workers and policy are exchanged as one, and what they no longer allow
//! is cut. One reload at a time; a change that comes meanwhile is looked at afterwards, so the last
//! one wins. Other keys of the configuration wait for the next start, and are named.

use std::{
    collections::HashSet,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use egret_policy::{Policy, Timestamp, WorkerId};
use egret_proxy::{Handle, PolicyChange, Recorder, StaticWorkers, caused};
use tokio::{signal::unix::Signal, task::spawn_blocking, time::sleep};

use crate::{
    clock::Course,
    config::{self, Changed, Origin},
    diagnostic::{Severity, print_problems, print_warning},
    environment::Environment,
    failure::{Failure, count},
    files::{self, FileError, SourceText},
    metrics::{Reloaded, Reloads},
    policy::{self, ForServing},
    systemd::Supervisor,
    watch::Watch,
};

/// How long the files must stay the same before they are taken.
const QUIET: Duration = Duration::from_millis(100);
/// How often that is tried before they are taken as they are.
const TRIES: usize = 10;
/// How soon they are looked at again where descriptors or memory were used up.
const ANEW: Duration = Duration::from_secs(2);
/// What a reload puts in force; all else waits for the next start.
const AT_ONCE: &[&str] = &["worker", "policy"];

/// What is in force, and the texts that it was made of.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) config: Origin,
    pub(crate) workers: Arc<StaticWorkers>,
    pub(crate) policy: Arc<ForServing>,
}

/// Who is told how a reload has ended.
pub(crate) struct Told {
    pub(crate) recorder: Recorder,
    pub(crate) reloads: Reloads,
    pub(crate) supervisor: Supervisor,
}

/// Reloads until it is dropped.
pub(crate) struct Reload {
    environment: Environment,
    started_with: Origin,
    in_force: InForce,
    handle: Handle,
    told: Told,
    watch: Watch,
    clock: Course,
    /// The files as they were when they were judged last.
    judged: Look,
    /// Descriptors or memory were used up when they were to be read last.
    starved: bool,
}

/// Why the files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Somebody has asked.
    Asked,
    /// They may be others.
    Noticed,
}

/// The files as they are.
#[derive(Clone, PartialEq, Eq)]
struct Look {
    config: Option<Read>,
    policy: Read,
}

/// A file, or why it is not to be taken.
#[derive(Clone)]
struct Read {
    path: PathBuf,
    text: Result<SourceText, FileError>,
}

/// What may be put in force.
struct Next {
    in_force: InForce,
    gone: HashSet<WorkerId>,
    /// Keys that wait for the next start.
    waiting: Vec<Changed>,
}

impl Reload {
    /// Goes on from what the start has put in force.
    pub(crate) fn from(
        in_force: InForce,
        environment: Environment,
        handle: Handle,
        told: Told,
    ) -> Self {
        let judged = Look::of(&in_force);
        let started_with = in_force.config.clone();
        let watch = Watch::begin();
        let clock = Course::begin(Timestamp::now(), Instant::now());
        Self {
            environment,
            started_with,
            in_force,
            handle,
            told,
            watch,
            clock,
            judged,
            starved: false,
        }
    }

    /// Watches and reloads, for as long as it is polled.
    pub(crate) async fn run(mut self, mut hangup: Signal) {
        // What has changed since the start read the files is seen first.
        let mut occasion = Occasion::Noticed;
        loop {
            self.look_again(occasion).await;
            occasion = tokio::select! {
                Some(()) = hangup.recv() => Occasion::Asked,
                () = self.watch.changed() => Occasion::Noticed,
                () = sleep(ANEW), if self.starved => Occasion::Noticed,
            };
        }
    }

    async fn look_again(&mut self, occasion: Occasion) {
        let mut look = self.look().await;
        let mut unfinished = false;
        for _ in 0..TRIES {
            if occasion == Occasion::Noticed && look == self.judged && !self.starved {
                return;
            }
            sleep(QUIET).await;
            unfinished = self.watch.is_unfinished();
            if occasion == Occasion::Noticed && unfinished {
                return;
            }
            let before = std::mem::replace(&mut look, self.look().await);
            if look == before && !unfinished {
                break;
            }
        }
        if unfinished {
            tracing::warn!("a file that somebody still writes is taken as it is");
        }
        self.told.supervisor.reloading();
        let (in_force, environment) = (self.in_force.clone(), self.environment.clone());
        let (started_with, judging) = (self.started_with.clone(), look.clone());
        let before = std::mem::replace(&mut self.judged, look);
        let judged = on_a_thread(move || {
            judge(&in_force, &started_with, judging, &environment, Timestamp::now())
        });
        let judged = judged.await;
        let starves = judged.as_ref().is_err_and(Failure::is_for_want_of_descriptors);
        let said = std::mem::replace(&mut self.starved, starves);
        if starves {
            // What could not be read was not judged, and nothing may tell that it can be.
            self.judged = before;
        }
        match judged {
            Ok(Some(next)) => self.replace(next).await,
            Ok(None) => {
                tracing::info!("nothing has changed: what was in force stays");
                self.told.supervisor.reloaded(None);
            }
            Err(failure) => {
                // That is said once.
                if !(starves && said) {
                    self.refuse(&failure).await;
                }
                let problems = count(failure.problems(), "problem");
                let told = format!("{problems} in the files, which are not in force");
                self.told.supervisor.reloaded(Some(told));
            }
        }
        self.clock.judge(Timestamp::now(), Instant::now());
    }

    /// Reads the files. They are watched first, so that no change after the reading is missed.
    async fn look(&mut self) -> Look {
        let mut paths = self.judged.paths();
        loop {
            self.watch.follow(&paths);
            let (in_force, environment) = (self.in_force.clone(), self.environment.clone());
            let look = on_a_thread(move || Look::at(&in_force, &environment)).await;
            let found = look.paths();
            if found == paths {
                return look;
            }
            paths = found;
        }
    }

    async fn replace(&mut self, next: Next) {
        let Next { in_force, gone, waiting } = next;
        self.in_force = in_force.clone();
        let handle = self.handle.clone();
        let InForce { config, workers, policy } = in_force;
        let (now, lost) = (policy.policy.clone(), gone.len());
        let cut = on_a_thread(move || handle.replace(workers, now, &gone)).await;
        tracing::info!(
            policy = %policy.source.path.display(),
            revision = %policy.policy.revision(),
            cut,
            lost,
            "reloaded"
        );
        policy.warn_of_report_mode();
        if let Origin::File(source) = &config {
            name(source, &waiting);
        }
        self.told.record(&policy.policy, PolicyChange::Replaced { cut: cut as u64 }).await;
        self.told.reloads.reloaded(Reloaded::Replaced(&policy.policy));
        self.told.supervisor.reloaded(None);
    }

    async fn refuse(&self, failure: &Failure) {
        failure.print();
        let problems = failure.problems();
        let stays = &self.in_force.policy.policy;
        let revision = stays.revision();
        tracing::error!(problems, %revision, "reload refused: what was in force stays");
        self.told.record(stays, PolicyChange::Refused { problems: problems as u64 }).await;
        self.told.reloads.reloaded(Reloaded::Refused);
    }
}

impl Told {
    /// A policy is in force whether or not that can be written: it may be the stricter one.
    async fn record(&self, in_force: &Policy, change: PolicyChange) {
        if let Err(error) = self.recorder.policy(in_force.revision(), change).await {
            tracing::error!(error = %caused(&error), "a reload could not be recorded");
        }
    }
}

impl Look {
    /// The files that are in force.
    fn of(in_force: &InForce) -> Self {
        let read =
            |source: &SourceText| Read { path: source.path.clone(), text: Ok(source.clone()) };
        let config = match &in_force.config {
            Origin::File(source) => Some(read(source)),
            Origin::Embedded => None,
        };
        Self { config, policy: read(&in_force.policy.source) }
    }

    /// Reads the files. Where the configuration is not valid, the policy is still the old one's: a
    /// change of it must not go unanswered.
    fn at(in_force: &InForce, environment: &Environment) -> Self {
        let old = &in_force.policy.source.path;
        let (config, path) = match &in_force.config {
            Origin::Embedded => (None, None),
            Origin::File(source) => {
                let config = Read::guarded(source.path.clone());
                let other = config.text.as_ref().ok().filter(|text| *text != source);
                let path = other.and_then(|text| config::load(text, environment).config);
                (Some(config), path.map(|config| config.policy))
            }
        };
        Self { config, policy: Read::guarded(path.unwrap_or_else(|| old.clone())) }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.config.iter().chain([&self.policy]).map(|read| read.path.clone()).collect()
    }
}

impl PartialEq for Read {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.text, &other.text) {
            (Ok(text), Ok(other)) => text == other,
            (Err(error), Err(other)) => told(error) == told(other),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        same && self.path == other.path
    }
}

impl Eq for Read {}

/// An error as a person would tell it from another.
fn told(error: &FileError) -> (String, Option<String>) {
    (error.to_string(), error.source().map(ToString::to_string))
}

impl Read {
    fn guarded(path: PathBuf) -> Self {
        let text = files::read_guarded(&path);
        Self { path, text }
    }
}

/// Judges what was read; `None` where it is what is in force. Whatever refuses it has been printed,
/// or is in the failure.
fn judge(
    in_force: &InForce,
    started_with: &Origin,
    look: Look,
    environment: &Environment,
    now: Timestamp,
) -> Result<Option<Next>, Failure> {
    if look == Look::of(in_force) {
        return Ok(None);
    }
    let mut next = in_force.clone();
    let mut gone = HashSet::new();
    let mut waiting = Vec::new();
    // One that could not be read itself is not known to be another.
    let policy_waits = look.policy.text.is_ok() && look.policy != Look::of(in_force).policy;
    let waiting_for = |path: &Path| {
        if policy_waits {
            let message = format!("the policy has changed, and waits for `{}`", path.display());
            print_warning(&message, Some("mend that file first: both are taken, or neither"));
        }
    };
    let config = look.config.map(|read| read.text.inspect_err(|_| waiting_for(&read.path)));
    if let (Some(source), Origin::File(started_with)) = (config.transpose()?, started_with)
        && in_force.config != Origin::File(source.clone())
    {
        let config =
            config::complete(&source, environment).inspect_err(|_| waiting_for(&source.path))?;
        let (workers, lost) = in_force.workers.succeeded_by(config.workers);
        (next.workers, gone) = (Arc::new(workers), lost);
        waiting = config::changed(&started_with.text, &source.text, AT_ONCE);
        next.config = Origin::File(source);
    }
    let source = look.policy.text?;
    if source != in_force.policy.source {
        next.policy = Arc::new(policy::judged(source, now)?);
    }
    Ok(Some(Next { in_force: next, gone, waiting }))
}

/// Names the keys that wait for the next start, each with its line.
fn name(source: &SourceText, waiting: &[Changed]) {
    const FIX: &str = "restart egret to have it so; only `[[worker]]` and `policy` change at once";
    for Changed { key, span } in waiting {
        match span {
            Some(span) => {
                let message = format!("`{key}` takes effect at the next start");
                let problem = source.problem(span.clone(), message, FIX);
                print_problems(Severity::Warning, source, &[problem]);
            }
            None => {
                let message = format!("that `{key}` is gone takes effect at the next start");
                print_warning(&message, Some(FIX));
            }
        }
    }
}

/// Does what takes a while where it keeps nobody waiting.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
