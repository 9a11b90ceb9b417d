//! The records, read as an auditor would: whole lines, numbered without a gap.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use egret_attack::audit::{self, Record};
use egret_testkit::workers::Asked;

use crate::load::number;

/// All records of a folder.
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
}

impl Ledger {
    pub(crate) fn read(folder: &Path) -> Self {
        Self { records: audit::read(folder) }
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

    /// No line is missing, torn, or there twice.
    pub(crate) fn assert_whole(&self) {
        for (expected, record) in (0..).zip(&self.records) {
            assert_eq!(record.number("seq"), Some(expected), "{record:?}");
        }
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

/// Returns the newest file of a folder of records.
pub(crate) fn newest(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")).max().unwrap()
}
