use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use egret_policy::{Policy, Timestamp, Verdict};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    live::Cut,
    record::{Draft, Extent, Fault, KeptHead, NEWEST_HEAD, Verifier, segment_name, segments},
    refusal::Code,
};

/// A clock that a test sets.
struct Hands(Mutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(in crate::record) fn noon() -> Arc<dyn Clock> {
    at("2026-11-21T12:00:00Z")
}

pub(in crate::record) fn at(time: &str) -> Arc<dyn Clock> {
    Arc::new(Hands(Mutex::new(time.parse().unwrap())))
}

/// A folder that nobody else may write, whatever the umask.
pub(in crate::record) fn folder() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// A folder with a record, and the key that signs it.
struct Place {
    folder: TempDir,
    key: Vec<u8>,
}

impl Place {
    fn new() -> Self {
        let key = HeadKey::generate().unwrap().to_pkcs8().unwrap().as_ref().to_vec();
        Self { folder: folder(), key }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn key(&self) -> HeadKey {
        HeadKey::from_pkcs8(&self.key).unwrap()
    }

    fn settings(&self) -> RecordSettings {
        RecordSettings::in_directory(self.path())
    }

    fn open(&self) -> Result<(Recorder, Flush), OpenError> {
        self.open_with(self.settings())
    }

    fn open_with(&self, settings: RecordSettings) -> Result<(Recorder, Flush), OpenError> {
        Recorder::open(settings, self.key(), noon())
    }

    fn first(&self) -> PathBuf {
        self.path().join("00000001.jsonl")
    }

    /// All lines, in order.
    fn lines(&self) -> Vec<Value> {
        let numbers = segments(self.path()).unwrap();
        let texts: Vec<_> = numbers
            .iter()
            .map(|number| fs::read_to_string(self.path().join(segment_name(*number))).unwrap())
            .collect();
        texts.concat().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn events(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Judges the record as a whole; nothing may be wrong with it.
    fn verified(&self) -> crate::record::Verified {
        let head = fs::read(self.path().join(NEWEST_HEAD)).unwrap();
        let mut verifier = Verifier::expecting(vec![KeptHead::read(&head).unwrap()]);
        let mut faults = Vec::new();
        for number in segments(self.path()).unwrap() {
            let bytes = fs::read(self.path().join(segment_name(number))).unwrap();
            verifier.file(&bytes[..], |line, fault| faults.push((number, line, fault))).unwrap();
        }
        let (verified, whole) = verifier.finish(Extent::Whole);
        assert_eq!((faults, whole), (vec![], vec![]));
        verified
    }
}

/// Writes a file that only its owner may write, whatever the umask.
fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn line(reason: &'static str) -> Box<Line> {
    Box::new(Line { time: time(&*noon()), reason: Some(reason), ..Line::default() })
}

async fn write(recorder: &Recorder) -> Result<(), RecordError> {
    recorder.reserve().await?.write(line("egress.allowed")).await
}

async fn write_some(recorder: &Recorder, count: usize) {
    for _ in 0..count {
        write(recorder).await.unwrap();
    }
}

#[tokio::test]
async fn an_acknowledged_line_is_in_the_file_already() {
    let place = Place::new();
    let (recorder, flush) = place.open().unwrap();
    write(&recorder).await.unwrap();
    let written = place.lines();
    assert_eq!(place.events(), ["audit.start", "decision"]);
    assert_eq!((&written[0]["seq"], &written[1]["seq"]), (&0.into(), &1.into()));
    assert_eq!(written[1]["reason"], "egress.allowed");
    assert!(written[1].get("worker").is_none(), "an absent fact is an absent field");
    drop(recorder);
    flush.wait().unwrap();
}

#[tokio::test]
async fn a_second_run_continues_the_chain() {
    let place = Place::new();
    for _ in 0..2 {
        let (recorder, flush) = place.open().unwrap();
        assert!(recorder.is_writing());
        write(&recorder).await.unwrap();
        flush.wait().unwrap();
        assert!(!recorder.is_writing(), "nobody writes any more");
    }
    let run = ["audit.start", "decision", "audit.head"];
    assert_eq!(place.events(), [run, run].concat());
    let verified = place.verified();
    assert_eq!((verified.lines, verified.heads, verified.since_head), (6, 2, 0));
    assert_eq!(verified.key, Some(place.key().public()));
}

#[tokio::test]
async fn the_text_of_a_line_is_what_its_hash_is_of() {
    let place = Place::new();
    let (recorder, flush) = place.open().unwrap();
    write(&recorder).await.unwrap();
    flush.wait().unwrap();
    let text = fs::read_to_string(place.first()).unwrap();
    let zeros = "0".repeat(64);
    let mut prev = zeros.as_str();
    for line in text.lines() {
        let (sealed, hash) = line.split_once(r#","hash":""#).unwrap();
        assert!(sealed.ends_with(&format!(r#","prev":"{prev}""#)), "{line}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sealed.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, format!("{hex}\"}}"));
        prev = &hash[..64];
    }
    let head = fs::read_to_string(place.path().join(NEWEST_HEAD)).unwrap();
    assert_eq!(text.lines().last().unwrap(), head.trim_end(), "the very line");

    // What anybody needs who has the head, and another program.
    let head: Value = serde_json::from_str(&head).unwrap();
    let text = |field: &str| head[field].as_str().unwrap().to_owned();
    let before = head["seq"].as_u64().unwrap() - 1;
    let signed = format!("egret audit head 1\n{before}\n{}\n{}\n", text("prev"), text("time"));
    let bytes = |field: &str| {
        let digits = text(field);
        let pairs = (0..digits.len()).step_by(2);
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        pairs.map(byte).collect::<Vec<_>>()
    };
    UnparsedPublicKey::new(&ED25519, bytes("key"))
        .verify(signed.as_bytes(), &bytes("signature"))
        .unwrap();
}

#[tokio::test]
async fn a_policy_is_recorded_with_what_became_of_it() {
    let place = Place::new();
    let (recorder, flush) = place.open().unwrap();
    let revision = Policy::load("version = 1").policy.unwrap().revision();
    for change in [
        PolicyChange::Loaded,
        PolicyChange::Replaced { cut: 3 },
        PolicyChange::Refused { problems: 2 },
    ] {
        recorder.policy(revision, change).await.unwrap();
    }
    flush.wait().unwrap();
    let lines = place.lines();
    let said: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "policy")
        .map(|line| (line["reason"].as_str().unwrap(), line["count"].as_u64()))
        .collect();
    let expected =
        [("policy.loaded", None), ("policy.replaced", Some(3)), ("policy.refused", Some(2))];
    assert_eq!(said, expected);
    assert_eq!(lines[1]["policy"], revision.to_string());
    place.verified();
}

/// A recorder whose writer is the test.
fn by_hand(on_failure: OnFailure) -> (Recorder, mpsc::Receiver<Message>) {
    let (queue, lines) = mpsc::channel(8);
    let standing = Arc::<Standing>::default();
    (Recorder { queue, on_failure, standing, clock: noon() }, lines)
}

async fn draft(recorder: &Recorder) -> Result<Draft, RecordError> {
    let (cut, policy) = (Cut::default(), Policy::load("version = 1").policy.unwrap());
    let metrics = Arc::default();
    let revision = policy.revision();
    Draft::open(recorder, &metrics, &recorder.clock, &cut, "here", None, revision).await
}

#[tokio::test]
async fn only_the_end_of_what_is_on_record_is_kept_for_later() {
    let (recorder, mut lines) = by_hand(OnFailure::Refuse);
    // Permitted, and abandoned before that could be written.
    let mut abandoned = draft(&recorder).await.unwrap();
    abandoned.permitted(Verdict::Allow, None);
    drop(abandoned);
    for event in [Event::Decision, Event::Completion] {
        let told = lines.recv().await.unwrap();
        assert_eq!(told.line.event, event);
        assert!(matches!(told.otherwise, Otherwise::Counted), "{told:?}");
    }
    // Permitted on record.
    let mut begun = draft(&recorder).await.unwrap();
    let writer = async {
        let Otherwise::Told(written) = lines.recv().await.unwrap().otherwise else { panic!() };
        written.send(Ok(())).unwrap();
    };
    let (allowed, ()) = tokio::join!(begun.allow(Verdict::Allow, None), writer);
    allowed.unwrap();
    drop(begun);
    assert!(matches!(lines.recv().await.unwrap().otherwise, Otherwise::Kept));
}

#[tokio::test]
async fn nothing_is_let_in_while_writing_fails_or_too_much_waits() {
    for on_failure in [OnFailure::Refuse, OnFailure::Continue] {
        let (recorder, mut lines) = by_hand(on_failure);
        let is_let_in = async || match draft(&recorder).await {
            // One that goes on unrecorded takes no memory.
            Ok(draft) => {
                let sends = !matches!(draft.completion, Some(Room::Lost(_)));
                draft.discard(Code::Internal);
                sends
            }
            Err(RecordError::Failing) => false,
            Err(error) => panic!("{error}"),
        };
        assert!(is_let_in().await);
        recorder.standing.set_writing(false);
        assert_eq!(is_let_in().await, on_failure == OnFailure::Continue);
        recorder.standing.set_writing(true);
        assert!(is_let_in().await);

        // Long lines that nobody takes, as while a disk stands still.
        let mut waiting = 0;
        while is_let_in().await {
            let room = recorder.reserve().await.unwrap();
            room.tell(
                Box::new(Line { path: Some("x".repeat(1 << 20)), ..*line("") }),
                Otherwise::Counted,
            );
            waiting += lines.recv().await.unwrap().line.weight();
            assert!(waiting < 100 << 20);
        }
        assert!(waiting > 32 << 20, "{waiting}");
        recorder.standing.taken(waiting);
        assert!(is_let_in().await);
        assert_eq!(
            recorder.standing.take_lost(),
            if on_failure == OnFailure::Refuse { 2 } else { 0 }
        );
    }
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_nothing_before_it() {
    let place = Place::new();
    let (recorder, flush) = place.open().unwrap();
    write(&recorder).await.unwrap();
    flush.wait().unwrap();
    let whole = fs::read(place.first()).unwrap();
    fs::write(place.first(), [&whole[..], br#"{"seq":3,"rea"#].concat()).unwrap();
    let (recorder, flush) = place.open().unwrap();
    write(&recorder).await.unwrap();
    flush.wait().unwrap();
    assert!(fs::read(place.first()).unwrap().starts_with(&whole));
    assert_eq!(place.events()[3..], ["audit.restart", "decision", "audit.head"]);
    assert_eq!(place.lines()[3]["count"], 13);
    place.verified();
}

#[tokio::test]
async fn a_start_says_how_many_lines_it_takes_over_that_nobody_has_signed() {
    let place = Place::new();
    let (recorder, flush) = place.open().unwrap();
    write_some(&recorder, 2).await;
    // As a kill would leave it: without a head.
    let killed = fs::read(place.first()).unwrap();
    flush.wait().unwrap();
    let (head, whole) = (place.path().join(NEWEST_HEAD), fs::read(place.first()).unwrap());
    let signed = fs::read(&head).unwrap();
    let started = |text: &[u8], head: Option<&[u8]>| {
        let place = Place { folder: TempDir::new().unwrap(), key: place.key.clone() };
        fs::write(place.first(), text).unwrap();
        if let Some(head) = head {
            fs::write(place.path().join(NEWEST_HEAD), head).unwrap();
        }
        place.open().unwrap().1.wait().unwrap();
        let start = text.iter().filter(|byte| **byte == b'\n').count();
        let start = place.lines().swap_remove(start);
        (start["event"].as_str().unwrap().to_owned(), start["unsigned"].as_u64())
    };
    let event = |event: &str, unsigned| (event.to_owned(), unsigned);
    assert_eq!(started(&killed, None), event("audit.start", Some(3)));
    assert_eq!(started(&[&killed, &b"{\"se"[..]].concat(), None), event("audit.restart", Some(3)));
    assert_eq!(started(&whole, None), event("audit.start", None));
    assert_eq!(started(&whole, Some(&signed)), event("audit.start", None));
    assert_eq!(started(b"", None), event("audit.start", None));
}

#[tokio::test]
async fn what_is_not_the_end_of_a_chain_is_not_built_upon() {
    let good = Place::new();
    let (recorder, flush) = good.open().unwrap();
    write_some(&recorder, 3).await;
    flush.wait().unwrap();
    let text = fs::read_to_string(good.first()).unwrap();
    let without_last = text[..text.trim_end().rfind('\n').unwrap() + 1].to_owned();
    let refused = |text: &str, head: bool| {
        let place = Place { folder: folder(), key: good.key.clone() };
        put(&place.first(), text);
        if head {
            fs::copy(good.path().join(NEWEST_HEAD), place.path().join(NEWEST_HEAD)).unwrap();
        }
        place.open().err()
    };
    assert!(refused(&text, true).is_none());
    let last_changed = text.replacen("\"audit.head\"", "\"audit.haed\"", 1);
    assert_ne!(last_changed, text);
    let earlier_changed = text.replacen("egress.allowed", "egress.denied_", 1);
    for broken in ["not json\n", "{\"seq\":7}\n", "\n", &last_changed, &earlier_changed] {
        let error = refused(broken, false);
        assert!(matches!(error, Some(OpenError::Broken { .. })), "{broken}: {error:?}");
    }
    assert!(refused(&without_last, false).is_none(), "nothing says that there was more");
    let error = refused(&without_last, true);
    assert!(matches!(error, Some(OpenError::Cut { head: 4, .. })), "{error:?}");
    let error = refused("", true);
    assert!(matches!(error, Some(OpenError::Cut { .. })), "{error:?}");

    let stranger = Place { folder: folder(), ..Place::new() };
    put(&stranger.first(), &text);
    let error = stranger.open().err();
    assert!(matches!(error, Some(OpenError::OtherKey { .. })), "{error:?}");
}

#[tokio::test]
async fn a_full_segment_ends_in_a_head_and_the_next_goes_on() {
    let place = Place::new();
    let settings = RecordSettings { segment: 4096, ..place.settings() };
    let (recorder, flush) = place.open_with(settings).unwrap();
    write_some(&recorder, 100).await;
    flush.wait().unwrap();
    let numbers = segments(place.path()).unwrap();
    assert!(numbers.len() > 3, "{numbers:?}");
    for number in &numbers {
        let text = fs::read_to_string(place.path().join(segment_name(*number))).unwrap();
        assert!(text.lines().last().unwrap().contains("audit.head"), "{text}");
        assert!((1..4096 + 1024).contains(&text.len()), "{}", text.len());
    }
    place.verified();

    // A crash at a rotation leaves a segment without a line, or with half of one.
    let next = place.path().join(segment_name(numbers.len() as u32 + 1));
    for left in ["", "{\"se"] {
        put(&next, left);
        let (recorder, flush) = place.open().unwrap();
        write(&recorder).await.unwrap();
        flush.wait().unwrap();
        assert_eq!(segments(place.path()).unwrap(), numbers);
    }
    let events = place.events();
    assert_eq!(events.iter().filter(|event| *event == "audit.restart").count(), 1);
    place.verified();
}

#[tokio::test]
async fn old_segments_are_removed_and_the_chain_says_where_it_begins() {
    let place = Place::new();
    let settings = RecordSettings { segment: 4096, ..place.settings() };
    let (recorder, flush) = place.open_with(settings.clone()).unwrap();
    write_some(&recorder, 100).await;
    flush.wait().unwrap();
    let numbers = segments(place.path()).unwrap();
    let first = fs::read_to_string(place.first()).unwrap();
    let old_head = KeptHead::read(first.lines().last().unwrap().as_bytes()).unwrap();
    // The third is young, so the fourth stays, too.
    for number in &numbers {
        let file = File::options().append(true).open(place.path().join(segment_name(*number)));
        let written = if [1, 2, 4].contains(number) { "2026-01-01" } else { "2026-11-20" };
        let written = format!("{written}T00:00:00Z").parse::<Timestamp>().unwrap();
        file.unwrap().set_modified(written.into()).unwrap();
    }
    let (recorder, flush) = place.open_with(settings).unwrap();
    write(&recorder).await.unwrap();
    flush.wait().unwrap();
    assert!(segments(place.path()).unwrap().starts_with(&numbers[2..]));
    let verified = place.verified();
    assert_ne!(verified.first, Some(0));
    let removed: Vec<_> =
        place.lines().into_iter().filter(|line| line["event"] == "audit.removed").collect();
    let names: Vec<_> = removed.iter().map(|line| line["segment"].as_str().unwrap()).collect();
    assert_eq!(names, ["00000001.jsonl", "00000002.jsonl"]);
    assert_eq!(removed[1]["begins_at"].as_u64(), verified.first);

    // A head that went with them is told from one that was cut off.
    let mut verifier = Verifier::expecting(vec![old_head]);
    for number in segments(place.path()).unwrap() {
        let bytes = fs::read(place.path().join(segment_name(number))).unwrap();
        verifier.file(&bytes[..], |_, fault| panic!("{fault}")).unwrap();
    }
    let (_, faults) = verifier.finish(Extent::Whole);
    assert!(matches!(faults[..], [Fault::HeadRemoved { .. }]), "{faults:?}");

    // One more that nothing explains is missing.
    fs::remove_file(place.path().join(segment_name(3))).unwrap();
    let mut verifier = Verifier::default();
    for number in segments(place.path()).unwrap() {
        let bytes = fs::read(place.path().join(segment_name(number))).unwrap();
        verifier.file(&bytes[..], |_, fault| panic!("{fault}")).unwrap();
    }
    let (_, faults) = verifier.finish(Extent::Whole);
    assert!(matches!(faults[..], [Fault::Beginning { .. }]), "{faults:?}");
}
