//! The record: who signs it, what a start makes of its end, and `egret audit verify`.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use serde_json::Value;

use super::place::{CONFIG, Place, Serving, mode, set_mode};

const FIRST: &str = "state/audit/00000001.jsonl";
const HEAD: &str = "state/audit/head.json";
const KEY: &str = "state/audit.key";

/// Is denied this often, and returns when it was answered.
fn deny(serving: &Serving, times: usize) {
    for _ in 0..times {
        let mut stream = TcpStream::connect(serving.address).unwrap();
        let request = "GET http://no.example/ HTTP/1.1\r\nHost: no.example\r\n\
                       Connection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 egress.host_not_allowed "), "{answer}");
    }
}

/// Serves, is denied this often, and ends in good order.
fn run_with_denials(place: &Place, times: usize) {
    let serving = place.serve(&["serve"]);
    deny(&serving, times);
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}

/// A place with the record of three denials.
fn recorded() -> Place {
    let place = Place::ready();
    run_with_denials(&place, 3);
    place
}

fn verify(place: &Place, more: &[&str]) -> super::place::Run {
    place.run(&[&["audit", "verify"], more].concat())
}

fn lines(place: &Place, file: &str) -> Vec<String> {
    place.read(file).split_inclusive('\n').map(str::to_owned).collect()
}

fn events(place: &Place, file: &str) -> Vec<String> {
    let event = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["event"].as_str().unwrap().to_owned()
    };
    lines(place, file).iter().map(event).collect()
}

fn segments(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path("state/audit")).unwrap();
    let mut segments: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().unwrap() == "jsonl");
    segments.sort();
    segments
}

#[test]
fn a_record_verifies_however_it_is_named() {
    let place = recorded();
    fs::copy(place.path(HEAD), place.path("kept.json")).unwrap();
    for named in [
        &[][..],
        &["-c", "egret.toml"],
        &["state/audit"],
        &[FIRST],
        &["state/audit", "--head", "kept.json"],
        &[FIRST, "--head", "kept.json"],
    ] {
        let run = verify(&place, named).ends_with(0).says("the chain is sound");
        assert_eq!(run.stderr, "", "{named:?}");
        let kept = named.contains(&"--head");
        assert_eq!(run.stdout.contains("no head from elsewhere"), !kept, "{}", run.stdout);
        assert!(!run.stdout.contains("it holds no signed head"), "{}", run.stdout);
        let json = verify(&place, &[named, &["--json"]].concat()).ends_with(0).json();
        assert_eq!(json["ok"], true);
        let total = lines(&place, FIRST).len();
        assert_eq!(json["lines"], total);
        assert_eq!(json["last"]["seq"], total - 1);
        assert_eq!((&json["segments"], &json["heads"]), (&1.into(), &1.into()));
        assert_eq!(json["since_head"], 0);
        let head: Value = serde_json::from_str(&place.read(HEAD)).unwrap();
        assert_eq!(json["key"], head["key"]);
    }
    verify(&place, &["state/audit", FIRST]).ends_with(2).says("name the directory alone");
    verify(&place, &["nothing"]).ends_with(1).says("No such file");
    verify(&place, &["--no-such-flag"]).ends_with(2);
}

#[test]
fn a_change_is_found_at_its_line_and_nowhere_else() {
    let place = recorded();
    let sound = place.read(FIRST);
    let mut changed = lines(&place, FIRST);
    changed[3] = changed[3].replace("no.example", "ok.example");
    place.write(FIRST, &changed.concat());
    let run = verify(&place, &["state/audit"]).ends_with(3);
    assert!(run.stdout.contains("00000001.jsonl:4: the line was changed"), "{}", run.stdout);
    let json = verify(&place, &["state/audit", "--json"]).ends_with(3).json();
    assert_eq!(json["ok"], false);
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0]["line"], &findings[0]["fault"]), (&4.into(), &"hash".into()));
    place.write(FIRST, &sound);
    verify(&place, &["state/audit"]).ends_with(0);
}

#[test]
fn a_cut_at_the_end_of_a_line_is_what_a_kept_head_shows() {
    let place = recorded();
    fs::copy(place.path(HEAD), place.path("kept.json")).unwrap();
    let all = lines(&place, FIRST);
    place.write(FIRST, &all[..all.len() - 2].concat());
    for named in [&["state/audit"][..], &[FIRST, "--head", "kept.json"]] {
        verify(&place, named).ends_with(3).says("is not in the chain");
    }
    // Who cuts there cuts the head beside it, too.
    fs::remove_file(place.path(HEAD)).unwrap();
    verify(&place, &["state/audit"])
        .ends_with(0)
        .says(
            "it holds no signed head: anybody who could write the files may have written them anew",
        )
        .says("no head from elsewhere was given");
    let run = verify(&place, &["state/audit", "--head", "kept.json", "--json"]).ends_with(3);
    assert_eq!(run.json()["findings"][0]["fault"], "head_missing");
    // A head that nobody has signed proves nothing.
    place.write(
        "forged.json",
        &place.read("kept.json").replacen("signature\":\"", "signature\":\"0", 1),
    );
    let forged = ["state/audit", "--head", "forged.json"];
    verify(&place, &forged).ends_with(3).says("forged.json:1: ");
}

#[test]
fn no_byte_of_a_record_commands_the_terminal() {
    let place = recorded();
    let line = lines(&place, FIRST).remove(0);
    let line = line.replace("\"seq\":0", "\"seq\":\"\u{9b}2J\u{202e}\\u001b[2J\"");
    place.write("sent\u{202e}\u{1b}[2J.jsonl", &line);
    for json in [&[][..], &["--json"]] {
        let run = verify(&place, &[&["sent\u{202e}\u{1b}[2J.jsonl"], json].concat()).ends_with(3);
        let shown = run.stdout.trim_end_matches('\n');
        let commands = |c: char| c == '\u{202e}' || c.is_control();
        assert!(!shown.replace('\n', "").contains(commands), "{shown:?}");
    }
}

#[test]
fn what_is_being_written_can_be_verified() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    deny(&serving, 2);
    verify(&place, &[]).ends_with(0);
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    verify(&place, &[]).ends_with(0);
}

#[test]
fn a_full_segment_is_followed_by_the_next_and_all_are_one_chain() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}[audit]\nsegment = \"64KiB\"\n"));
    run_with_denials(&place, 150);
    let all = segments(&place);
    assert!(all.len() >= 2, "{all:?}");
    verify(&place, &["state/audit"]).ends_with(0);
    let second = all[1].to_str().unwrap();
    verify(&place, &[second]).ends_with(0).says("what came before was not given");
    // Without the first nothing says why the second is the beginning.
    fs::rename(&all[0], place.path("elsewhere.jsonl")).unwrap();
    verify(&place, &["state/audit"]).ends_with(3).says("no record says");
}

#[test]
fn old_segments_go_and_the_record_says_so() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}[audit]\nsegment = \"64KiB\"\nkeep = \"1d\"\n"));
    run_with_denials(&place, 150);
    let all = segments(&place);
    let day_before_yesterday = std::time::SystemTime::now() - std::time::Duration::from_hours(49);
    let old = fs::File::options().append(true).open(&all[0]).unwrap();
    old.set_modified(day_before_yesterday).unwrap();
    run_with_denials(&place, 1);
    assert_eq!(segments(&place)[0], all[1]);
    verify(&place, &["state/audit"]).ends_with(0).says("removed by age");
    let last = segments(&place).pop().unwrap();
    let removed = fs::read_to_string(last).unwrap();
    let removed = removed.lines().find(|line| line.contains("audit.removed")).unwrap();
    assert!(removed.contains("\"segment\":\"00000001.jsonl\""), "{removed}");
}

#[test]
fn a_torn_line_is_a_finding_until_a_start_has_cut_it_off() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    deny(&serving, 1);
    serving.signal(Signal::KILL);
    serving.end();
    let whole = place.read(FIRST);
    place.write(FIRST, &format!("{whole}{{\"seq\":3,\"ti"));
    let json = verify(&place, &["state/audit", "--json"]).ends_with(3).json();
    assert_eq!(json["findings"][0]["fault"], "torn");
    run_with_denials(&place, 1);
    verify(&place, &["state/audit"]).ends_with(0);
    assert!(place.read(FIRST).starts_with(&whole));
    let events = events(&place, FIRST);
    assert_eq!(events.iter().filter(|event| *event == "audit.restart").count(), 1, "{events:?}");
    assert_eq!((&events[0][..], &events[events.len() - 1][..]), ("audit.start", "audit.head"));
}

#[test]
fn a_start_does_not_build_on_what_is_not_the_end_of_the_chain() {
    let refused = |change: &dyn Fn(&Place), text: &str| {
        let place = recorded();
        change(&place);
        let before = place.read(FIRST);
        place.run(&["serve"]).ends_with(1).says(text).says("a new record begins");
        assert_eq!(place.read(FIRST), before, "evidence stays as it is");
        // As the fix says.
        fs::rename(place.path("state/audit"), place.path("state/audit-1")).unwrap();
        run_with_denials(&place, 1);
        verify(&place, &[]).ends_with(0);
    };
    let change = |place: &Place, change: &dyn Fn(Vec<String>) -> Vec<String>| {
        place.write(FIRST, &change(lines(place, FIRST)).concat());
    };
    refused(
        &|place| {
            change(place, &|mut all| {
                let last = all.pop().unwrap().replace("audit.head", "audit.haed");
                [all, vec![last]].concat()
            });
        },
        "egret audit verify ./state/audit",
    );
    refused(&|place| change(place, &|all| all[..3].to_vec()), "put back what was removed");
    refused(&|place| change(place, &|_| vec![]), "put back what was removed");
    refused(&|place| fs::remove_file(place.path(KEY)).unwrap(), "put `audit.key` back");
}

#[test]
fn a_start_that_is_refused_makes_no_key() {
    let place = recorded();
    fs::rename(place.path(KEY), place.path("kept.key")).unwrap();
    place.run(&["serve"]).ends_with(1).says("put `audit.key` back");
    assert!(!place.path(KEY).exists(), "a key that has signed nothing");
    fs::rename(place.path("kept.key"), place.path(KEY)).unwrap();
    run_with_denials(&place, 1);
    verify(&place, &[]).ends_with(0);
}

#[test]
fn a_record_that_is_gone_is_begun_anew_and_that_is_said() {
    const ANEW: &str = "a new chain begins";
    let place = Place::ready();
    let start = || {
        let serving = place.serve(&["serve"]);
        serving.signal(Signal::TERM);
        serving.end().ends_with(0)
    };
    for _ in 0..2 {
        let run = start();
        assert!(!run.stderr.contains(ANEW), "{}", run.stderr);
    }
    fs::remove_dir_all(place.path("state/audit")).unwrap();
    start().says(ANEW).says("\"records\":\"./state/audit\"");
    verify(&place, &[]).ends_with(0);
}

#[test]
fn the_key_is_its_owners_alone() {
    let place = recorded();
    let key = place.path(KEY);
    assert_eq!(mode(&key), 0o600);
    let bytes = fs::read(&key).unwrap();
    for open in [0o640, 0o604, 0o620] {
        set_mode(&key, open);
        place.run(&["serve"]).ends_with(78).says("is open to others").says("chmod 600");
    }
    set_mode(&key, 0o600);
    run_with_denials(&place, 1);
    assert_eq!(fs::read(&key).unwrap(), bytes, "it is never replaced");
    for broken in [&b""[..], b"not a key", &bytes[..bytes.len() - 1]] {
        fs::write(&key, broken).unwrap();
        place.run(&["serve"]).ends_with(1).says("not an Ed25519 key").says("from a copy");
    }
    fs::write(&key, bytes).unwrap();
    run_with_denials(&place, 1);
    verify(&place, &[]).ends_with(0);
}

#[test]
fn a_directory_that_others_may_write_is_78() {
    let place = recorded();
    let audit = place.path("state/audit");
    set_mode(&audit, 0o777);
    place.run(&["serve"]).ends_with(78).says("written by others").says("chmod go-w ./state/audit");
    set_mode(&audit, 0o755);
    run_with_denials(&place, 1);
}

#[test]
fn a_segment_that_goes_while_it_is_written_is_a_gap_on_record() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    deny(&serving, 2);
    fs::remove_file(place.path(FIRST)).unwrap();
    deny(&serving, 2);
    serving.signal(Signal::TERM);
    serving.end().ends_with(0).says("was removed, moved or changed by somebody else");
    let second = "state/audit/00000002.jsonl";
    let events = events(&place, second);
    assert_eq!((&*events[0], &*events[events.len() - 1]), ("audit.missing", "audit.head"));
    assert_eq!(events.iter().filter(|event| *event == "decision").count(), 2);
    verify(&place, &[]).ends_with(3).says("the chain begins with line");
    run_with_denials(&place, 1);
}

#[test]
fn a_pipe_among_the_segments_is_not_waited_for() {
    let place = recorded();
    let pipe = place.path("state/audit/00000002.jsonl");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    verify(&place, &[]).ends_with(1).says("00000002.jsonl").says("it is not a file");
    place.run(&["tail"]).ends_with(1).says("it is not a file");
    place.run(&["serve"]).ends_with(1).says("is not a file").says("00000002.jsonl` away");
    fs::remove_file(pipe).unwrap();
    verify(&place, &[]).ends_with(0);
    // A pipe that is named is read.
    let script = format!("cat {FIRST} | \"$0\" audit verify /dev/stdin");
    let output = place.shell(&script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn two_processes_do_not_write_one_record() {
    let place = Place::ready();
    let audit = place.path("record");
    let config = |state: &str, audit: &Path| {
        let config = CONFIG.replace("\"state\"", &format!("\"{state}\""));
        format!("{config}[audit]\npath = \"{}\"\n", audit.display())
    };
    place.write("egret.toml", &config("one", &audit));
    let first = place.serve(&["serve"]);
    place.write("egret.toml", &config("two", &audit));
    place.run(&["serve"]).ends_with(69).says("by another process").says("[audit] path");
    first.signal(Signal::TERM);
    first.end().ends_with(0);
}
