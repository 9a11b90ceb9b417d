//! `egret serve`: its start, what it refuses to start on, and its end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write, pipe},
    net::{TcpListener, TcpStream},
    os::unix::fs::{chown, lchown, symlink},
    process::Stdio,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::place::{CONFIG, POLICY, Place, Serving, set_mode};

/// Sends one request and reads until the proxy closes or the head and body are there.
pub(crate) fn ask(serving: &Serving, request: &str) -> String {
    let mut stream = TcpStream::connect(serving.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

pub(crate) fn get(host: &str) -> String {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// What is recorded of exchanges.
pub(crate) fn records(place: &Place, file: &str) -> Vec<Value> {
    let lines = place.read(file);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "decision" || line["event"] == "completion").collect()
}

#[test]
fn both_signals_end_with_0_and_stdout_holds_only_the_listeners() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::ready();
        let serving = place.serve(&["serve"]);
        serving.signal(signal);
        let run = serving.end().ends_with(0);
        assert_eq!(run.stdout, "");
    }
}

/// A start that stands still, since nobody reads what it warns of.
#[test]
fn a_signal_during_the_start_is_kept() {
    let cases = [
        (&[Signal::HUP, Signal::TERM][..], "ended before anything was bound"),
        (&[Signal::INT], "ended before anything was bound"),
        (&[Signal::HUP], "nothing has changed"),
    ];
    for (signals, says) in cases {
        let place = Place::ready();
        let every = "version = 1\n[[rule]]\nid = \"r\"\neffect = \"allow\"\nhosts = [\"*\"]\n";
        place.write("policy.toml", every);
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(&[b'\n'; 1 << 16]).unwrap();
        let mut command = place.command(&["serve"]);
        let mut child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
        drop(command);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let kept = || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
        };
        while !kept() {
            thread::sleep(Duration::from_millis(10));
        }
        signals.iter().for_each(|signal| kill_process(pid, *signal).unwrap());
        // It is there once the signals' own thread has seen it.
        thread::sleep(Duration::from_millis(200));
        let mut said = BufReader::new(reader).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains(says)), "{signals:?}");
        let serves = signals == [Signal::HUP];
        if serves {
            kill_process(pid, Signal::TERM).unwrap();
        }
        let rest: Vec<_> = said.collect();
        let mut bound = String::new();
        child.stdout.take().unwrap().read_to_string(&mut bound).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signals:?} {rest:?}");
        assert_eq!(bound.starts_with("listening "), serves, "{bound}");
    }
}

#[test]
fn a_second_signal_ends_at_once_what_is_still_open() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}[limits]\ndrain_timeout = \"1h\"\n"));
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    place.write("policy.toml", &local_policy(port));
    let serving = place.serve(&["serve"]);
    let mut client = TcpStream::connect(serving.address).unwrap();
    let host = format!("127.0.0.1:{port}");
    client.write_all(get(&host).as_bytes()).unwrap();
    // The request has reached the origin, which does not answer.
    let (mut silent, _) = origin.accept().unwrap();
    silent.read_exact(&mut [0; 3]).unwrap();

    serving.signal(Signal::TERM);
    let refused = thread::scope(|scope| {
        // The first signal closes the listeners: then it has been seen.
        let address = serving.address;
        scope.spawn(move || while TcpStream::connect(address).is_ok() {}).join()
    });
    assert!(refused.is_ok());
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    let lines = records(&place, "state/audit/00000001.jsonl");
    assert_eq!(lines.last().unwrap()["closed_by"], "drain", "{lines:#?}");
}

/// A policy that opens one port of loopback, as an operator would for a test.
pub(crate) fn local_policy(port: u16) -> String {
    format!(
        "version = 1\n[[rule]]\nid = \"local\"\neffect = \"allow\"\nhosts = [\"127.0.0.1\"]\n\
         schemes = [\"http\"]\nports = [{port}]\n[[network.allow]]\ncidr = \"127.0.0.0/8\"\n\
         rules = [\"local\"]\n"
    )
}

#[test]
fn one_request_is_allowed_its_neighbour_denied_and_both_are_recorded() {
    let place = Place::ready();
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    place.write("policy.toml", &local_policy(port));
    let serving = place.serve(&["serve"]);
    let answering = thread::spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").unwrap();
        String::from_utf8(head).unwrap()
    });
    let allowed = ask(&serving, &get(&format!("127.0.0.1:{port}")));
    assert!(allowed.starts_with("HTTP/1.1 200 ") && allowed.ends_with("hello\n"), "{allowed}");
    assert!(answering.join().unwrap().to_lowercase().contains("via: 1.1 egret"));
    let denied = ask(&serving, &get("elsewhere.example"));
    assert!(denied.starts_with("HTTP/1.1 403 egress.host_not_allowed "), "{denied}");
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);

    let lines = records(&place, "state/audit/00000001.jsonl");
    let seen: Vec<_> =
        lines.iter().map(|line| (line["event"].as_str(), line["reason"].as_str())).collect();
    let expected =
        ["egress.allowed", "egress.allowed", "egress.host_not_allowed", "egress.host_not_allowed"];
    assert_eq!(seen.iter().filter(|(event, _)| *event == Some("decision")).count(), 2, "{seen:?}");
    assert_eq!(seen.iter().map(|(_, reason)| reason.unwrap()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_worker_with_a_token_is_told_from_one_without() {
    let place = Place::ready();
    let worker = "[[worker]]\nid = \"ci-1\"\nlabels = { pool = \"build\" }\n\
                  token_sha256 = \"@\"\n";
    let config = CONFIG.replace("anonymous", "token") + &worker.replace('@', TOKEN_SHA256);
    place.write("egret.toml", &config);
    // Who is identified is denied for its labels, not for the host.
    place.write(
        "policy.toml",
        "version = 1\n[[rule]]\nid = \"no\"\neffect = \"deny\"\n\
         workers = { labels = { pool = \"build\" } }\nhosts = [\"example.com\"]\n",
    );
    let serving = place.serve(&["serve"]);
    let with = |proof: &str| {
        ask(&serving, &get("example.com").replace("Connection", &format!("{proof}Connection")))
    };
    let basic = |pair: &str| format!("Proxy-Authorization: Basic {pair}\r\n");
    for (proof, answer) in [
        (String::new(), "HTTP/1.1 407 egress.identity_required "),
        (basic("Y2ktMTp3cm9uZw=="), "HTTP/1.1 407 egress.identity_invalid "),
        (basic(TOKEN), "HTTP/1.1 403 egress.rule_denied "),
    ] {
        let told = with(&proof);
        assert!(told.starts_with(answer), "{proof:?}: {told}");
    }
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    let workers: Vec<_> = records(&place, "state/audit/00000001.jsonl")
        .into_iter()
        .filter(|line| line["event"] == "decision" && line["reason"] == "egress.rule_denied")
        .map(|line| (line["worker"].clone(), line["labels"].clone()))
        .collect();
    assert_eq!(workers, [("ci-1".into(), serde_json::json!({ "pool": "build" }))]);
}

/// `ci-1:correct-horse`, as Basic credentials write it, and the digest of the token.
const TOKEN: &str = "Y2ktMTpjb3JyZWN0LWhvcnNl";
const TOKEN_SHA256: &str = "9dca666eb54730714630d1519264a7bf1eeaad00b8f2edc90d3ecbfad928d163";

#[test]
fn a_static_name_is_reached_where_the_policy_opens_its_address_and_else_refused() {
    let place = Place::ready();
    place.write(
        "egret.toml",
        &format!("{CONFIG}[dns]\nhosts = {{ \"a.test\" = [\"127.0.0.1\"] }}\n"),
    );
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    let open = local_policy(port).replace("\"127.0.0.1\"", "\"a.test\"");
    let shut = open.split("[[network.allow]]").next().unwrap().to_owned();
    let answering = thread::spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    for (policy, answer) in
        [(shut, "HTTP/1.1 403 egress.address_forbidden "), (open, "HTTP/1.1 204 ")]
    {
        place.write("policy.toml", &policy);
        let serving = place.serve(&["serve"]);
        let told = ask(&serving, &get(&format!("a.test:{port}")));
        assert!(told.starts_with(answer), "{told}");
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
    }
    answering.join().unwrap();
}

#[test]
fn a_second_process_on_one_state_directory_is_69_and_names_the_first() {
    let place = Place::ready();
    let first = place.serve(&["serve"]);
    let name = format!("process {}", first.pid());
    place.run(&["serve"]).ends_with(69).says(&name);
    // The lock ends with the process, whatever is left in the file.
    first.signal(Signal::KILL);
    first.end();
    let second = place.serve(&["serve"]);
    second.signal(Signal::TERM);
    second.end().ends_with(0);
}

#[test]
fn a_port_that_is_taken_is_69_and_says_what_to_change() {
    let place = Place::ready();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.write("egret.toml", &CONFIG.replace("127.0.0.1:0", &address));
    place.run(&["serve"]).ends_with(69).says(&address).says("[[listener]] address");
}

#[test]
fn what_others_may_write_is_78_and_names_the_fix() {
    for file in ["egret.toml", "policy.toml"] {
        for wide in [0o666, 0o664, 0o646] {
            let place = Place::ready();
            set_mode(&place.path(file), wide);
            place.run(&["serve"]).ends_with(78).says("may be written by others").says("chmod go-w");
        }
    }
    let place = Place::ready();
    fs::create_dir(place.path("state")).unwrap();
    set_mode(&place.path("state"), 0o777);
    place.run(&["serve"]).ends_with(78).says("may be written by others").says("chmod 700");
}

/// The files themselves are root's or egret's own throughout, and closed to others.
#[test]
fn what_others_may_exchange_is_78_and_names_the_fix() {
    let placed = |folder: &str| {
        let place = Place::new();
        for (name, text) in [("egret.toml", CONFIG), ("policy.toml", POLICY)] {
            place.write(&format!("{folder}/{name}"), text);
        }
        place
    };
    let line = ["serve", "-c", "a/b/egret.toml"];
    let serves = |place: &Place| {
        let serving = place.serve(&line);
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
    };
    for folder in ["a", "a/b"] {
        let place = placed("a/b");
        set_mode(&place.path(folder), 0o777);
        let fix = format!("chmod go-w {}", place.path(folder).display());
        place.run(&line).ends_with(78).says("others may exchange what is in").says(&fix);
        // As `/tmp` is: there, everybody has his own.
        set_mode(&place.path(folder), 0o1777);
        serves(&place);
        set_mode(&place.path(folder), 0o755);
        serves(&place);
    }
    // A link that lies where others may exchange it, to a file that they may not.
    let place = placed("a/b");
    place.write("open/egret.toml", "");
    fs::remove_file(place.path("open/egret.toml")).unwrap();
    symlink(place.path("a/b/egret.toml"), place.path("open/egret.toml")).unwrap();
    symlink(place.path("a/b/policy.toml"), place.path("open/policy.toml")).unwrap();
    set_mode(&place.path("open"), 0o777);
    let run = place.run(&["serve", "-c", "open/egret.toml"]).ends_with(78);
    run.says(&format!("chmod go-w {}", place.path("open").display()));
    let place = placed("a/b");
    if chown(place.path("a/b"), None, Some(4321)).is_err() {
        return eprintln!("NOT TESTED: other users, for want of the right to be root");
    }
    set_mode(&place.path("a/b"), 0o775);
    place.run(&line).ends_with(78).says("others may exchange");
    chown(place.path("a/b"), Some(4321), None).unwrap();
    place.run(&line).ends_with(78).says("belongs to user 4321").says("chown 0 ");
    chown(place.path("a/b"), Some(0), None).unwrap();
    // What lies in a folder as `/tmp` is, is of whoever has put it there.
    set_mode(&place.path("a"), 0o1777);
    serves_not_what_another_has_linked(&place, &line);
}

fn serves_not_what_another_has_linked(place: &Place, line: &[&str]) {
    fs::rename(place.path("a/b"), place.path("good")).unwrap();
    set_mode(&place.path("good"), 0o755);
    symlink(place.path("good"), place.path("a/b")).unwrap();
    lchown(place.path("a/b"), Some(4321), Some(4321)).unwrap();
    place.run(line).ends_with(78).says("belongs to user 4321");
}

/// As a configuration map lies in a container: in a folder that is open to all, mounted read-only.
#[test]
fn what_nobody_may_write_is_taken_from_a_folder_that_is_open_to_all() {
    let place = Place::ready();
    let config = CONFIG.replace("\"state\"", &format!("{:?}", place.path("state")));
    place.write("map/egret.toml", &config);
    place.write("map/policy.toml", POLICY);
    set_mode(&place.path("map"), 0o777);
    let line = ["serve", "-c", "map/egret.toml"];
    place.run(&line).ends_with(78);
    let mounted = "mount --bind map map && mount -o remount,bind,ro map && exec";
    let script = |run: &str| {
        format!("exec unshare --user --map-root-user --mount sh -c '{mounted} {run}' \"$0\"")
    };
    let able = place.shell(&script("true")).output().unwrap();
    if !able.status.success() {
        let said = format!("NOT TESTED: a mount, for want of a user namespace: {able:?}");
        assert!(std::env::var_os("EGRET_REQUIRE_NETNS").is_none(), "{said}");
        return eprintln!("{said}");
    }
    let run = "\"$0\" serve -c map/egret.toml";
    let serving = Serving::start(&mut place.shell(&script(run)));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}

#[test]
fn no_file_of_any_length_is_read() {
    let place = Place::ready();
    fs::write(place.path("policy.toml"), b"\xff").unwrap();
    let policy = fs::File::options().append(true).open(place.path("policy.toml")).unwrap();
    policy.set_len(32 << 20).unwrap();
    place.run(&["serve"]).ends_with(78).says("is not UTF-8");
    policy.set_len((32 << 20) + 1).unwrap();
    place.run(&["serve"]).ends_with(78).says("policy.toml` is longer than 32 MiB");
    place.run(&["check", "policy.toml"]).ends_with(78).says("longer than 32 MiB");
}

#[test]
fn a_policy_that_cannot_be_kept_is_78() {
    let refused = |policy: &str, text: &str| {
        let place = Place::ready();
        place.write("policy.toml", policy);
        place.run(&["serve"]).ends_with(78).says(text);
        assert!(!place.path("state/audit").exists(), "half on: {text}");
    };
    refused(&POLICY.replace("hosts", "hsots"), "did you mean `hosts`?");
    refused(
        &POLICY.replace("\"deny\"", "\"allow\""),
        "fails its own tests: test 2 expected allow, got deny",
    );
    let more = |line: &str| POLICY.replacen("[[test]]", &format!("{line}\n[[test]]"), 1);
    refused(&more("tls = \"intercept\""), "not available in this release");
    let place = Place::ready();
    fs::remove_file(place.path("policy.toml")).unwrap();
    place.run(&["serve"]).ends_with(78).says("policy.toml").says("egret init");
}

#[test]
fn a_log_filter_that_is_none_is_78() {
    let place = Place::ready();
    let output = place.command(&["serve"]).env("EGRET_LOG", "egret=loud=er").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn the_log_is_json_where_no_terminal_is() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    let lines: Vec<Value> =
        run.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "serving"), "{}", run.stderr);
}
