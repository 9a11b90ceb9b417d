//! The committed list of what a run leaves unproven: one line for each run that does not pass.
//!
//! `ID policy channel: verdict: reason`, sorted. Runs and list are compared both ways, so that a
//! case can neither slip out of the tests nor stay on the list when it passes. The reason is for
//! readers and is not compared. A failure cannot be listed.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use super::Row;

/// The verdicts that may be listed.
const LISTED: [&str; 3] = ["soft", "unchecked", "not applicable"];

/// A committed list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected(BTreeMap<Key, Entry>);

type Key = (String, String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    verdict: String,
    why: String,
}

/// What runs and list disagree about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Runs that did not pass and are not listed so.
    pub unlisted: Vec<String>,
    /// Lines that no run bears out.
    pub stale: Vec<String>,
}

impl Difference {
    /// Whether they agree.
    pub fn is_empty(&self) -> bool {
        self.unlisted.is_empty() && self.stale.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.unlisted {
            writeln!(f, "not listed: {line}")?;
        }
        for line in &self.stale {
            writeln!(f, "listed, but not so any more: {line}")?;
        }
        Ok(())
    }
}

impl Expected {
    /// Reads a list; empty lines and lines that begin with `#` are for readers.
    pub fn load(path: &Path) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(path)?)
            .map_err(|line| io::Error::new(io::ErrorKind::InvalidData, line))
    }

    /// Parses a list; the error is the first line that is not an entry, or is there twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut list = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, entry) = entry(line).ok_or_else(|| format!("not an entry: {line}"))?;
            if list.insert(key, entry).is_some() {
                return Err(format!("listed twice: {line}"));
            }
        }
        Ok(Self(list))
    }

    /// Makes the list that fits some rows. Failures are left out, so that they stay failures.
    pub fn of(rows: &[Row]) -> Self {
        let listed = rows.iter().filter(|row| LISTED.contains(&row.verdict.as_str()));
        Self(listed.map(|row| (key(row), Entry::of(row))).collect())
    }

    /// Compares rows with the list, both ways.
    pub fn compare(&self, rows: &[Row]) -> Difference {
        let mut difference = Difference::default();
        let found = Self::of(rows);
        for (key, now) in &found.0 {
            if self.0.get(key).is_none_or(|before| before.verdict != now.verdict) {
                difference.unlisted.push(line(key, now));
            }
        }
        for (key, before) in &self.0 {
            if found.0.get(key).is_none_or(|now| now.verdict != before.verdict) {
                difference.stale.push(line(key, before));
            }
        }
        difference
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, entry) in &self.0 {
            writeln!(f, "{}", line(key, entry))?;
        }
        Ok(())
    }
}

impl Entry {
    fn of(row: &Row) -> Self {
        Self { verdict: row.verdict.clone(), why: row.why.replace('\n', " ") }
    }
}

fn key(row: &Row) -> Key {
    (row.id.clone(), row.policy.clone(), row.channel.clone())
}

fn line((id, policy, channel): &Key, Entry { verdict, why }: &Entry) -> String {
    format!("{id} {policy} {channel}: {verdict}: {why}")
}

fn entry(line: &str) -> Option<(Key, Entry)> {
    let (run, rest) = line.split_once(": ")?;
    let (verdict, why) = rest.split_once(": ")?;
    let [id, policy, channel] = run.split(' ').collect::<Vec<_>>()[..] else { return None };
    let entry = Entry { verdict: verdict.to_owned(), why: why.to_owned() };
    LISTED
        .contains(&verdict)
        .then(|| ((id.to_owned(), policy.to_owned(), channel.to_owned()), entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, verdict: &str) -> Row {
        Row::example(id, verdict)
    }

    #[test]
    fn a_list_is_compared_both_ways() {
        let rows = [row("A-1", "pass"), row("A-2", "soft"), row("A-3", "not applicable")];
        let list = Expected::of(&rows);
        assert_eq!(Expected::parse(&list.to_string()), Ok(list.clone()));
        assert!(list.compare(&rows).is_empty());

        let better = [row("A-1", "pass"), row("A-2", "pass"), row("A-3", "not applicable")];
        let difference = list.compare(&better);
        assert_eq!((difference.unlisted.len(), difference.stale.len()), (0, 1));
        let worse = [row("A-1", "unchecked"), row("A-2", "soft"), row("A-3", "not applicable")];
        let difference = list.compare(&worse);
        assert_eq!((difference.unlisted.len(), difference.stale.len()), (1, 0));
        assert_eq!(list.compare(&rows[..2]).stale.len(), 1, "a case that is gone is noticed");
    }

    #[test]
    fn a_failure_cannot_be_listed() {
        assert!(Expected::parse("A-1 default plain: fail: because").is_err());
        assert!(Expected::parse("A-1 default plain: soft: because").is_ok());
        let twice = "A-1 default plain: soft: x\nA-1 default plain: soft: y\n";
        assert!(Expected::parse(twice).is_err());
        assert_eq!(Expected::of(&[row("A-1", "fail")]), Expected::default());
    }
}
