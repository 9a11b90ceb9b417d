//! `egret tail`: records as lines for people, the last ones and those that follow.
//!
//! What a line leaves out is in the record: `--json` passes it on as it was written. Bytes that a
//! worker chose are escaped. A reader that has heard enough ends it, quietly.

use std::{
    io::{self, Write},
    panic, thread,
};

use egret_policy::source::shown;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use crate::{
    cli,
    diagnostic::print_warning,
    environment::Environment,
    failure::{Exit, Failure},
    records::{Backward, Follow, INTERVAL, Judged, Record, RecordsError, Trail, when},
    style::{ALLOWED, DENIED, FAINT, REPORTED},
};

/// Why there is nothing more to print.
enum Stop {
    /// Nobody reads it any more.
    Closed,
    Failed(Failure),
}

impl From<RecordsError> for Stop {
    fn from(error: RecordsError) -> Self {
        Self::Failed(error.into())
    }
}

pub(crate) fn run(args: &cli::Tail, environment: &Environment) -> Result<Exit, Failure> {
    let trail = Trail::named(&args.source, environment)?;
    let wanted = Wanted::new(args);
    let ended = match args.follow {
        true => until_interrupted(move || follow(&trail, &wanted)),
        false => last(&trail, &wanted).map(|_| ()),
    };
    match ended {
        Ok(()) | Err(Stop::Closed) => Ok(Exit::Done),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Does what has no end, until it is interrupted, which is no failure from the first line on.
///
/// It is not waited for: a reader that takes nothing would keep it alive for good.
fn until_interrupted(
    endless: impl FnOnce() -> Result<(), Stop> + Send + 'static,
) -> Result<(), Stop> {
    let cannot = |error: io::Error| Stop::Failed(Failure::Start(error.into()));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let ended = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        tokio::select! {
            ended = spawn_blocking(endless) => {
                ended.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
            }
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    runtime.shutdown_background();
    ended
}

/// Prints the last records, and those that follow them as they come.
fn follow(trail: &Trail, wanted: &Wanted) -> Result<(), Stop> {
    let mut records = last(trail, wanted)?;
    let mut gone = false;
    loop {
        let polled = records.poll(|line| match Record::read(line) {
            Some(record) if wanted.has(&record) => print(&wanted.args, &record, line),
            Some(_) | None => Ok(()),
        });
        gone = match polled {
            Ok(()) => false,
            // Moved away; it comes back, or another one takes its place.
            Err(Stop::Failed(Failure::Records(error @ RecordsError::Absent { .. }))) => {
                if !gone {
                    print_warning(&error.to_string(), Some("it is waited for"));
                }
                true
            }
            Err(stop) => return Err(stop),
        };
        thread::sleep(INTERVAL);
    }
}

/// Prints the last records, and returns what follows them.
fn last(trail: &Trail, wanted: &Wanted) -> Result<Follow, Stop> {
    let mut records = Backward::begin(trail)?;
    let mut last = Vec::new();
    while last.len() < wanted.args.lines
        && let Some((record, line)) = records.next_record()?
    {
        if wanted.has(&record) {
            last.push((record, line));
        }
    }
    records.skipped().tell(trail);
    // Before anything is told: whoever reads it may move the records away.
    let follow = Follow::after(trail, records.end())?;
    last.iter().rev().try_for_each(|(record, line)| print(&wanted.args, record, line))?;
    Ok(follow)
}

/// Which records are shown.
struct Wanted {
    args: cli::Tail,
    /// Without the dot that may stand before it.
    suffix: Option<String>,
}

impl Wanted {
    fn new(args: &cli::Tail) -> Self {
        let suffix = args.host.as_ref().map(|host| host.trim_start_matches('.').to_lowercase());
        Self { args: args.clone(), suffix }
    }

    fn has(&self, record: &Record) -> bool {
        let cli::Tail { denied, verdict, worker, event, all, .. } = &self.args;
        let by_event = match event.is_empty() {
            true => *all || record.is_decision() || record.is_sum(),
            false => event.contains(&record.event),
        };
        let by_verdict =
            verdict.is_empty() || record.verdict.is_some_and(|judged| verdict.contains(&judged));
        by_event
            && by_verdict
            && record.is_of(worker.as_ref())
            && (!denied || record.is_denial())
            && self.suffix.as_ref().is_none_or(|suffix| is_below(record, suffix))
    }
}

fn is_below(record: &Record, suffix: &str) -> bool {
    let rest = record.host.as_deref().and_then(|host| host.strip_suffix(suffix));
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn print(args: &cli::Tail, record: &Record, line: &[u8]) -> Result<(), Stop> {
    let written = if args.json {
        let mut out = io::stdout().lock();
        out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
    } else {
        let mut out = anstream::stdout().lock();
        out.write_all(drawn(record).as_bytes()).and_then(|()| out.flush())
    };
    written.map_err(|error| {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        if closed { Stop::Closed } else { Stop::Failed(Failure::Output(error)) }
    })
}

fn drawn(record: &Record) -> String {
    let Record { event, time, worker, method, scheme, verdict, reason, rule, count, .. } = record;
    let (mark, style) = match verdict {
        Some(Judged::Allow) => ("✓", ALLOWED),
        Some(Judged::WouldDeny) => ("!", REPORTED),
        Some(Judged::Deny) => ("✗", DENIED),
        None if record.is_sum() => ("✗", DENIED),
        None => ("·", FAINT),
    };
    let mut parts = vec![shown(worker.as_deref().unwrap_or("-"))];
    if verdict.is_none() {
        parts.push(shown(event));
    }
    parts.extend(method.as_deref().map(shown));
    let target = record.target();
    if !target.is_empty() {
        parts.push(shown(&target));
    }
    if method.as_deref() == Some("CONNECT") {
        parts.extend(scheme.as_deref().map(|scheme| format!("({})", shown(scheme))));
    }
    let reason = reason.as_deref().map(|reason| shown(reason.trim_start_matches("egress.")));
    // Which rule allows is what is asked of an allow, and why not of a denial.
    match (verdict, rule) {
        (Some(Judged::Allow), Some(rule)) => parts.push(format!("rule {}", shown(rule))),
        (_, Some(rule)) => {
            parts.extend(reason);
            parts.push(format!("(rule {})", shown(rule)));
        }
        (_, None) => parts.extend(reason),
    }
    parts.extend(count.map(|count| format!("{count} times")));
    parts.extend(ended(record));
    if record.is_denial() {
        let id = shown(record.id.as_deref().unwrap_or_default());
        parts.push(format!("{FAINT}{id}{FAINT:#}"));
    }
    format!("{FAINT}{}{FAINT:#} {style}{mark}{style:#} {}\n", when(time), parts.join(" "))
}

/// What a completion adds.
fn ended(record: &Record) -> Vec<String> {
    let Record { status, bytes_up, bytes_down, total_ms, closed_by, .. } = record;
    let mut parts = Vec::new();
    parts.extend(status.map(|status| format!("status {status}")));
    parts.extend(bytes_up.map(|bytes| format!("up {}", amount(bytes))));
    parts.extend(bytes_down.map(|bytes| format!("down {}", amount(bytes))));
    parts.extend(total_ms.map(|total| format!("{total} ms")));
    parts.extend(closed_by.as_deref().map(|by| format!("by {}", shown(by))));
    parts
}

/// A number of bytes for people.
fn amount(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}
