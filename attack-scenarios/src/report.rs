//! What a run of the suite found, as one document, and two of them side by side.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::suite::{Row, VERDICTS};

/// Everything that was found about one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The proxy, as it was named.
    pub target: String,
    /// How many runs ended how, by the word of the verdict.
    pub summary: BTreeMap<String, usize>,
    /// One object for each run.
    pub runs: Vec<Row>,
    /// Families that could not be played, and why.
    pub broken: Vec<String>,
    /// How long it took.
    pub seconds: u64,
}

impl Report {
    /// Puts together what was found; the runs are sorted.
    pub fn new(target: &str, mut runs: Vec<Row>, broken: Vec<String>, seconds: u64) -> Self {
        runs.sort_by_cached_key(Row::key);
        let mut summary: BTreeMap<String, usize> =
            VERDICTS.iter().map(|word| ((*word).to_owned(), 0)).collect();
        for run in &runs {
            *summary.entry(run.verdict.clone()).or_default() += 1;
        }
        Self { target: target.to_owned(), summary, runs, broken, seconds }
    }

    /// Reads a report.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    /// Whether something is wrong with the proxy, or was not found out.
    pub fn is_failure(&self) -> bool {
        !self.broken.is_empty() || self.runs.iter().any(Row::is_failure)
    }

    /// Whether anything was played at all.
    pub fn has_played(&self) -> bool {
        let played = |run: &Row| !["unchecked", "not applicable", "error"].contains(&&*run.verdict);
        self.runs.iter().any(played)
    }
}

/// A run that ended otherwise in one report than in the other; `-` where it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `ID policy channel`.
    pub run: String,
    /// What a failure means.
    pub severity: String,
    /// How it ended in the first report, and why.
    pub before: String,
    /// How it ended in the second, and why.
    pub after: String,
}

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Whom the reports are about.
    pub targets: [String; 2],
    /// How many runs ended how, in each.
    pub summary: BTreeMap<String, [usize; 2]>,
    /// For each family, how many of its failures each has.
    pub failures: BTreeMap<String, [usize; 2]>,
    /// The runs that ended otherwise.
    pub changes: Vec<Change>,
}

impl Comparison {
    /// Compares two reports.
    pub fn of(before: &Report, after: &Report) -> Self {
        let mut summary = BTreeMap::new();
        let mut failures: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        let mut runs: BTreeMap<String, [Option<&Row>; 2]> = BTreeMap::new();
        for (side, report) in [before, after].into_iter().enumerate() {
            for (word, count) in &report.summary {
                summary.entry(word.clone()).or_insert([0; 2])[side] = *count;
            }
            for run in &report.runs {
                runs.entry(run.key()).or_default()[side] = Some(run);
                let failed = failures.entry(run.family.clone()).or_default();
                failed[side] += usize::from(run.is_failure());
            }
        }
        failures.retain(|_, counts| *counts != [0, 0]);
        let differs = |[a, b]: &[Option<&Row>; 2]| match (a, b) {
            (Some(a), Some(b)) => a.verdict != b.verdict,
            (None, _) | (_, None) => true,
        };
        let ended = |run: Option<&Row>| match run {
            None => "-".to_owned(),
            Some(run) if run.why.is_empty() => run.verdict.clone(),
            Some(run) => format!("{}: {}", run.verdict, run.why),
        };
        let changes = runs.into_iter().filter(|(_, pair)| differs(pair)).map(|(run, pair)| {
            let severity = pair.iter().flatten().next().map(|run| run.severity.clone());
            let [before, after] = pair.map(ended);
            Change { run, severity: severity.unwrap_or_default(), before, after }
        });
        let targets = [before.target.clone(), after.target.clone()];
        Self { targets, summary, failures, changes: changes.collect() }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = &self.targets;
        let width = before.len().max(after.len()).max(8);
        writeln!(f, "{:<24} {before:>width$} {after:>width$}", "")?;
        for word in VERDICTS {
            let [a, b] = self.summary.get(word).copied().unwrap_or_default();
            writeln!(f, "{word:<24} {a:>width$} {b:>width$}")?;
        }
        if !self.failures.is_empty() {
            writeln!(f, "\nfailures in")?;
        }
        for (family, [a, b]) in &self.failures {
            writeln!(f, "  {family:<22} {a:>width$} {b:>width$}")?;
        }
        for Change { run, severity, before, after } in &self.changes {
            write!(f, "\n{run} ({severity})\n  {before}\n  {after}\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Row {
    /// A run of a case that ended so.
    pub(crate) fn example(id: &str, verdict: &str) -> Self {
        Self {
            id: id.to_owned(),
            family: "f".to_owned(),
            kind: "raw".to_owned(),
            policy: "default".to_owned(),
            channel: "plain".to_owned(),
            severity: "high".to_owned(),
            verdict: verdict.to_owned(),
            why: "because: of".to_owned(),
            note: String::new(),
            ms: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, verdict: &str) -> Row {
        Row { why: String::new(), ..Row::example(id, verdict) }
    }

    #[test]
    fn reports_are_compared_run_by_run() {
        let one = Report::new("one", vec![row("A-1", "pass"), row("A-2", "fail")], vec![], 1);
        let two = Report::new("two", vec![row("A-1", "pass"), row("A-2", "pass")], vec![], 1);
        let compared = Comparison::of(&one, &two);
        assert_eq!(compared.changes.len(), 1);
        assert_eq!(compared.changes[0].run, "A-2 default plain");
        assert_eq!((&*compared.changes[0].before, &*compared.changes[0].after), ("fail", "pass"));
        assert_eq!(compared.failures["f"], [1, 0]);
        assert!(Comparison::of(&one, &one).changes.is_empty());
        let less = Report::new("less", vec![row("A-1", "pass")], vec![], 1);
        assert_eq!(Comparison::of(&one, &less).changes[0].after, "-");
    }

    #[test]
    fn what_nobody_looked_at_is_no_success() {
        let report = |verdict: &str| Report::new("x", vec![row("A-1", verdict)], vec![], 1);
        assert!(report("fail").is_failure() && report("error").is_failure());
        assert!(!report("soft").is_failure() && report("soft").has_played());
        assert!(!report("unchecked").has_played() && !report("not applicable").has_played());
        let broken = Report::new("x", vec![row("A-1", "pass")], vec!["cell".to_owned()], 1);
        assert!(broken.is_failure());
    }
}
