//! `egret tail`.

use std::{
    io::{BufRead, BufReader, PipeReader, Write},
    process::Child,
};

use rustix::{
    io::ioctl_fionread,
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};

use super::{place::Place, recorded::Recorded};

fn allowed(host: &str) -> Value {
    json!({ "scheme": "https", "host": host, "port": 443, "verdict": "allow", "reason": "egress.allowed", "rule": "code" })
}

fn recorded(place: &Place) -> Recorded {
    let mut records = Recorded::default();
    records.exchange(
        allowed("api.example.com"),
        json!({ "status": 200, "bytes_down": 2048, "total_ms": 12 }),
    );
    records.request(("GET", "plain.test", 80, "/secret\u{1b}[31m"));
    records.decision(json!({ "worker": "ci-1", "host": "would.example.com", "port": 443, "verdict": "would_deny", "reason": "egress.host_not_allowed" }));
    records.line(json!({ "id": "x", "time": "2025-11-21T14:00:00Z", "event": "audit.denials", "worker": "ci-1", "reason": "egress.host_not_allowed", "count": 7 }));
    records.segment(place, "state/audit/00000001.jsonl");
    records
}

#[track_caller]
fn tail(line: &[&str]) -> Vec<String> {
    let place = Place::ready();
    recorded(&place);
    let run = place.run(&[&["tail"], line].concat()).ends_with(0);
    run.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn decisions_are_a_line_each_and_bytes_of_workers_are_escaped() {
    let lines = tail(&[]);
    let expected = [
        "2025-11-21 13:00:00 ✓ anonymous CONNECT api.example.com:443 (https) rule code",
        "2025-11-21 13:00:01 ✗ anonymous GET plain.test:80/secret\\u{1b}[31m host_not_allowed 0",
        "2025-11-21 13:00:02 ! ci-1 CONNECT would.example.com:443 host_not_allowed 0",
        "2025-11-21 14:00:00 ✗ ci-1 audit.denials host_not_allowed 7 times x",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn completions_are_told_with_all_or_by_their_event() {
    let ended = "2025-11-21 13:00:01 · anonymous completion CONNECT api.example.com:443 (https) \
                 allowed (rule code) status 200 up 0 B down 2.0 KiB 12 ms by policy";
    assert_eq!(tail(&["--all"])[1], ended);
    assert_eq!(tail(&["--event", "completion"]), [ended]);
}

#[test]
fn each_filter_leaves_out_its_nearest_neighbour() {
    let count = |line: &[&str]| tail(line).len();
    assert_eq!(count(&["--denied"]), 3);
    assert_eq!(count(&["--verdict", "deny"]), 1);
    assert_eq!(count(&["--verdict", "deny", "--verdict", "would_deny"]), 2);
    assert_eq!(count(&["--worker", "ci-1"]), 2);
    assert_eq!(count(&["--worker", "ci"]), 0);
    assert_eq!(count(&["--host", "example.com"]), 2);
    assert_eq!(count(&["--host", ".Example.com"]), 2);
    assert_eq!(count(&["--host", "xample.com"]), 0);
    assert_eq!(count(&["-n", "1"]), 1);
    assert_eq!(count(&["-n", "0"]), 0);
}

#[test]
fn json_is_the_lines_as_they_were_written() {
    let place = Place::ready();
    recorded(&place);
    let run = place.run(&["tail", "--all", "--json"]).ends_with(0);
    assert_eq!(run.stdout, place.read("state/audit/00000001.jsonl"));
}

#[test]
fn wrong_words_are_2_and_no_records_are_1() {
    let place = Place::ready();
    place.run(&["tail", "--verdict", "maybe"]).ends_with(2);
    place.run(&["tail", "--worker", "not an id"]).ends_with(2);
    place.run(&["tail"]).ends_with(1).says("egret serve");
}

/// A tail that follows.
struct Following {
    child: Child,
    lines: BufReader<PipeReader>,
}

impl Following {
    fn start(place: &Place, line: &[&str]) -> Self {
        let line = [&["tail", "-f"], line].concat();
        let (reader, writer) = std::io::pipe().unwrap();
        let child = place.command(&line).stdout(writer).spawn().unwrap();
        Self { child, lines: BufReader::new(reader) }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(place: &Place, file: &str, text: &str) {
    let path = place.path(file);
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_is_recorded_is_followed_across_files_until_an_interrupt_and_that_is_0() {
    let place = Place::ready();
    let mut records = recorded(&place);
    let mut following = Following::start(&place, &["-n", "1", "--denied"]);
    assert!(following.next().contains("7 times"));
    let mut more = |file: &str, host: &str| {
        records.decision(allowed("unseen.test"));
        records.connect(host, 443);
        records.segment(&place, "more");
        append(&place, file, &place.read("more"));
    };
    more("state/audit/00000001.jsonl", "same.test");
    assert!(following.next().contains("same.test"));
    more("state/audit/00000002.jsonl", "next.test");
    assert!(following.next().contains("next.test"));
    following.signal(Signal::INT);
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_directory_that_is_moved_away_is_waited_for_and_begun_anew() {
    let place = Place::ready();
    let mut records = recorded(&place);
    let line = ["tail", "-f", "-n", "1", "--denied"];
    let (reader, writer) = std::io::pipe().unwrap();
    let (said, says) = std::io::pipe().unwrap();
    let child = place.command(&line).stdout(writer).stderr(says).spawn().unwrap();
    let mut following = Following { child, lines: BufReader::new(reader) };
    assert!(following.next().contains("7 times"));
    std::fs::rename(place.path("state/audit"), place.path("state/away")).unwrap();
    let mut warning = String::new();
    BufReader::new(said).read_line(&mut warning).unwrap();
    assert!(warning.contains("there are no records at"), "{warning}");
    records.connect("anew.test", 443);
    records.segment(&place, "state/audit/00000001.jsonl");
    assert!(following.next().contains("anew.test"));
    following.signal(Signal::INT);
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_pipe_that_was_closed_ends_it_quietly() {
    let place = Place::ready();
    recorded(&place);
    let run = place.shell("\"$0\" tail --json | head -n 1 && echo done").output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(said.ends_with("done\n"), "{said}");
    let mut following = Following::start(&place, &["-n", "1", "--json"]);
    following.next();
    // Nobody reads any more; the next line ends it.
    let (reader, _) = std::io::pipe().unwrap();
    following.lines = BufReader::new(reader);
    append(&place, "state/audit/00000001.jsonl", &place.read("state/audit/00000001.jsonl"));
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_takes_nothing_does_not_keep_it_alive() {
    let place = Place::ready();
    let mut records = Recorded::default();
    for _ in 0..2000 {
        records.connect("denied.test", 443);
    }
    records.segment(&place, "state/audit/00000001.jsonl");
    for signal in [Signal::INT, Signal::TERM] {
        let mut following = Following::start(&place, &["-n", "2000", "--json"]);
        following.next();
        // The pipe is about to be full, and most is still to come.
        while ioctl_fionread(following.lines.get_ref()).unwrap() < 32 << 10 {
            std::thread::yield_now();
        }
        following.signal(signal);
        assert_eq!(following.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn the_running_proxy_is_followed() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    let mut following = Following::start(&place, &["--json"]);
    let mut stream = std::net::TcpStream::connect(serving.address).unwrap();
    stream
        .write_all(b"GET http://elsewhere.test/ HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n")
        .unwrap();
    let line: Value = serde_json::from_str(&following.next()).unwrap();
    assert_eq!((&line["event"], &line["host"]), (&json!("decision"), &json!("elsewhere.test")));
    following.signal(Signal::TERM);
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}
