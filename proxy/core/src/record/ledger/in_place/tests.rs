use std::{
    fs::{File, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
};

use tempfile::TempDir;

use super::*;
use crate::record::{
    Extent, Fault, HeadKey, RecordSettings, Verifier,
    end::OpenError,
    ledger::{Message, Standing},
    line::Line,
    segments::segments,
    writer::{Otherwise, tests::noon},
};

struct Place {
    folder: TempDir,
    key: HeadKey,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), key: HeadKey::generate().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    fn segment(&self, number: u32) -> PathBuf {
        segment(&self.path(), number)
    }

    fn open(&self) -> Result<Ledger, OpenError> {
        let key = HeadKey::from_pkcs8(self.key.to_pkcs8().unwrap().as_ref()).unwrap();
        let settings = RecordSettings::in_directory(&self.path());
        let mut ledger = Ledger::open(settings, key, noon(), Arc::<Standing>::default())?;
        ledger.settle().unwrap();
        Ok(ledger)
    }

    /// The events of a segment.
    fn events(&self, number: u32) -> Vec<String> {
        let text = fs::read_to_string(self.segment(number)).unwrap();
        let event = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| event(line)["event"].as_str().unwrap().to_owned()).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut verifier = Verifier::default();
        let mut faults = Vec::new();
        for number in segments(&self.path()).unwrap() {
            let bytes = fs::read(self.segment(number)).unwrap();
            verifier.file(&bytes[..], |_, fault| faults.push(fault)).unwrap();
        }
        faults.extend(verifier.finish(Extent::Whole).1);
        faults
    }
}

/// Writes a decision; whether it was acknowledged.
fn decide(ledger: &mut Ledger) -> bool {
    let (written, answer) = tokio::sync::oneshot::channel();
    let line = Box::new(Line { time: time(&*noon()), ..Line::default() });
    ledger.append(&mut vec![Message { line, otherwise: Otherwise::Told(written) }]);
    answer.blocking_recv().unwrap().is_ok()
}

#[test]
fn what_is_acknowledged_is_never_in_a_file_that_is_gone() {
    let changes: [fn(&Place); 4] = [
        |place| fs::remove_file(place.segment(1)).unwrap(),
        |place| fs::rename(place.segment(1), place.path().join("moved")).unwrap(),
        |place| truncate(place, 0),
        |place| {
            fs::rename(place.segment(1), place.path().join("moved")).unwrap();
            fs::write(place.segment(1), "").unwrap();
            fs::set_permissions(place.segment(1), Permissions::from_mode(0o600)).unwrap();
        },
    ];
    for change in changes {
        let place = Place::new();
        let mut ledger = place.open().unwrap();
        assert!(decide(&mut ledger));
        change(&place);
        assert!(decide(&mut ledger));
        assert!(decide(&mut ledger));
        ledger.sign().unwrap();
        assert!(ledger.standing.is_writing());
        assert_eq!(place.events(2), ["audit.missing", "decision", "decision", "audit.head"]);
        assert_eq!(place.faults(), [Fault::Beginning { seq: 2 }], "the gap is told");
        drop(ledger);
        drop(place.open().unwrap());
        assert_eq!(place.faults(), [Fault::Beginning { seq: 2 }], "and no new one is made");
    }
}

fn truncate(place: &Place, length: u64) {
    File::options().write(true).open(place.segment(1)).unwrap().set_len(length).unwrap();
}

#[test]
fn a_part_that_was_cut_off_is_a_gap_that_a_start_accepts_where_it_is_on_record() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    assert!(decide(&mut ledger));
    let whole = fs::metadata(place.segment(1)).unwrap().len();
    assert!(decide(&mut ledger));
    truncate(&place, whole);
    ledger.sign().unwrap();
    assert_eq!(place.events(1), ["audit.start", "decision"]);
    assert_eq!(place.events(2), ["audit.missing", "audit.head"]);
    drop(ledger);
    drop(place.open().unwrap());
    assert_eq!(place.faults(), [Fault::Seq { expected: 2, found: 3 }]);

    // Without that record it is what somebody has removed while nobody was there.
    let text = fs::read_to_string(place.segment(2)).unwrap();
    let text = text.split_once('\n').unwrap().1;
    fs::write(place.segment(2), text).unwrap();
    let error = place.open().err().unwrap();
    assert!(matches!(error, OpenError::Broken { .. }), "{error:?}");
}

#[test]
fn a_directory_that_is_gone_fails_writing_until_it_is_back() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    let away = place.folder.path().join("away");
    fs::rename(place.path(), &away).unwrap();
    assert!(!decide(&mut ledger));
    assert!(!ledger.standing.is_writing());
    fs::rename(&away, place.path()).unwrap();
    assert!(decide(&mut ledger));
    assert!(ledger.standing.is_writing());
    assert_eq!(place.events(1), ["audit.start", "audit.lost", "decision"]);
    assert_eq!(place.faults(), []);
}
