//! The records, read as an auditor would: whole lines, each chained to the one before it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use egret_attack::audit::{self, Record};
use egret_testkit::workers::Asked;
use sha2::{Digest, Sha256};

use crate::load::number;

/// All records of a folder.
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
    folder: PathBuf,
}

impl Ledger {
    pub(crate) fn read(folder: &Path) -> Self {
        Self { records: audit::read(folder), folder: folder.to_owned() }
    }

    /// Returns the records of a kind.
    pub(crate) fn events(&self, event: &str) -> Vec<&Record> {
        self.records.iter().filter(|record| record.text("event") == event).collect()
    }

    pub(crate) fn decisions(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.is_decision())
    }

    pub(crate) fn completions(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.is_completion())
    }

    /// Returns the numbers of the requests that were allowed.
    pub(crate) fn allowed(&self) -> BTreeSet<u64> {
        let allowed = self.decisions().filter(|record| record.text("verdict") == "allow");
        allowed.filter_map(numbered).collect()
    }

    /// Whether every exchange that was decided has ended.
    pub(crate) fn is_settled(&self) -> bool {
        let ids = |records: &mut dyn Iterator<Item = &Record>| -> BTreeSet<String> {
            records.map(|record| record.id().to_owned()).collect()
        };
        ids(&mut self.decisions()) == ids(&mut self.completions())
    }

    /// Whatever a worker was told is on record, in the same words.
    pub(crate) fn assert_holds(&self, asked: &[Asked]) {
        let allowed = self.allowed();
        // What was allowed under one policy may be denied by the next before its first byte: then
        // the completion says so.
        let told_of: BTreeSet<(&str, &str)> =
            self.records.iter().map(|record| (record.id(), record.reason())).collect();
        for one in asked {
            if one.is_served() {
                assert!(allowed.contains(&one.number), "{one:?} is not on record");
            } else if one.status() == 403 {
                let (code, id) = told(one).unwrap();
                assert!(told_of.contains(&(&id, &code)), "{one:?} is not on record");
            }
        }
    }

    /// What an origin saw had been allowed on record.
    pub(crate) fn assert_covers(&self, seen: &BTreeSet<u64>) {
        let allowed = self.allowed();
        let unrecorded: Vec<_> = seen.difference(&allowed).collect();
        assert!(unrecorded.is_empty(), "went upstream unrecorded: {unrecorded:?}");
    }

    /// No whole line is missing, changed, or there twice: each repeats the hash of the one before
    /// it. Computed here and not by egret, which has its own say in [`Scene::verify`].
    ///
    /// [`Scene::verify`]: crate::scene::Scene::verify
    pub(crate) fn assert_whole(&self) {
        let (mut seq, mut before) = (0, "0".repeat(64));
        for line in files(&self.folder).iter().flat_map(|file| whole_lines(file)) {
            let (hashed, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
            let hash = hash.strip_suffix("\"}").unwrap();
            let own: String =
                Sha256::digest(hashed).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(own, hash, "{line}");
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(record["prev"].as_str(), Some(before.as_str()), "{line}");
            assert_eq!(record["seq"].as_u64(), Some(seq), "{line}");
            (seq, before) = (seq + 1, hash.to_owned());
        }
        assert_eq!(seq, self.records.len() as u64, "lines that are no records");
    }
}

/// The number of the request that a record is about.
pub(crate) fn numbered(record: &Record) -> Option<u64> {
    number(record.text("path")).or_else(|| number(record.text("host")))
}

/// The code and the id that a refusal told.
pub(crate) fn told(asked: &Asked) -> Option<(String, String)> {
    let reason = asked.answer()?.reason();
    let (code, id) = reason.split_once(' ')?;
    code.starts_with("egress.").then(|| (code.to_owned(), id.to_owned()))
}

/// Returns the files of a folder of records, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")).collect();
    files.sort();
    files
}

/// The last line of what a kill has left may be torn.
fn whole_lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}
