//! The whole corpus against one proxy, family by family.
//!
//! A process holds one namespace, so each family is played by a child: the same binary started
//! again with [`CELL`] set. The child prints one JSON line for each run. What a run is expected to
//! leave unproven stands in a committed list; see [`expected`].

use std::{
    env,
    io::{self, BufRead, BufReader, Read},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError, RwLock},
    thread,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use egret_testkit::namespace::{Namespace, REQUIRE};

use crate::{
    case::{Case, ChannelName, Policy},
    cell::{Cell, Options},
    target::Target,
};

pub mod expected;

/// Names the family that a child of [`play_family`] plays; [`PROBE`] only tries the namespace.
pub const CELL: &str = "EGRET_CELL";

/// The value of [`CELL`] that plays nothing.
pub const PROBE: &str = "probe";

/// The words for how a run ends, best first.
pub const VERDICTS: [&str; 6] = ["pass", "soft", "fail", "error", "unchecked", "not applicable"];

/// One run of a case: under one policy, on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The case.
    pub id: String,
    /// Its family.
    pub family: String,
    /// Its kind.
    pub kind: String,
    /// The policy, by its word.
    pub policy: String,
    /// The channel, by its word.
    pub channel: String,
    /// What a failure means, by its word.
    pub severity: String,
    /// How it ended, by its word; `error` where the surroundings failed.
    pub verdict: String,
    /// Why; empty for a pass.
    pub why: String,
    /// What else there is to say, such as the scale of a load case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// How long it took.
    pub ms: u64,
}

impl Row {
    /// Returns what tells this run from others: `ID policy channel`.
    pub fn key(&self) -> String {
        format!("{} {} {}", self.id, self.policy, self.channel)
    }

    /// Whether the run shows something wrong.
    pub fn is_failure(&self) -> bool {
        !matches!(self.verdict.as_str(), "pass" | "soft" | "unchecked" | "not applicable")
    }

    /// Whether the run proves what the case asks for.
    pub fn is_pass(&self) -> bool {
        self.verdict == "pass"
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, family, kind: _, policy, channel, severity, verdict, why, note, ms: _ } =
            self;
        write!(f, "{verdict} {id} [{family}, {severity}] {policy} {channel}: {why}")?;
        if note.is_empty() { Ok(()) } else { write!(f, " ({note})") }
    }
}

/// The runs of a family, in an order that starts the proxy rarely.
pub fn plan<'c>(cases: &'c [Case], family: &str) -> Vec<(&'c Case, Policy, ChannelName)> {
    let mut runs = Vec::new();
    for case in cases.iter().filter(|case| case.family == family) {
        for policy in &case.policies {
            runs.extend(case.channels.iter().map(|channel| (case, *policy, *channel)));
        }
    }
    // What shares a policy and the names stands together.
    runs.sort_by_cached_key(|(case, policy, channel)| {
        (*policy, format!("{:?}", case.resolver), case.id.clone(), *channel)
    });
    runs
}

/// The families of the corpus, sorted.
pub fn families(cases: &[Case]) -> Vec<String> {
    let mut families: Vec<String> = cases.iter().map(|case| case.family.clone()).collect();
    families.sort();
    families.dedup();
    families
}

/// If this process is a cell, plays its family and returns with which status it must end. To be
/// called first in `main`, before any thread is started.
pub fn cell(cases: &[Case], target: &dyn Target, options: Options) -> Option<ExitCode> {
    let family = env::var(CELL).ok()?;
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(code) => return Some(code),
    };
    if family == PROBE {
        println!("{PROBE}");
        return Some(ExitCode::SUCCESS);
    }
    let played = Cell::furnish(entered, target).map_err(Into::into).and_then(|mut cell| {
        for (case, policy, channel) in plan(cases, &family) {
            let row = play(&mut cell, case, policy, channel, options);
            println!("{}", serde_json::to_string(&row).map_err(io::Error::from)?);
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    });
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn play(
    cell: &mut Cell<'_>,
    case: &Case,
    policy: Policy,
    channel: ChannelName,
    options: Options,
) -> Row {
    let begin = Instant::now();
    let (verdict, why) = match cell.run(case, policy, channel, options) {
        Ok(verdict) => (verdict.word().to_owned(), verdict.why().to_owned()),
        // A fault of the surroundings must never read as a verdict on the proxy.
        Err(fault) => ("error".to_owned(), fault.to_string()),
    };
    Row {
        id: case.id.clone(),
        family: case.family.clone(),
        kind: case.kind.clone(),
        policy: policy.to_string(),
        channel: channel.to_string(),
        severity: case.severity.to_string(),
        verdict,
        why,
        note: cell.take_note(),
        ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// Whether cells can be started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cells {
    /// They can.
    Available,
    /// The system forbids it.
    Forbidden {
        /// `EGRET_REQUIRE_NETNS=1` makes this a failure.
        required: bool,
        /// What the system said.
        why: String,
    },
}

/// Tries a cell that plays nothing.
pub fn probe() -> io::Result<Cells> {
    let output = child(PROBE)?.output()?;
    if String::from_utf8_lossy(&output.stdout).trim() == PROBE {
        return Ok(Cells::Available);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let why = said.lines().find(|line| line.contains("no network namespace")).unwrap_or(&said);
    let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
    Ok(Cells::Forbidden { required, why: why.to_owned() })
}

static ALONE: RwLock<()> = RwLock::new(());

/// Plays a family in a cell of its own, shows each row as it comes and returns them all; an error
/// when the cell did not play all of them.
pub fn play_family(
    cases: &[Case],
    family: &str,
    mut show: impl FnMut(&Row),
) -> Result<Vec<Row>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cell {family}: {error}");
    // What is timed is played while nothing else is.
    let timed = cases.iter().any(|case| case.family == family && case.kind == "load");
    let _alone = timed.then(|| ALONE.write());
    let _beside = (!timed).then(|| ALONE.read());
    let mut child =
        child(family).and_then(|mut command| command.spawn()).map_err(|error| failed(&error))?;
    let errors = child.stderr.take().map(|mut pipe| {
        thread::spawn(move || {
            let mut said = String::new();
            let _ = pipe.read_to_string(&mut said);
            said
        })
    });
    let mut rows = Vec::new();
    let mut broken = None;
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        match line.and_then(|line| Ok(serde_json::from_str(&line)?)) {
            Ok(row) => {
                show(&row);
                rows.push(row);
            }
            // Read on: a cell that cannot write would never end.
            Err(error) => broken = Some(error),
        }
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    let planned = plan(cases, family).len();
    if let Some(error) = broken {
        return Err(failed(&error));
    }
    if !status.success() || rows.len() != planned {
        let said = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        return Err(failed(&format!("{} of {planned} runs, {status}: {said}", rows.len())));
    }
    Ok(rows)
}

/// What several cells played.
#[derive(Debug, Clone, Default)]
pub struct Played {
    /// The runs, in no order.
    pub rows: Vec<Row>,
    /// The families that were not played whole, and why.
    pub broken: Vec<String>,
}

/// Plays every family, so many at once, and shows each row as it comes.
pub fn play_all(cases: &[Case], jobs: usize, show: impl Fn(&Row) + Sync) -> Played {
    // Those that wait longest first, so that none is left alone at the end.
    let mut families = families(cases);
    families.sort_by_key(|family| !SLOW.contains(&family.as_str()));
    let (next, played) = (Mutex::new(families.into_iter()), Mutex::new(Played::default()));
    let work = || {
        loop {
            let family = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(family) = family else { return };
            let result = play_family(cases, &family, &show);
            let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(rows) => played.rows.extend(rows),
                Err(why) => played.broken.push(why),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    played.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Families that take longest, longest first; what is timed is played alone, so its place is the
/// same.
const SLOW: [&str; 2] = ["dns-abuse", "dns-rebind"];

/// This program again, with the same arguments, as a cell. A cell never starts one: a program that
/// does not ask first whether it is a cell would start itself without end.
fn child(family: &str) -> io::Result<Command> {
    if env::var_os(CELL).is_some() {
        return Err(io::Error::other("a cell starts no cell: `suite::cell` was not asked first"));
    }
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(CELL, family);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Counts rows by verdict, for a line of summary.
pub fn tally(rows: &[Row]) -> String {
    let count = |word: &str| rows.iter().filter(|row| row.verdict == word).count();
    let counted = VERDICTS.iter().map(|word| (count(word), word));
    let parts: Vec<String> =
        counted.filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    parts.join(", ")
}
