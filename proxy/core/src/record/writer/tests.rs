use std::fs;

use serde_json::Value;

use super::*;

fn line(reason: &'static str) -> Box<Line> {
    Box::new(Line { reason: Some(reason), event: "decision", ..Line::default() })
}

fn lines(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("00000001.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn write_one(recorder: &Recorder) {
    let room = recorder.reserve().await.unwrap();
    write(room, line("egress.allowed")).await.unwrap();
}

#[tokio::test]
async fn an_acknowledged_line_is_in_the_file_already() {
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit");
    let (recorder, flush) = Recorder::open(&audit).unwrap();
    write_one(&recorder).await;
    let written = lines(&audit);
    assert_eq!(written.len(), 1);
    assert_eq!(written[0]["seq"], 0);
    assert_eq!(written[0]["reason"], "egress.allowed");
    assert!(written[0].get("worker").is_none(), "an absent fact is an absent field");
    flush.wait();
}

#[tokio::test]
async fn a_second_run_continues_the_count() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (recorder, flush) = Recorder::open(directory.path()).unwrap();
        write_one(&recorder).await;
        flush.wait();
    }
    let seqs: Vec<_> = lines(directory.path()).iter().map(|line| line["seq"].clone()).collect();
    assert_eq!(seqs, [0, 1]);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_nothing_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("00000001.jsonl");
    fs::write(&file, "{\"seq\":6}\n{\"seq\":7}\n{\"seq\":8,\"rea").unwrap();
    let (recorder, flush) = Recorder::open(directory.path()).unwrap();
    write_one(&recorder).await;
    flush.wait();
    let seqs: Vec<_> = lines(directory.path()).iter().map(|line| line["seq"].clone()).collect();
    assert_eq!(seqs, [6, 7, 8]);
}

#[tokio::test]
async fn a_last_line_that_is_not_a_record_is_not_built_upon() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("00000001.jsonl"), "not json\n").unwrap();
    assert!(matches!(Recorder::open(directory.path()), Err(RecordError::Open { .. })));
}

#[test]
fn the_last_line_is_found_however_long_the_lines_are() {
    let mut file = tempfile::tempfile().unwrap();
    let long = "x".repeat(200_000);
    file.write_all(format!("{long}\n{long}y\ntorn").as_bytes()).unwrap();
    let (length, last) = last_line(&mut file).unwrap();
    assert_eq!(length, 400_003);
    assert_eq!(last.unwrap(), format!("{long}y").into_bytes());
}

#[tokio::test]
async fn a_full_disk_refuses_decisions_and_keeps_completions_for_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000001.jsonl");
    let mut segment = Segment::continue_in(&path).unwrap();
    // A file that is open for reading only fails every write as a full disk does.
    let writable = std::mem::replace(&mut segment.file, File::open(&path).unwrap());

    let (written, answer) = oneshot::channel();
    let decision = Message { line: line("egress.allowed"), written: Some(written) };
    segment.append(&mut vec![decision, Message::unanswered(line("egress.upstream_reset"))]);
    assert!(matches!(answer.await.unwrap(), Err(RecordError::Write(_))));
    assert!(segment.retry_and_sync().is_err());

    segment.file = writable;
    segment.retry_and_sync().unwrap();
    let written = lines(directory.path());
    assert_eq!(written.len(), 1, "only what has happened is written later");
    assert_eq!(written[0]["seq"], 0);
    assert_eq!(written[0]["reason"], "egress.upstream_reset");
}
