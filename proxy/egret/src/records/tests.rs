//! Files as they may be found: rotated, torn, foreign, removed, growing.

use std::{
    fs::{self, OpenOptions},
    io::Write,
};

use egret_policy::Timestamp;
use egret_proxy::LONGEST_LINE;
use tempfile::TempDir;

use super::*;

fn line(number: u32) -> String {
    let (minute, second) = (number / 60, number % 60);
    format!(
        "{{\"seq\":{number},\"id\":\"{number:026}\",\"time\":\"2026-11-21T13:{minute:02}:{second:02}.000000Z\",\
         \"event\":\"decision\",\"host\":\"h{number}.test\"}}\n"
    )
}

fn folder(segments: &[(&str, String)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in segments {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(line).collect()
}

fn forward(mut records: Forward) -> Vec<String> {
    let mut hosts = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        hosts.push(record.host.unwrap());
    }
    hosts
}

fn backward(trail: &Trail) -> (Vec<String>, Skipped) {
    let mut records = Backward::begin(trail).unwrap();
    let mut hosts = Vec::new();
    while let Some((record, _)) = records.next_record().unwrap() {
        hosts.insert(0, record.host.unwrap());
    }
    (hosts, records.skipped())
}

fn hosts(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("h{number}.test")).collect()
}

#[test]
fn both_directions_tell_the_same_across_segments_in_their_order() {
    let folder = folder(&[
        ("00000002.jsonl", lines(3..5)),
        ("00000010.jsonl", lines(5..2000)),
        ("00000001.jsonl", lines(0..3)),
        ("notes.txt", "none of ours\n".to_owned()),
        ("+0000011.jsonl", lines(0..1)),
        ("1.jsonl", lines(0..1)),
        ("000000003.jsonl", lines(0..1)),
    ]);
    let trail = Trail::open(folder.path()).unwrap();
    assert_eq!(forward(Forward::all(&trail).unwrap()), hosts(0..2000));
    assert_eq!(backward(&trail), (hosts(0..2000), Skipped::default()));
    let one = Trail::open(&folder.path().join("00000002.jsonl")).unwrap();
    assert_eq!(forward(Forward::all(&one).unwrap()), hosts(3..5));
}

#[test]
fn foreign_lines_are_counted_torn_ones_left_alone_and_long_ones_passed_over() {
    let long = "x".repeat(3 * LONGEST_LINE);
    let text = format!("{}{{}}\n\n{long}\n{}{{\"seq\":", lines(0..2), lines(2..4));
    let folder = folder(&[("00000001.jsonl", text)]);
    let trail = Trail::open(folder.path()).unwrap();
    let mut records = Forward::all(&trail).unwrap();
    for expected in hosts(0..4) {
        assert_eq!(records.next_record().unwrap().unwrap().host, Some(expected));
    }
    assert!(records.next_record().unwrap().is_none());
    assert_eq!(records.skipped(), Skipped { foreign: 3 });
    let (told, skipped) = backward(&trail);
    assert_eq!(told, hosts(0..4));
    assert!(skipped.foreign >= 3, "{skipped:?}");
}

#[test]
fn nothing_and_nothing_whole_are_no_records() {
    for text in ["", "{\"event\":\"decision\"}", "\n"] {
        let folder = folder(&[("00000001.jsonl", text.to_owned())]);
        let trail = Trail::open(folder.path()).unwrap();
        assert_eq!(forward(Forward::all(&trail).unwrap()), [""; 0]);
        assert_eq!(backward(&trail).0, [""; 0]);
    }
    let empty = TempDir::new().unwrap();
    assert!(backward(&Trail::open(empty.path()).unwrap()).0.is_empty());
    let absent = Trail::open(&empty.path().join("absent"));
    assert!(matches!(absent, Err(RecordsError::Absent { .. })));
}

#[test]
fn reading_from_a_time_misses_nothing_and_reads_little_before_it() {
    // 40 s between the segments' first lines, and lines enough for halving.
    let pad = "p".repeat(2000);
    let padded = |numbers: std::ops::Range<u32>| -> String {
        numbers.map(|number| line(number).replace("h", &format!("{pad}h"))).collect()
    };
    let folder = folder(&[
        ("00000001.jsonl", padded(0..1000)),
        ("00000002.jsonl", padded(1000..2000)),
        ("00000003.jsonl", padded(2000..2010)),
    ]);
    let trail = Trail::open(folder.path()).unwrap();
    for (number, most_before) in [(0, 0), (500, 200), (1000, 200), (1500, 200), (2009, 200)] {
        let (minute, second) = (number / 60, number % 60);
        let time: Timestamp = format!("2026-11-21T13:{minute:02}:{second:02}Z").parse().unwrap();
        let mut records = Forward::since(&trail, time).unwrap();
        let first = records.next_record().unwrap().unwrap();
        let first: u32 = first.time[17..19].parse::<u32>().unwrap()
            + 60 * first.time[14..16].parse::<u32>().unwrap();
        assert!(first <= number && number - first <= most_before, "{number}: {first}");
    }
}

#[test]
fn what_is_appended_is_told_once_across_rotation_and_removal() {
    let folder = folder(&[("00000001.jsonl", lines(0..2))]);
    let trail = Trail::open(folder.path()).unwrap();
    let end = Backward::begin(&trail).unwrap().end().clone();
    let mut follow = Follow::after(&trail, &end).unwrap();
    let mut poll = || {
        let mut told = Vec::new();
        follow
            .poll::<RecordsError>(|line| {
                told.push(Record::read(line).unwrap().host.unwrap());
                Ok(())
            })
            .unwrap();
        told
    };
    let append = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    assert_eq!(poll(), [""; 0]);
    let third = line(2);
    let (half, rest) = third.split_at(20);
    append("00000001.jsonl", half);
    assert_eq!(poll(), [""; 0], "half a line");
    append("00000001.jsonl", rest);
    append("00000002.jsonl", &lines(3..5));
    append("00000003.jsonl", &line(5));
    assert_eq!(poll(), hosts(2..6));
    assert_eq!(poll(), [""; 0]);
    fs::remove_file(folder.path().join("00000001.jsonl")).unwrap();
    fs::remove_file(folder.path().join("00000003.jsonl")).unwrap();
    append("00000005.jsonl", &line(6));
    assert_eq!(poll(), hosts(6..7));
}

/// Tells what is followed, by the hosts of its lines, whether the directory is there or not.
fn told(follow: &mut Follow) -> Vec<String> {
    let mut told = Vec::new();
    let polled = follow.poll::<RecordsError>(|line| {
        told.push(Record::read(line).unwrap().host.unwrap());
        Ok(())
    });
    assert!(matches!(polled, Ok(()) | Err(RecordsError::Absent { .. })), "{polled:?}");
    told
}

fn followed(directory: &Path) -> Follow {
    let trail = Trail::open(directory).unwrap();
    let end = Backward::begin(&trail).unwrap().end().clone();
    Follow::after(&trail, &end).unwrap()
}

#[test]
fn a_record_that_is_begun_anew_is_told_once_from_its_first_line() {
    let folder = folder(&[]);
    let (audit, away) = (folder.path().join("audit"), folder.path().join("away"));
    let write = |name: &str, text: String| {
        fs::create_dir_all(&audit).unwrap();
        fs::write(audit.join(name), text).unwrap();
    };
    write("00000001.jsonl", lines(0..1));
    write("00000002.jsonl", lines(1..2));
    let mut follow = followed(&audit);
    // The directory is moved away, and another one takes its place, later and at once.
    write("00000002.jsonl", lines(1..3));
    fs::rename(&audit, &away).unwrap();
    assert_eq!(told(&mut follow), hosts(2..3), "what was written last");
    assert_eq!(told(&mut follow), [""; 0]);
    write("00000001.jsonl", lines(10..12));
    assert_eq!(told(&mut follow), hosts(10..12));
    fs::remove_dir_all(&audit).unwrap();
    write("00000001.jsonl", lines(20..21));
    write("00000002.jsonl", lines(21..22));
    assert_eq!(told(&mut follow), hosts(20..22));
    // What is in it is moved away.
    fs::rename(audit.join("00000001.jsonl"), folder.path().join("1")).unwrap();
    fs::rename(audit.join("00000002.jsonl"), folder.path().join("2")).unwrap();
    write("00000001.jsonl", lines(30..31));
    assert_eq!(told(&mut follow), hosts(30..31));
    assert_eq!(told(&mut follow), [""; 0]);
}

#[test]
fn what_was_told_is_not_told_again_when_it_comes_back() {
    let folder = folder(&[]);
    let (audit, away) = (folder.path().join("audit"), folder.path().join("away"));
    fs::create_dir(&audit).unwrap();
    for (number, name) in (0..).zip(["00000001.jsonl", "00000002.jsonl", "00000003.jsonl"]) {
        fs::write(audit.join(name), lines(number..number + 1)).unwrap();
    }
    let mut follow = followed(&audit);
    // The very directory.
    fs::rename(&audit, &away).unwrap();
    assert_eq!(told(&mut follow), [""; 0]);
    fs::rename(&away, &audit).unwrap();
    assert_eq!(told(&mut follow), [""; 0]);
    // The newest is gone, and those before it stay.
    let newest = audit.join("00000003.jsonl");
    fs::rename(&newest, &away).unwrap();
    assert_eq!(told(&mut follow), [""; 0]);
    fs::copy(&away, &newest).unwrap();
    assert_eq!(told(&mut follow), [""; 0], "a copy of it");
    // A copy of all of it, that is gone on with.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for (number, name) in (0..).zip(["00000001.jsonl", "00000002.jsonl", "00000003.jsonl"]) {
        fs::write(copy.join(name), lines(number..number + 1)).unwrap();
    }
    fs::rename(&audit, folder.path().join("old")).unwrap();
    fs::rename(&copy, &audit).unwrap();
    assert_eq!(told(&mut follow), [""; 0]);
    let mut file = OpenOptions::new().append(true).open(&newest).unwrap();
    file.write_all(line(3).as_bytes()).unwrap();
    fs::write(audit.join("00000004.jsonl"), line(4)).unwrap();
    assert_eq!(told(&mut follow), hosts(3..5));
}

#[test]
fn following_an_empty_directory_begins_with_the_first_segment() {
    let folder = TempDir::new().unwrap();
    let trail = Trail::open(folder.path()).unwrap();
    let end = Backward::begin(&trail).unwrap().end().clone();
    let mut follow = Follow::after(&trail, &end).unwrap();
    fs::write(folder.path().join("00000001.jsonl"), lines(0..2)).unwrap();
    let mut told = 0;
    follow
        .poll::<RecordsError>(|_| {
            told += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(told, 2);
}

#[test]
fn an_id_says_when_it_was_made_and_since_reads_what_people_write() {
    let at = time::of_id("01M7Z41WTFKF6DHDXCQHH7BESS").unwrap();
    assert_eq!(format!("{at:.0}"), "2026-11-21T13:17:11Z");
    assert_eq!(time::of_id("01M7Z41WTFKF6DHDXCQHH7BES"), None);
    assert_eq!(time::of_id("01M7Z41WTFKF6DHDXCQHH7BESU"), None, "U is no digit");
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    for (text, expected) in [
        ("90m", "2026-11-21T10:30:00Z"),
        ("7d", "2026-11-14T12:00:00Z"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("2026-11-20T18:00:00+01:00", "2026-11-20T17:00:00Z"),
    ] {
        let since = Since::parse(text).unwrap().before(now);
        assert_eq!(since, expected.parse::<Timestamp>().unwrap(), "{text}");
    }
    for text in ["", "m", "-3h", "3w", "yesterday", "1.5h", "99999999999999999999d"] {
        assert!(Since::parse(text).is_err(), "{text}");
    }
}
