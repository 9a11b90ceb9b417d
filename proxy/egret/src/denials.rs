//! What `serve` says on a terminal about what it denies: each distinct denial once, and the lines
//! that would allow it.
//!
//! It follows the records from outside, so the data path knows nothing of it; what it cannot keep
//! up with is left to `egret tail --denied`. Denials are told apart by worker, host, port and
//! reason, a bounded number of them, and only a few a second are told. The lines open as little as
//! can be, say what they open, and are tried on the policy file as it is then, which is read again
//! when it has changed. Where stderr is no terminal there is nobody to tell.

use std::{
    collections::HashSet,
    error::Error,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use egret_policy::{Loaded, OwnAddresses, Policy, Timestamp, source::shown};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{
    asked::Asked,
    files::{self, Marks},
    log,
    reasons::{Cure, meaning},
    records::{Follow, INTERVAL, Judged, Record, RecordsError},
    remedy::{Law, Remedy},
    style::{DENIED, FAINT, REPORTED, STRONG},
};

/// Distinct denials that are remembered; then all are forgotten and told again.
const KNOWN: usize = 4096;
/// Denials that are told in one [`INTERVAL`].
const AT_ONCE: usize = 1;

/// Tells what is denied from now on, until the future is dropped; it ends at once where nobody
/// would see it.
pub(crate) fn show(records: &Path, policy: &Path) -> impl Future<Output = ()> + Send + 'static {
    let is_seen = io::stderr().is_terminal();
    let denials = is_seen.then(|| Denials::from_now(records, policy).ok()).flatten();
    async move {
        let Some(mut denials) = denials else { return };
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Files are read and policies tried, which is no work for the threads of the data path.
            let polled = spawn_blocking(move || {
                let text = denials.poll(Timestamp::now());
                (denials, text)
            });
            let Ok((after, text)) = polled.await else { return };
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
    law: Option<(Law, Marks)>,
    untold: u64,
    /// Whether the records could not be read the last time.
    failing: bool,
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
        let (records, policy) = (Follow::from_now(records)?, policy.to_owned());
        Ok(Self { records, known: HashSet::new(), policy, law: None, untold: 0, failing: false })
    }

    /// Returns what is to be told of what was recorded since. Records that cannot be read are told
    /// once, and read the next time.
    fn poll(&mut self, now: Timestamp) -> String {
        let Self { records, known, untold, .. } = self;
        let mut chosen = Vec::new();
        let polled = records.poll::<RecordsError>(|line| {
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
        });
        let mut text = String::new();
        if chosen.is_empty() && self.untold > 0 {
            text = format!(
                "{FAINT}and {} more denials: `egret tail --denied`{FAINT:#}\n",
                self.untold
            );
            self.untold = 0;
        }
        for record in chosen {
            let remedy = self.remedy(&record, now);
            text += &drawn(&record, remedy.as_ref());
        }
        if let (Err(error), false) = (&polled, self.failing) {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            text += &format!(
                "{DENIED}denials cannot be told{DENIED:#}: {error}{cause}; it is tried again\n"
            );
        }
        self.failing = polled.is_err();
        text
    }

    fn remedy(&mut self, record: &Record, now: Timestamp) -> Option<Remedy> {
        let asked = Asked::of(record)?;
        match meaning(record.reason.as_deref()?).cure {
            Cure::Rule => {
                // Whoever was quick has the lines in the policy already.
                let law = self.law(now)?;
                let denied = law.judged(&asked).verdict != Judged::Allow;
                denied.then(|| law.least(&asked)).flatten()
            }
            Cure::Network | Cure::None => None,
        }
    }

    fn law(&mut self, now: Timestamp) -> Option<&Law> {
        let marks = Marks::of(&self.policy.metadata().ok()?);
        if self.law.as_ref().is_none_or(|(_, known)| *known != marks) {
            let source = files::read(&self.policy).ok()?;
            let Loaded { policy, .. } = Policy::load(&source.text);
            self.law = Some((Law::new(source, policy?, OwnAddresses::default(), now), marks));
        }
        let (law, _) = self.law.as_mut()?;
        law.now = now;
        Some(law)
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
    let Some(Remedy { place, lines, opens, against: _ }) = remedy else { return text };
    text += &format!("  {FAINT}to allow it, {place}:{FAINT:#}\n");
    for line in lines.lines() {
        text += &format!("    {STRONG}{line}{STRONG:#}\n");
    }
    text + &format!("  {FAINT}{opens}{FAINT:#}\n")
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

    fn at(hour: u8) -> Timestamp {
        format!("2026-11-21T{hour}:00:00Z").parse().unwrap()
    }

    fn plain(told: &str) -> String {
        anstream::adapter::strip_str(told).to_string()
    }

    const POLICY: &str =
        "version = 1\n[[rule]]\nid = \"r\"\neffect = \"allow\"\nhosts = [\"a.b.test\"]\n";

    #[test]
    fn each_denial_is_told_once_with_lines_for_the_policy_as_it_is_then() {
        let folder = TempDir::new().unwrap();
        let (records, policy) = (folder.path().join("audit"), folder.path().join("policy.toml"));
        std::fs::create_dir(&records).unwrap();
        append(folder.path(), "before.test", "host_not_allowed");
        std::fs::write(&policy, "version = 1\n").unwrap();
        let mut denials = Denials::from_now(&records, &policy).unwrap();
        assert_eq!(denials.poll(at(13)), "");

        append(folder.path(), "one.test", "host_not_allowed");
        let told = plain(&denials.poll(at(13)));
        for said in [
            "✗ denied CONNECT one.test:443 of w: egress.host_not_allowed",
            "hosts = [\"one.test\"]",
        ] {
            assert!(told.contains(said), "{told}");
        }
        append(folder.path(), "one.test", "host_not_allowed");
        assert_eq!(denials.poll(at(13)), "", "again");

        std::fs::write(&policy, POLICY).unwrap();
        append(folder.path(), "c.b.test", "host_not_allowed");
        let told = plain(&denials.poll(at(13)));
        // What opens it to every worker is not the least.
        for said in ["hosts = [\"c.b.test\"]", "opens c.b.test:443 (https) to worker `w`"] {
            assert!(told.contains(said), "{told}");
        }

        append(folder.path(), "a.b.test", "host_not_allowed");
        let told = plain(&denials.poll(at(13)));
        assert!(told.contains("a.b.test:443") && !told.contains("to allow it"), "{told}");
    }

    #[test]
    fn lines_that_a_test_of_the_policy_speaks_against_are_not_shown() {
        let folder = TempDir::new().unwrap();
        let (records, policy) = (folder.path().join("audit"), folder.path().join("policy.toml"));
        std::fs::create_dir(&records).unwrap();
        let test =
            "[[test]]\nworker = { id = \"w\" }\nurl = \"https://c.b.test/\"\nexpect = \"deny\"\n";
        std::fs::write(&policy, format!("{POLICY}{test}")).unwrap();
        let mut denials = Denials::from_now(&records, &policy).unwrap();
        for (host, shown) in [("c.b.test", false), ("d.b.test", true)] {
            append(folder.path(), host, "host_not_allowed");
            let told = plain(&denials.poll(at(13)));
            assert!(told.contains(host), "{told}");
            assert_eq!(told.contains("to allow it"), shown, "{told}");
        }
    }

    #[test]
    fn a_rule_that_has_expired_since_allows_nothing() {
        let folder = TempDir::new().unwrap();
        let (records, policy) = (folder.path().join("audit"), folder.path().join("policy.toml"));
        std::fs::create_dir(&records).unwrap();
        std::fs::write(&policy, format!("{POLICY}expires = 2026-11-21T15:00:00Z\n")).unwrap();
        let mut denials = Denials::from_now(&records, &policy).unwrap();
        append(folder.path(), "a.b.test", "host_not_allowed");
        let told = plain(&denials.poll(at(14)));
        assert!(told.contains("a.b.test") && !told.contains("to allow it"), "{told}");
        append(folder.path(), "a.b.test", "port_not_allowed");
        let told = plain(&denials.poll(at(16)));
        assert!(told.contains("hosts = [\"a.b.test\"]"), "{told}");
    }

    #[test]
    fn a_policy_that_was_put_in_the_place_of_another_is_read() {
        let folder = TempDir::new().unwrap();
        let (records, policy) = (folder.path().join("audit"), folder.path().join("policy.toml"));
        std::fs::create_dir(&records).unwrap();
        let mut denials = Denials::from_now(&records, &policy).unwrap();
        let written = std::time::SystemTime::UNIX_EPOCH;
        for (text, shown) in [(POLICY.to_owned(), false), (POLICY.replace("a.b", "c.b"), true)] {
            let new = folder.path().join("new.toml");
            std::fs::write(&new, text).unwrap();
            OpenOptions::new().append(true).open(&new).unwrap().set_modified(written).unwrap();
            std::fs::rename(&new, &policy).unwrap();
            let reason = if shown { "host_not_allowed" } else { "port_not_allowed" };
            append(folder.path(), "a.b.test", reason);
            let told = plain(&denials.poll(at(13)));
            assert!(told.contains("a.b.test"), "{told}");
            assert_eq!(told.contains("to allow it"), shown, "{told}");
        }
    }

    #[test]
    fn records_that_cannot_be_read_for_a_while_are_told_once_and_then_go_on() {
        let folder = TempDir::new().unwrap();
        let (records, away) = (folder.path().join("audit"), folder.path().join("away"));
        std::fs::create_dir(&records).unwrap();
        let mut denials = Denials::from_now(&records, &folder.path().join("none")).unwrap();
        std::fs::rename(&records, &away).unwrap();
        std::fs::write(&records, "").unwrap();
        let told = plain(&denials.poll(at(13)));
        assert!(told.contains("denials cannot be told: read the records"), "{told}");
        // Whether anything is recorded cannot be known from here.
        assert!(told.ends_with("; it is tried again\n"), "{told}");
        assert_eq!(denials.poll(at(13)), "", "again");
        std::fs::remove_file(&records).unwrap();
        std::fs::rename(&away, &records).unwrap();
        append(folder.path(), "one.test", "rule_denied");
        assert!(plain(&denials.poll(at(13))).contains("one.test"));
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
        let told = denials.poll(at(13));
        assert_eq!(told.matches("denied").count(), 2, "the mark and the reason: {told}");
        assert!(denials.poll(at(13)).contains("and 4 more denials"));
        assert_eq!(denials.poll(at(13)), "");
    }
}
