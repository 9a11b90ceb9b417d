use std::{fs, path::Path};

use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::record::{
    segments::segments,
    standing::RecordMetrics,
    writer::{
        self,
        tests::{at, noon},
    },
};

struct Place {
    folder: TempDir,
    standing: Arc<Standing>,
    key: Vec<u8>,
    ledger: Ledger,
    /// The segment, while its disk is full.
    writable: Option<File>,
}

type Answer = oneshot::Receiver<Result<(), RecordError>>;

impl Place {
    fn new(on_failure: OnFailure) -> Self {
        let folder = writer::tests::folder();
        let standing = Arc::<Standing>::default();
        let settings = RecordSettings { on_failure, ..RecordSettings::in_directory(folder.path()) };
        let key = HeadKey::generate().unwrap();
        let kept = key.to_pkcs8().unwrap().as_ref().to_vec();
        let mut ledger = Ledger::open(settings, key, noon(), standing.clone()).unwrap();
        ledger.settle().unwrap();
        Self { folder, standing, key: kept, ledger, writable: None }
    }

    /// A file that is open for reading only fails every write as a full disk does.
    fn fill(&mut self) {
        let full = File::open(self.path()).unwrap();
        self.writable = Some(mem::replace(&mut self.ledger.file, full));
    }

    fn make_room(&mut self) {
        self.ledger.file = self.writable.take().unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("00000001.jsonl")
    }

    fn is_writing(&self) -> bool {
        self.standing.is_writing()
    }

    /// How many records are counted as written, as failed and as lost.
    fn figures(&self) -> [u64; 3] {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(RecordMetrics(self.standing.clone())));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        ["written", "failed", "lost"].map(|name| {
            let name = format!("records_{name}_total ");
            text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
        })
    }

    /// Appends a decision that is waited for and a completion that is not.
    fn append(&mut self) -> Answer {
        let line = |event| Box::new(Line { event, ..self.ledger.own_line(event) });
        let (written, answer) = oneshot::channel();
        let decision = Message { line: line(Event::Decision), otherwise: Otherwise::Told(written) };
        let completion = Message { line: line(Event::Completion), otherwise: Otherwise::Kept };
        self.ledger.append(&mut vec![decision, completion]);
        answer
    }

    /// What was written after the start: events with their counts.
    fn written(&self) -> Vec<(String, Option<u64>)> {
        let said =
            |line: Value| (line["event"].as_str().unwrap().to_owned(), line["count"].as_u64());
        lines(&self.path()).into_iter().skip(1).map(said).collect()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn event(name: &str, count: impl Into<Option<u64>>) -> (String, Option<u64>) {
    (name.to_owned(), count.into())
}

#[test]
fn a_full_disk_refuses_decisions_and_keeps_completions_for_later() {
    let mut place = Place::new(OnFailure::Refuse);
    assert!(place.append().blocking_recv().unwrap().is_ok());
    assert_eq!(place.figures(), [3, 0, 0], "the start is one");
    place.fill();
    assert!(place.is_writing());
    for _ in 0..2 {
        let answer = place.append().blocking_recv().unwrap();
        assert!(matches!(answer, Err(RecordError::Write(_))), "{answer:?}");
    }
    assert!(!place.is_writing());
    assert!(place.ledger.settle().is_err());
    assert!(place.ledger.sign().is_err());
    assert_eq!(place.figures(), [3, 4, 2]);

    place.make_room();
    place.ledger.settle().unwrap();
    assert!(place.is_writing());
    place.ledger.sign().unwrap();
    let expected = [
        event("decision", None),
        event("completion", None),
        event("completion", None),
        event("completion", None),
        event("audit.lost", 2),
        event("audit.head", None),
    ];
    assert_eq!(place.written(), expected);
    assert_eq!(place.figures(), [7, 4, 2]);
}

#[test]
fn what_is_kept_while_the_disk_is_full_is_bounded() {
    let mut place = Place::new(OnFailure::Refuse);
    place.fill();
    let path = Some("x".repeat(8000));
    let mut append = |event, otherwise| {
        let line = Line { path: path.clone(), ..place.ledger.own_line(event) };
        place.ledger.append(&mut vec![Message { line: Box::new(line), otherwise }]);
    };
    // What a worker can have as much of as it wants: permitted, and gone before it was on record.
    for _ in 0..1000 {
        append(Event::Decision, Otherwise::Counted);
        append(Event::Completion, Otherwise::Counted);
    }
    for _ in 0..3000 {
        append(Event::Completion, Otherwise::Kept);
    }
    let [_, failed, lost] = place.figures();
    assert_eq!(failed, 5000);
    assert!((2500..4000).contains(&lost), "{lost}");

    place.make_room();
    place.ledger.settle().unwrap();
    let written = place.written();
    assert_eq!(written.len() as u64, 5000 - lost + 1);
    assert_eq!(written.last(), Some(&event("audit.lost", lost)));
}

#[test]
fn an_end_without_room_is_told_and_the_next_start_takes_it_down() {
    for on_failure in [OnFailure::Refuse, OnFailure::Continue] {
        let mut place = Place::new(on_failure);
        place.ledger.finish().unwrap();
        place.fill();
        place.append();
        place.standing.lose();
        let end = place.ledger.finish();
        assert!(matches!(end, Err(FlushError::Missing { count: 3, .. })), "{end:?}");

        let Place { folder, key, ledger, .. } = place;
        let settings = ledger.settings.clone();
        drop(ledger);
        let open = || {
            let key = HeadKey::from_pkcs8(&key).unwrap();
            Ledger::open(settings.clone(), key, noon(), Arc::default()).unwrap()
        };
        let lost = || {
            let lines = lines(&segment(folder.path(), 1));
            let lost = lines.iter().filter(|line| line["event"] == "audit.lost");
            lost.map(|line| line["count"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        // A start that writes nothing takes nothing down, and forgets nothing.
        drop(open());
        assert_eq!(lost(), Vec::<u64>::new());
        for _ in 0..2 {
            open().finish().unwrap();
            assert_eq!(lost(), [3], "once");
        }
        // The largest that a file can say is counted on from.
        fs::write(folder.path().join("missing.txt"), format!("{}\n", u64::MAX)).unwrap();
        let mut next = open();
        next.standing.lose();
        next.finish().unwrap();
        drop(next);
        assert_eq!(lost(), [3, u64::MAX]);
        // One that cannot be read is done without.
        fs::write(folder.path().join("missing.txt"), "many").unwrap();
        open().finish().unwrap();
        assert_eq!(lost(), [3, u64::MAX]);
    }
}

#[test]
fn where_exchanges_go_on_what_is_missing_is_counted() {
    let mut place = Place::new(OnFailure::Continue);
    place.fill();
    // Nobody waits in this mode; who does all the same is told the truth.
    assert!(place.append().blocking_recv().unwrap().is_err());
    for _ in 0..5 {
        place.standing.lose();
    }
    assert!(!place.is_writing());
    place.make_room();
    place.append();
    let expected = [event("audit.lost", 7), event("decision", None), event("completion", None)];
    assert_eq!(place.written(), expected);
    assert!(place.ledger.kept.is_empty());
    assert_eq!(place.figures(), [4, 2, 7], "those that found no room were not tried");
}

/// A place with some segments, all of them written at noon.
fn of_noon() -> (Place, Vec<u32>) {
    let mut place = Place::new(OnFailure::Refuse);
    place.ledger.settings.segment = 1;
    place.ledger.full_at = 1;
    for _ in 0..3 {
        place.append();
    }
    let begun = segments(place.folder.path()).unwrap();
    assert!(begun.len() > 2, "{begun:?}");
    for number in &begun {
        let file = File::options().append(true).open(segment(place.folder.path(), *number));
        file.unwrap().set_modified(noon().now().into()).unwrap();
    }
    (place, begun)
}

#[test]
fn a_clock_that_is_far_ahead_removes_nothing() {
    let (mut place, begun) = of_noon();
    // As a start finds it.
    let mut left = |newest: &str, time: &str| {
        let keep = place.ledger.settings.keep;
        place.ledger.believed = Believed::by_newest(newest.parse().unwrap(), keep);
        place.ledger.clock = at(time);
        place.ledger.remove_old();
        segments(place.folder.path()).unwrap()
    };
    let noon = "2026-11-21T12:00:00Z";
    for _ in 0..2 {
        assert_eq!(left(noon, "2046-11-21T12:00:00Z"), begun, "by its time all are too old");
    }
    assert_eq!(left(noon, "2027-02-18T12:00:00Z"), begun);
    let newest = "2027-02-18T12:00:00Z";
    assert_eq!(left(newest, "2027-02-20T12:00:00Z"), begun[begun.len() - 1..]);
}

#[test]
fn a_clock_that_leaps_while_it_runs_removes_nothing() {
    let (mut place, begun) = of_noon();
    place.ledger.settings.keep = Duration::from_mins(90);
    let mut left = |time: &str| {
        place.ledger.clock = at(time);
        place.ledger.remove_old();
        segments(place.folder.path()).unwrap()
    };
    assert_eq!(left("2026-11-21T12:00:00Z"), begun);
    assert_eq!(left("2026-11-22T11:00:00Z"), begun, "not a minute has gone by");
    assert_eq!(left("2026-11-21T12:59:00Z"), begun, "set right, and not old enough");
    assert_eq!(left("2026-11-21T13:58:00Z"), begun[begun.len() - 1..]);
}

#[test]
fn records_that_are_kept_for_minutes_are_kept_from_a_smaller_leap() {
    let (mut place, begun) = of_noon();
    place.ledger.settings.keep = Duration::from_mins(10);
    let mut left = |time: &str| {
        place.ledger.clock = at(time);
        place.ledger.remove_old();
        segments(place.folder.path()).unwrap()
    };
    assert_eq!(left("2026-11-21T12:00:00Z"), begun);
    assert_eq!(left("2026-11-21T12:40:00Z"), begun, "not a minute has gone by");
    assert_eq!(left("2026-11-21T12:09:00Z"), begun, "set right, and not old enough");
    assert_eq!(left("2026-11-21T12:18:00Z"), begun[begun.len() - 1..]);
}

#[test]
fn nothing_is_signed_twice() {
    let mut place = Place::new(OnFailure::Refuse);
    for _ in 0..3 {
        place.ledger.sign().unwrap();
    }
    place.append();
    place.ledger.sign().unwrap();
    let heads = place.written().iter().filter(|(event, _)| event == "audit.head").count();
    assert_eq!(heads, 2);
}

#[test]
fn a_segment_that_cannot_be_begun_is_done_without() {
    let mut place = Place::new(OnFailure::Refuse);
    place.ledger.full_at = 1;
    place.ledger.settings.segment = 1 << 20;
    let next = segment(place.folder.path(), 2);
    fs::write(&next, "in the way").unwrap();
    assert!(place.append().blocking_recv().unwrap().is_ok());
    assert!(place.ledger.full_at > 1 << 16, "it is not tried for every line");
    place.ledger.full_at = 1;
    fs::remove_file(next).unwrap();
    assert!(place.append().blocking_recv().unwrap().is_ok());
    assert_eq!((place.ledger.number, place.ledger.length), (2, 0));
    assert_eq!(lines(&place.path()).last().unwrap()["event"], "audit.head");
}
