//! What was denied while a command ran, told in a few lines afterwards.
//!
//! Many clients show nothing of a denial, so the records are asked. Where they cannot be read,
//! because the proxy is somebody else's, there is nothing to tell.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use egret_policy::WorkerId;
use serde::Deserialize;

/// Distinct denials that are told; the others are counted.
const TOLD: usize = 10;
/// Distinct denials that are told apart at all.
const KNOWN: usize = 10_000;
/// A record is shorter.
const LINE: u64 = 1 << 20;

/// Where the records ended when the command was started.
pub(super) struct Denials {
    records: PathBuf,
    newest: Option<(PathBuf, u64)>,
}

impl Denials {
    pub(super) fn from_now(records: &Path) -> Self {
        let newest = segments(records).pop();
        let newest = newest.and_then(|path| Some((path.clone(), path.metadata().ok()?.len())));
        Self { records: records.to_owned(), newest }
    }

    /// Tells on stderr what was denied to a worker, or to anybody where it is not known who asked.
    pub(super) fn tell(self, worker: Option<&WorkerId>) {
        let mut seen = BTreeMap::new();
        let mut others = 0_usize;
        for (path, offset) in self.since() {
            // One that retention has removed is gone.
            let Ok(mut file) = File::open(path) else { continue };
            if file.seek(SeekFrom::Start(offset)).is_err() {
                continue;
            }
            let mut lines = BufReader::new(file);
            let mut line = Vec::new();
            while lines.by_ref().take(LINE).read_until(b'\n', &mut line).is_ok_and(|read| read > 0)
            {
                if let Ok(record) = serde_json::from_slice::<Record>(&line)
                    && record.is_denial_of(worker)
                {
                    match seen.len() < KNOWN || seen.contains_key(&record.key()) {
                        true => seen.entry(record.key()).or_insert((0, record.id)).0 += 1,
                        false => others += 1,
                    }
                }
                line.clear();
            }
        }
        print(seen, others);
    }

    /// The segments to read, and from where: the rest of the one that was the newest, and all later.
    fn since(&self) -> Vec<(PathBuf, u64)> {
        let from = |path: PathBuf| match &self.newest {
            Some((newest, _)) if path < *newest => None,
            Some((newest, end)) if path == *newest => Some((path, *end)),
            Some(_) | None => Some((path, 0)),
        };
        segments(&self.records).into_iter().filter_map(from).collect()
    }
}

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    event: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    worker: Option<String>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    reason: String,
}

impl Record {
    fn is_denial_of(&self, worker: Option<&WorkerId>) -> bool {
        // Who did not show who it is may have been the command.
        let asked = self.worker.as_deref().zip(worker);
        self.event == "decision"
            && self.verdict == "deny"
            && asked.is_none_or(|(asked, worker)| asked == worker.as_str())
    }

    /// What makes a denial another one.
    fn key(&self) -> [String; 2] {
        let Self { method, host, port, reason, .. } = self;
        let what = match host.is_empty() {
            true => "a request that cannot be understood".to_owned(),
            false => format!("{method} {host}:{port}"),
        };
        [what, reason.clone()].map(|text| text.escape_debug().to_string())
    }
}

fn print(seen: BTreeMap<[String; 2], (usize, String)>, others: usize) {
    let mut text = String::new();
    for ([what, reason], (times, id)) in seen.iter().take(TOLD) {
        let times = if *times == 1 { String::new() } else { format!(" ({times} times)") };
        let id = id.escape_debug();
        text += &format!("denied: {what} {reason}{times}; `egret why {id}` says why\n");
    }
    let left: usize = seen.values().skip(TOLD).map(|(times, _)| times).sum();
    if left + others > 0 {
        text += &format!("denied: {} more\n", left + others);
    }
    // There is nowhere left to say that stderr is closed.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// The files of records, the oldest first.
fn segments(records: &Path) -> Vec<PathBuf> {
    let Ok(entries) = records.read_dir() else { return Vec::new() };
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl");
    let mut segments: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(is_segment).collect();
    segments.sort();
    segments
}
