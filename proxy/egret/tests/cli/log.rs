//! The log of `serve` as whoever collects it gets it: what is in it, and what never is.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write, pipe},
    net::TcpStream,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use super::place::{CONFIG, Place, Serving};

/// Starts `serve` with a filter, sends each request on a connection of its own, and returns the
/// lines of the log.
fn log_of(filter: &str, place: &Place, requests: &[&[u8]]) -> Vec<Value> {
    let serving = Serving::start(place.command(&["serve"]).env("EGRET_LOG", filter));
    for request in requests {
        let mut stream = TcpStream::connect(serving.address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // Some are answered with a reset.
        let _ = stream.read_to_end(&mut answer);
    }
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    run.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// A name server that does not answer, which is worth a line where everything is asked for.
const NOBODY: &str = "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"200ms\"\n";

const REQUESTS: [&[u8]; 6] = [
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\
      Proxy-Authorization: Bearer h1dden\r\nConnection: close\r\n\r\n",
    b"GET http://elsewhere.example/h1dden-path?key=h1dden HTTP/1.1\r\nHost: elsewhere.example\r\n\
      Proxy-Authorization: Bearer h1dden\r\nX-Key: h1dden\r\nConnection: close\r\n\r\n",
    b"GET http://h1dden:h1dden@elsewhere.example/ HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
    b"GET http://elsewhere.example/\x1b[2J\x07h1dden HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
    b"h1dden\x1b]0;h1dden\x07\r\n\r\n",
    b"POST http://elsewhere.example/ HTTP/1.1\r\nHost: elsewhere.example\r\n\
      Content-Length: 6\r\nConnection: close\r\n\r\nh1dden",
];

#[test]
fn nothing_that_a_worker_sent_is_logged_however_much_is_asked_for() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}{NOBODY}"));
    let lines = log_of("trace", &place, &REQUESTS);
    let looked_up = |line: &Value| line["level"] == "DEBUG" && line["name"] == "example.com";
    assert!(lines.iter().any(looked_up), "there is a log to be searched: {lines:#?}");
    for line in &lines {
        let text = line.to_string();
        assert!(!text.contains("h1dden") && !text.contains("[2J"), "{text}");
    }
}

#[test]
fn exchanges_write_no_line_where_nothing_else_is_asked_for() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}{NOBODY}"));
    let quiet = log_of("info", &place, &[]);
    let busy = log_of("info", &place, &REQUESTS);
    let messages = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages(&busy), messages(&quiet));
    for line in &busy {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} of {line}");
        }
    }
    let serving = busy.iter().find(|line| line["message"] == "serving").unwrap();
    for field in ["version", "config", "policy", "revision", "state", "records"] {
        assert!(serving[field].is_string(), "{field} of {serving}");
    }
}

/// On a full disk, and once whoever collected the log is gone: each change is a line of the log.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let (reader, writer) = pipe().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    for (log, reader) in [(Stdio::from(full), None), (Stdio::from(writer), Some(reader))] {
        let place = Place::ready();
        let mut command = place.command(&["serve"]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        drop((command, reader));
        for (number, text) in
            ["version = 1\n", "version = 2\n", "version = 1\n# other\n"].into_iter().enumerate()
        {
            place.write("policy.toml", text);
            recorded(&place, number + 2);
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// Whoever collects the log has stopped reading: egret goes on without them.
#[test]
fn a_log_that_nobody_reads_keeps_nothing_waiting() {
    let (mut reader, writer) = pipe().unwrap();
    let place = Place::ready();
    let mut command = place.command(&["serve"]);
    command.stdout(Stdio::piped()).stderr(writer.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // Another description of the same pipe: egret's own still waits.
    let mut options = File::options();
    options.write(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let mut filler = options.open(format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap();
    while filler.write(b"x").is_ok() {}

    // The second one has to wait for a line that nobody has taken, or for none at all.
    for (number, text) in ["version = 1\n", "version = 1\n# other\n"].into_iter().enumerate() {
        place.write("policy.toml", text);
        recorded(&place, number + 2);
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    for _ in 0..600 {
        if let Some(status) = child.try_wait().unwrap() {
            drop((command, writer, filler));
            let mut said = String::new();
            reader.read_to_string(&mut said).unwrap();
            assert!(said.contains("\"serving\"") && !said.contains("\"ended\""), "{said}");
            return assert_eq!(status.code(), Some(0));
        }
        sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    panic!("it still waits");
}

/// Waits until so many policies are recorded.
fn recorded(place: &Place, policies: usize) {
    for _ in 0..600 {
        let records = place.read("state/audit/00000001.jsonl");
        if records.matches("\"event\":\"policy\"").count() == policies {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("{policies} policies are not recorded");
}
