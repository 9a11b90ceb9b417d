//! What was denied while a command ran, told in a few lines afterwards.
//!
//! Many clients show nothing of a denial, so the records are asked. Where they cannot be read,
//! because the proxy is somebody else's, there is nothing to tell. Bytes that a client chose are
//! escaped.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use egret_policy::WorkerId;

use crate::records::{Follow, Forward, Judged, Record, RecordsError, Trail};

/// Distinct denials that are told; the others are counted.
const TOLD: usize = 10;
/// Distinct denials that are told apart at all.
const KNOWN: usize = 10_000;

/// Where the records ended when the command was started.
pub(super) enum Denials {
    /// There were records.
    After(Follow),
    /// There were none that could be read.
    All(PathBuf),
}

impl Denials {
    pub(super) fn from_now(records: &Path) -> Self {
        Follow::from_now(records).map_or_else(|_| Self::All(records.to_owned()), Self::After)
    }

    /// Tells on stderr what was denied to a worker, or to anybody where it is not known who asked.
    pub(super) fn tell(self, worker: Option<&WorkerId>) {
        let mut seen = Seen::default();
        // What cannot be read to its end is told as far as it was.
        let _ = self.read(|record| {
            if is_denial_of(worker, &record) {
                seen.take(record);
            }
        });
        // There is nowhere left to say that stderr is closed.
        let _ = anstream::stderr().write_all(seen.told().as_bytes());
    }

    fn read(self, mut told: impl FnMut(Record)) -> Result<(), RecordsError> {
        match self {
            Self::After(mut follow) => follow.poll(|line| {
                Record::read(line).into_iter().for_each(&mut told);
                Ok(())
            }),
            Self::All(records) => {
                let mut records = Forward::all(&Trail::open(&records)?)?;
                while let Some(record) = records.next_record()? {
                    told(record);
                }
                Ok(())
            }
        }
    }
}

/// Who did not show who it is may have been the command.
fn is_denial_of(worker: Option<&WorkerId>, record: &Record) -> bool {
    let asked = record.worker.as_deref().zip(worker);
    record.is_decision()
        && record.verdict == Some(Judged::Deny)
        && asked.is_none_or(|(asked, worker)| asked == worker.as_str())
}

/// Distinct denials, with how often there was each and the id of the first.
#[derive(Default)]
struct Seen {
    denials: BTreeMap<[String; 2], (usize, String)>,
    /// Those that were too many to be told apart.
    others: usize,
}

impl Seen {
    fn take(&mut self, record: Record) {
        let Record { id, method, host, port, reason, .. } = record;
        let what = match host {
            None => "a request that cannot be understood".to_owned(),
            Some(host) => {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("{} {host}{port}", method.unwrap_or_default())
            }
        };
        let key = [what, reason.unwrap_or_default()].map(|text| text.escape_debug().to_string());
        if self.denials.len() == KNOWN && !self.denials.contains_key(&key) {
            self.others += 1;
        } else {
            self.denials.entry(key).or_insert((0, id.unwrap_or_default())).0 += 1;
        }
    }

    fn told(&self) -> String {
        let mut text = String::new();
        for ([what, reason], (times, id)) in self.denials.iter().take(TOLD) {
            let times = if *times == 1 { String::new() } else { format!(" ({times} times)") };
            let id = id.escape_debug();
            text += &format!("denied: {what} {reason}{times}; `egret why {id}` says why\n");
        }
        let left: usize = self.denials.values().skip(TOLD).map(|(times, _)| times).sum();
        if left + self.others > 0 {
            text += &format!("denied: {} more\n", left + self.others);
        }
        text
    }
}
