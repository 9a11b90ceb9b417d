//! `budgets.json` in the state directory: what workers have used of day budgets, for the next
//! start.
//!
//! The file is replaced as a whole and is on disk before it counts, so a crash leaves the one
//! before. One that cannot be understood refuses the start: to begin with nothing used would let
//! every budget of the day pass again. What is not of today plays no part, and goes at the next
//! save.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use egret_policy::{RuleId, Timestamp, WorkerId};
use egret_proxy::{BudgetStore, Day, Used};
use serde::{Deserialize, Serialize};

use crate::{failure::Exit, files::AS_A_READER, state};

/// The file, in a state directory that is ours.
pub(crate) struct BudgetFile {
    folder: PathBuf,
}

/// Why what was used is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BudgetError {
    #[error("read the day budgets in `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("understand the day budgets in `{}`", path.display())]
    Syntax {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the day budgets in `{}` are of version {version}", path.display())]
    Version { path: PathBuf, version: u64 },
    #[error("entry {number} of the day budgets in `{}` is not sound", path.display())]
    Entry { path: PathBuf, number: usize },
}

impl BudgetError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { source, .. } => Exit::of_io(source, Exit::Failure),
            Self::Syntax { .. } | Self::Version { .. } | Self::Entry { .. } => Exit::Failure,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(AS_A_READER.to_owned())
            }
            Self::Read { path, .. } | Self::Syntax { path, .. } | Self::Entry { path, .. } => {
                Some(format!(
                    "move `{}` away: what workers may send and receive today then begins anew",
                    path.display()
                ))
            }
            Self::Version { path, .. } => Some(format!(
                "start the egret that wrote it; or move `{}` away, and today's budgets begin anew",
                path.display()
            )),
        }
    }
}

/// The text of the file; its names are kept from one version of egret to the next.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u64,
    used: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    worker: String,
    rule: String,
    day: String,
    bytes_up: u64,
    bytes_down: u64,
}

impl BudgetFile {
    /// Reads what an earlier process has left; nothing where there is no file yet.
    pub(crate) fn open(state: &Path) -> Result<(Self, Vec<Used>), BudgetError> {
        let path = state.join(NAME);
        let used = match fs::read(&path) {
            Ok(bytes) => read(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(BudgetError::Read { path, source }),
        };
        Ok((Self { folder: state.to_owned() }, used))
    }
}

impl BudgetStore for BudgetFile {
    fn save(&self, used: &[Used]) -> io::Result<()> {
        let entry = |Used { worker, rule, day, up, down }: &Used| Entry {
            worker: worker.to_string(),
            rule: rule.to_string(),
            day: day.to_string(),
            bytes_up: *up,
            bytes_down: *down,
        };
        let kept = Kept { version: VERSION, used: used.iter().map(entry).collect() };
        let mut text = serde_json::to_vec(&kept)?;
        text.push(b'\n');
        state::keep(&self.folder.join(NAME), &text)
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Used>, BudgetError> {
    let path = || path.to_owned();
    let Kept { version, used } = serde_json::from_slice(bytes)
        .map_err(|source| BudgetError::Syntax { path: path(), source })?;
    if version != VERSION {
        return Err(BudgetError::Version { path: path(), version });
    }
    let mut seen = BTreeSet::new();
    let entries = used.into_iter().enumerate().map(|(at, entry)| {
        let used = entry_of(&entry).filter(|_| seen.insert((entry.worker, entry.rule)));
        used.ok_or_else(|| BudgetError::Entry { path: path(), number: at + 1 })
    });
    entries.collect()
}

fn entry_of(entry: &Entry) -> Option<Used> {
    let Entry { worker, rule, day, bytes_up, bytes_down } = entry;
    let start: Timestamp = day.parse().ok()?;
    Some(Used {
        worker: WorkerId::parse(worker).ok()?,
        rule: RuleId::parse(rule)?,
        day: Some(Day::of(start)).filter(|day| day.start() == start)?,
        up: *bytes_up,
        down: *bytes_down,
    })
}

const NAME: &str = "budgets.json";
const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn used(worker: &str, up: u64) -> Used {
        let time: Timestamp = "2026-11-21T13:00:00Z".parse().unwrap();
        Used {
            worker: WorkerId::parse(worker).unwrap(),
            rule: RuleId::parse("api").unwrap(),
            day: Day::of(time),
            up,
            down: 7,
        }
    }

    #[test]
    fn what_was_saved_last_is_what_the_next_start_finds() {
        let folder = TempDir::new().unwrap();
        let (file, found) = BudgetFile::open(folder.path()).unwrap();
        assert_eq!(found, []);
        file.save(&[used("a", 1), used("b", 2)]).unwrap();
        let last = [used("a", 5)];
        file.save(&last).unwrap();
        let (_, found) = BudgetFile::open(folder.path()).unwrap();
        assert_eq!(found, last);
        assert_eq!(
            fs::read_to_string(folder.path().join(NAME)).unwrap(),
            "{\"version\":1,\"used\":[{\"worker\":\"a\",\"rule\":\"api\",\
             \"day\":\"2026-11-21T00:00:00Z\",\"bytes_up\":5,\"bytes_down\":7}]}\n"
        );
    }

    #[test]
    fn a_save_that_fails_leaves_what_was_there() {
        let folder = TempDir::new().unwrap();
        let (file, _) = BudgetFile::open(folder.path()).unwrap();
        file.save(&[used("a", 1)]).unwrap();
        fs::create_dir(folder.path().join("budgets.json.new")).unwrap();
        assert!(file.save(&[used("a", 2)]).is_err());
        assert_eq!(BudgetFile::open(folder.path()).unwrap().1, [used("a", 1)]);
    }

    #[test]
    fn what_cannot_be_understood_is_not_taken_for_nothing() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(NAME);
        let (file, _) = BudgetFile::open(folder.path()).unwrap();
        file.save(&[used("a", 1), used("b", 2)]).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = BudgetFile::open(folder.path()).err().expect(text);
            assert!(error.fix().unwrap().contains("begin"), "{error}");
            error
        };
        for (from, to) in [
            ("2026-11-21T00", "2026-11-21T01"),
            ("\"worker\":\"b\"", "\"worker\":\"a\""),
            ("\"worker\":\"b\"", "\"worker\":\"b c\""),
            ("\"rule\":\"api\"", "\"rule\":\"\""),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good);
            assert!(matches!(refused(&text), BudgetError::Entry { .. }), "{text}");
        }
        let later = good.replace("\"version\":1", "\"version\":2");
        assert!(matches!(refused(&later), BudgetError::Version { version: 2, .. }));
        for text in ["", "{}", &good[..good.len() - 3], "{\"version\":1,\"used\":[],\"more\":0}"] {
            assert!(matches!(refused(text), BudgetError::Syntax { .. }), "{text}");
        }
        fs::write(&path, good).unwrap();
        assert_eq!(BudgetFile::open(folder.path()).unwrap().1.len(), 2);
    }
}
