//! What `serve` says on a terminal about what it denies: each distinct denial once, and the lines
//! that would allow it.
//!
//! It follows the records from outside, so the data path knows nothing of it; what it cannot keep
//! up with is left to `egret tail --denied`. Denials are told apart by worker, host, port and
//! reason, a bounded number of them, and only a few a second are told. The lines are tried on the
//! policy file as it is then, which is read again when it has changed. Where stderr is no terminal
//! there is nobody to tell.

use std::{
    collections::HashSet,
    fs::Metadata,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anstyle::{AnsiColor, Style};
use egret_policy::{Loaded, OwnAddresses, Policy, Timestamp, source::shown};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{
    asked::Asked,
    files, log,
    reasons::{Cure, meaning},
    records::{Backward, Follow, INTERVAL, Judged, Record, RecordsError, Trail},
    remedy::{Law, Remedy},
};

/// Distinct denials that are remembered; then all are forgotten and told again.
const KNOWN: usize = 4096;
/// Denials that are told in one [`INTERVAL`].
const AT_ONCE: usize = 1;

const DENIED: Style = AnsiColor::Red.on_default();
const REPORTED: Style = AnsiColor::Yellow.on_default();
const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// Tells what is denied from now on, until the future is dropped; it ends at once where nobody
/// would see it.
pub(crate) fn show(records: &Path, policy: &Path) -> impl Future<Output = ()> + Send + 'static {
    let denials = Denials::from_now(records, policy).ok();
    let denials = denials.filter(|_| io::stderr().is_terminal());
    async move {
        let Some(mut denials) = denials else { return };
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Files are read and policies tried, which is no work for the threads of the data path.
            let polled = spawn_blocking(move || denials.poll().map(|text| (denials, text)));
            let Ok(Ok((after, text))) = polled.await else { return };
            denials = after;
            log::show(&text);
        }
    }
}

/// What was told, and from where the records are to be read.
struct Denials {
    records: Follow,
    known: HashSet<Key>,
    policy: PathBuf,
    /// The policy as it was read last, and what says whether the file is another since.
    law: Option<(Law, (u64, SystemTime))>,
    untold: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    worker: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    reason: Option<String>,
}

impl Denials {
    fn from_now(records: &Path, policy: &Path) -> Result<Self, RecordsError> {
        let trail = Trail::open(records)?;
        let records = Follow::after(&trail, Backward::begin(&trail)?.end())?;
        let policy = policy.to_owned();
        Ok(Self { records, known: HashSet::new(), policy, law: None, untold: 0 })
    }

    /// Returns what is to be told of what was recorded since.
    fn poll(&mut self) -> Result<String, RecordsError> {
        let Self { records, known, untold, .. } = self;
        let mut chosen = Vec::new();
        records.poll::<RecordsError>(|line| {
            let Some(record) = Record::read(line).filter(Record::is_denial) else { return Ok(()) };
            let key = Key::of(&record);
            if known.contains(&key) {
                return Ok(());
            }
            if chosen.len() == AT_ONCE {
                *untold += 1;
                return Ok(());
            }
            if known.len() == KNOWN {
                known.clear();
            }
            known.insert(key);
            chosen.push(record);
            Ok(())
        })?;
        let mut text = String::new();
        if chosen.is_empty() && self.untold > 0 {
            text = format!(
                "{FAINT}and {} more denials: `egret tail --denied`{FAINT:#}\n",
                self.untold
            );
            self.untold = 0;
        }
        for record in chosen {
            let remedy = self.remedy(&record);
            text += &drawn(&record, remedy.as_ref());
        }
        Ok(text)
    }

    fn remedy(&mut self, record: &Record) -> Option<Remedy> {
        let asked = Asked::of(record)?;
        match meaning(record.reason.as_deref()?).cure {
            Cure::Rule => {
                // Whoever was quick has the lines in the policy already.
                let law = self.law()?;
                let denied = law.judged(&asked).verdict != Judged::Allow;
                denied.then(|| law.remedies(&asked).into_iter().next()).flatten()
            }
            Cure::Network | Cure::None => None,
        }
    }

    fn law(&mut self) -> Option<&Law> {
        let metadata: Metadata = self.policy.metadata().ok()?;
        let state = (metadata.len(), metadata.modified().ok()?);
        if self.law.as_ref().is_none_or(|(_, known)| *known != state) {
            let source = files::read(&self.policy).ok()?;
            let Loaded { policy, .. } = Policy::load(&source.text);
            self.law =
                Some((Law::new(source, policy?, OwnAddresses::default(), Timestamp::now()), state));
        }
        self.law.as_ref().map(|(law, _)| law)
    }
}

impl Key {
    fn of(record: &Record) -> Self {
        let Record { worker, host, port, reason, .. } = record;
        let (worker, host, reason) = (worker.clone(), host.clone(), reason.clone());
        Self { worker, host, port: *port, reason }
    }
}

fn drawn(record: &Record, remedy: Option<&Remedy>) -> String {
    let (word, style) = match record.verdict {
        Some(Judged::WouldDeny) => ("! would be denied", REPORTED),
        Some(Judged::Allow | Judged::Deny) | None => ("✗ denied", DENIED),
    };
    let method = record.method.as_deref().map(|method| format!("{} ", shown(method)));
    let what = format!("{}{}", method.unwrap_or_default(), shown(&record.target()));
    let who = shown(record.worker.as_deref().unwrap_or("nobody known"));
    let reason = shown(record.reason.as_deref().unwrap_or_default());
    let id = shown(record.id.as_deref().unwrap_or_default());
    let mut text = format!(
        "{style}{word}{style:#} {what} of {who}: {reason}  {FAINT}egret why {id}{FAINT:#}\n"
    );
    let Some(Remedy { place, lines, .. }) = remedy else { return text };
    text += &format!("  {FAINT}to allow it, {place}:{FAINT:#}\n");
    for line in lines.lines() {
        text += &format!("    {STRONG}{line}{STRONG:#}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use tempfile::TempDir;

    use super::*;

    fn append(folder: &Path, host: &str, reason: &str) {
        let path = folder.join("audit/00000001.jsonl");
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(
            file,
            "{{\"event\":\"decision\",\"id\":\"ID\",\"time\":\"2026-11-21T13:00:00Z\",\
             \"worker\":\"w\",\"method\":\"CONNECT\",\"host\":\"{host}\",\"port\":443,\
             \"verdict\":\"deny\",\"reason\":\"egress.{reason}\"}}"
        )
        .unwrap();
    }

    #[test]
    fn each_denial_is_told_once_with_lines_for_the_policy_as_it_is_then() {
        let folder = TempDir::new().unwrap();
        let (records, policy) = (folder.path().join("audit"), folder.path().join("policy.toml"));
        std::fs::create_dir(&records).unwrap();
        append(folder.path(), "before.test", "host_not_allowed");
        std::fs::write(&policy, "version = 1\n").unwrap();
        let mut denials = Denials::from_now(&records, &policy).unwrap();
        assert_eq!(denials.poll().unwrap(), "");

        append(folder.path(), "one.test", "host_not_allowed");
        let told = anstream::adapter::strip_str(&denials.poll().unwrap()).to_string();
        for said in [
            "✗ denied CONNECT one.test:443 of w: egress.host_not_allowed",
            "hosts = [\"one.test\"]",
        ] {
            assert!(told.contains(said), "{told}");
        }
        append(folder.path(), "one.test", "host_not_allowed");
        assert_eq!(denials.poll().unwrap(), "", "again");

        std::fs::write(
            &policy,
            "version = 1\n[[rule]]\nid = \"r\"\neffect = \"allow\"\nhosts = [\"a.b.test\"]\n",
        )
        .unwrap();
        append(folder.path(), "c.b.test", "host_not_allowed");
        let told = anstream::adapter::strip_str(&denials.poll().unwrap()).to_string();
        assert!(told.contains("hosts = [\"a.b.test\", \"c.b.test\"]"), "{told}");

        append(folder.path(), "a.b.test", "host_not_allowed");
        let told = anstream::adapter::strip_str(&denials.poll().unwrap()).to_string();
        assert!(told.contains("a.b.test:443") && !told.contains("to allow it"), "{told}");
    }

    #[test]
    fn more_than_a_few_at_once_are_counted() {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("audit")).unwrap();
        let mut denials =
            Denials::from_now(&folder.path().join("audit"), &folder.path().join("none")).unwrap();
        for number in 0..5 {
            append(folder.path(), &format!("h{number}.test"), "rule_denied");
        }
        let told = denials.poll().unwrap();
        assert_eq!(told.matches("denied").count(), 2, "the mark and the reason: {told}");
        assert!(denials.poll().unwrap().contains("and 4 more denials"));
        assert_eq!(denials.poll().unwrap(), "");
    }
}
