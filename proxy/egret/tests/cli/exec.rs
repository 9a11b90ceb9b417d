//! `egret exec`: a command with a proxy, and what goes through between the two.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::symlink,
        process::{CommandExt, ExitStatusExt},
    },
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::{Pid, Signal, kill_process, test_kill_process},
    pty::{OpenptFlags, openpt, ptsname, unlockpt},
};

use super::place::{Place, Run, not_run, set_mode};

/// A command that is running, and what it says.
struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// Starts `exec` in a group of its own, as a shell would, with pipes at both ends.
fn start(command: &mut Command) -> Running {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    Running { child, said }
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Lets a command end that waits for its stdin to, and returns what is left to be read.
    fn end(mut self) -> Run {
        drop(self.child.stdin.take());
        let mut run = Run { status: 0, stdout: String::new(), stderr: String::new() };
        self.said.read_to_string(&mut run.stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut run.stderr).unwrap();
        run.status = self.child.wait().unwrap().code().unwrap_or(-1);
        run
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test has failed before the end; whoever ends this way ends its proxy, too.
        drop(self.child.stdin.take());
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn sh(script: &str) -> [&str; 5] {
    ["exec", "--", "/bin/sh", "-c", script]
}

/// Says where the proxy is, and waits until it may end.
const HOLD: &str = "echo $http_proxy; read line; exit 0";

fn ask(proxy: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const DENIED: &str = "GET http://elsewhere.example/ HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n";

#[test]
fn a_proxy_is_there_as_long_as_the_command_and_its_denials_are_told() {
    let place = Place::ready();
    let mut held = start(&mut place.command(&sh(HOLD)));
    let proxy = held.line();
    for _ in 0..2 {
        let answer = ask(&proxy, DENIED);
        assert!(answer.starts_with("HTTP/1.1 403 egress.host_not_allowed "), "{answer}");
    }
    let run = held.end().ends_with(0);
    let told: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("denied: ")).collect();
    let [told] = told[..] else { panic!("{}", run.stderr) };
    let expected =
        "denied: GET elsewhere.example:80 egress.host_not_allowed (2 times); `egret why ";
    assert!(told.starts_with(expected), "{told}");
    // Its process is gone, and so is what it said.
    assert!(!place.path("state/listening.json").exists());
    assert!(TcpStream::connect(proxy.strip_prefix("http://").unwrap()).is_err());
    // What was denied before is not told again.
    let again = place.run(&sh("exit 0")).ends_with(0);
    assert!(!again.stderr.contains("denied: "), "{}", again.stderr);
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let place = Place::ready();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)] {
        place.run(&sh(script)).ends_with(status);
    }
    place.run(&["exec", "--", "no-such-command"]).ends_with(127).says("`no-such-command`");
    place.write("plain", "no program");
    place.run(&["exec", "--", "./plain"]).ends_with(126).says("chmod +x");
    place.run(&["exec"]).ends_with(2);
    assert!(!place.path("state/listening.json").exists());
}

#[test]
fn signals_go_through_to_the_command() {
    let place = Place::ready();
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; echo ready; read line; exit 1");
        let mut running = start(&mut place.command(&sh(&script)));
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.line(), format!("got {name}"));
        running.end().ends_with(5);
    }
}

/// A terminal sends its interrupt to the command, too; a second one would be an order to die to
/// many programs.
#[test]
fn an_interrupt_from_the_terminal_reaches_the_command_once() {
    let place = Place::ready();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let open = || {
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        rustix::fs::open(&name, flags, Mode::empty()).unwrap()
    };
    let script = "n=0; trap 'echo got INT' INT; \
                  trap 'n=$((n + 1)); echo got USR1 $n' USR1; echo ready; while :; do \
                  read line && test \"$line\" = end && exit 4; done";
    // Standard library and kernel know no other safe way to a session with this terminal.
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_egret")])
        .args(sh(script))
        .current_dir(place.path(""))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(open())
        .stdout(open())
        .stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return not_run("setsid", &error),
    };
    let mut shown = String::new();
    let until = |shown: &mut String, text: &str| {
        while !shown.contains(text) {
            let mut part = [0; 256];
            let read = rustix::io::read(&terminal, &mut part).unwrap();
            *shown += &String::from_utf8_lossy(&part[..read]);
        }
    };
    until(&mut shown, "ready");
    // What egret makes of its own interrupt comes after what the command has made of it, as two
    // that are pending would be one.
    let egret = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(egret, Signal::STOP).unwrap();
    rustix::io::write(&terminal, b"\x03").unwrap();
    until(&mut shown, "got INT");
    kill_process(egret, Signal::CONT).unwrap();
    for round in 1..=6 {
        kill_process(egret, Signal::USR1).unwrap();
        until(&mut shown, &format!("got USR1 {round}"));
    }
    rustix::io::write(&terminal, b"end\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    until(&mut shown, "end");
    assert_eq!(shown.matches("got INT").count(), 1, "{shown:?}");
}

#[test]
fn a_proxy_that_runs_is_used_and_left_as_it_was() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    let run = place.run(&sh("echo $http_proxy $HTTPS_PROXY")).ends_with(0);
    let url = format!("http://{}", serving.address);
    run.has_line(&format!("{url} {url}"));
    assert!(TcpStream::connect(serving.address).is_ok());
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}

#[test]
fn commands_at_a_time_share_a_proxy_and_the_last_one_ends_it() {
    let place = Place::ready();
    let mut first = start(&mut place.command(&sh(HOLD)));
    let proxy = first.line();
    let mut second = start(&mut place.command(&sh(HOLD)));
    assert_eq!(second.line(), proxy);
    first.end().ends_with(0);
    assert!(ask(&proxy, DENIED).starts_with("HTTP/1.1 403 "));
    second.end().ends_with(0);
    assert!(TcpStream::connect(proxy.strip_prefix("http://").unwrap()).is_err());
}

#[test]
fn a_proxy_whose_starter_was_killed_is_ended_by_the_next_command() {
    let place = Place::ready();
    let mut killed = start(&mut place.command(&sh(HOLD)));
    let proxy = killed.line();
    killed.signal(Signal::KILL);
    assert_eq!(killed.child.wait().unwrap().signal(), Some(9));
    assert!(ask(&proxy, DENIED).starts_with("HTTP/1.1 403 "));
    place.run(&sh("echo $http_proxy")).ends_with(0).has_line(&proxy);
    assert!(TcpStream::connect(proxy.strip_prefix("http://").unwrap()).is_err());
}

/// What a command can write is no reason to end anybody, nor to leave the proxy there.
#[test]
fn no_file_that_the_command_writes_says_which_process_is_ended() {
    let place = Place::ready();
    let elsewhere = Place::ready();
    let other = elsewhere.serve(&["serve"]);
    let mut victim = Command::new("/bin/sleep")
        .arg("60")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lie = |pid: u32| {
        place.write("state/exec.lock", &format!("{pid}\n"));
        place.write("state/lock", &format!("{pid}\n"));
        place.write("state/listening.json", &format!("{{\"pid\":{pid},\"listeners\":[]}}\n"));
    };
    for pid in [victim.id(), other.pid()] {
        let mut held = start(&mut place.command(&sh(HOLD)));
        let proxy = held.line();
        lie(pid);
        held.end().ends_with(0);
        assert!(TcpStream::connect(proxy.strip_prefix("http://").unwrap()).is_err());
    }
    // The proxy of a starter that is gone is known by what stands there alone.
    let mut killed = start(&mut place.command(&sh(HOLD)));
    killed.line();
    let left = Pid::from_raw(place.read("state/exec.lock").trim().parse().unwrap()).unwrap();
    let mut next = start(&mut place.command(&sh(HOLD)));
    next.line();
    killed.signal(Signal::KILL);
    killed.child.wait().unwrap();
    lie(victim.id());
    next.end().ends_with(0);
    assert!(victim.try_wait().unwrap().is_none());
    assert!(TcpStream::connect(other.address).is_ok());
    kill_process(left, Signal::KILL).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn a_proxy_is_ended_also_when_the_command_has_removed_what_names_it() {
    let place = Place::ready();
    for names in [&["listening.json"][..], &["listening.json", "exec.lock", "lock"]] {
        let mut held = start(&mut place.command(&sh(HOLD)));
        let proxy = held.line();
        for name in names {
            fs::remove_file(place.path("state").join(name)).unwrap();
        }
        held.end().ends_with(0);
        assert!(TcpStream::connect(proxy.strip_prefix("http://").unwrap()).is_err());
    }
}

#[test]
fn a_proxy_that_is_being_started_ends_when_its_starter_is_told_to() {
    let place = Place::ready();
    let mut running = start(&mut place.command(&sh(HOLD)));
    let noted = place.path("state/exec.lock");
    let proxy = loop {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n') {
            break Pid::from_raw(pid.parse().unwrap()).unwrap();
        }
        assert!(running.child.try_wait().unwrap().is_none(), "it has ended");
        thread::sleep(Duration::from_millis(1));
    };
    // Its start takes as long as this test does.
    kill_process(proxy, Signal::STOP).unwrap();
    let status = loop {
        running.signal(Signal::TERM);
        match running.child.try_wait().unwrap() {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    assert_eq!(status.code(), Some(128 + 15));
    assert!(test_kill_process(proxy).is_err(), "the proxy is left");
}

/// What is no file, and is waited for by whoever opens it to read.
#[test]
fn a_pipe_among_the_files_of_egret_is_not_waited_for() {
    let place = Place::ready();
    let pipe = |name: &str| {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, place.path("state").join(name), FileType::Fifo, mode, 0).unwrap();
    };
    let mut held = start(&mut place.command(&sh(HOLD)));
    held.line();
    pipe("audit/00000099.jsonl");
    held.end().ends_with(0);
    for line in [&["tail"][..], &["tail", "--audit", "state/audit/00000099.jsonl"]] {
        place.run(line).ends_with(1).says("it is not a file");
    }
    symlink("audit/00000001.jsonl", place.path("state/link")).unwrap();
    place.run(&["tail", "--audit", "state/link"]).ends_with(0);
    pipe("listening.json");
    place.run(&["env"]).ends_with(1).says("listening.json");
}

/// As under `nohup`.
#[test]
fn a_signal_that_is_ignored_is_ignored_by_the_command_too() {
    let place = Place::ready();
    let script = |trap: &str| format!("{trap} exec $0 exec -- /bin/sh -c 'kill -HUP $$; echo on'");
    let run = Run::from(place.shell(&script("trap '' HUP;")).output().unwrap()).ends_with(0);
    run.has_line("on");
    Run::from(place.shell(&script("")).output().unwrap()).ends_with(128 + 1);
}

#[test]
fn the_command_learns_where_the_proxy_is_and_nothing_else_of_egret() {
    let place = Place::ready();
    let token = place.run(&["worker", "token", "ci-1", "--json"]).ends_with(0).json();
    let [secret, digest] = ["token", "token_sha256"].map(|key| token[key].as_str().unwrap());
    let config = place.read("egret.toml").replace("anonymous", "token");
    let worker = format!("[[worker]]\nid = \"ci-1\"\ntoken_sha256 = \"{digest}\"\n");
    place.write("egret.toml", &(config + &worker));
    place.write("token", secret);
    set_mode(&place.path("token"), 0o600);
    let mut command = place.command(&sh("env"));
    let run = command.env("EGRET_TOKEN_FILE", place.path("token")).output().unwrap();
    let run = Run::from(run).ends_with(0);
    assert!(run.stdout.contains(&format!("http_proxy=http://ci-1:{secret}@127.0.0.1:")));
    let state = place.path("state").display().to_string();
    for name in ["EGRET_TOKEN", &state, "exec.lock"] {
        assert!(!run.stdout.contains(name), "{name}: {}", run.stdout);
    }
    // Without a token there is no URL that would work, and no command that would not.
    fs::remove_dir_all(place.path("state")).unwrap();
    let refused = place.run(&sh("echo ran")).ends_with(78).says("set EGRET_TOKEN_FILE");
    assert_eq!(refused.stdout, "");
    assert!(!place.path("state").exists(), "a proxy was started for it");
}

#[test]
fn a_command_that_could_read_the_state_is_warned_of_or_refused() {
    let place = Place::ready();
    let run = place.run(&sh("echo ran")).ends_with(0).says("can read the state directory");
    run.has_line("ran");
    let strict = ["exec", "--strict", "--", "/bin/sh", "-c", "echo ran"];
    let run = place.run(&strict).ends_with(77).says("as a user of its own");
    assert_eq!(run.stdout, "");
}

/// A checkout may bring a configuration, and links where egret writes.
#[test]
fn what_lies_in_the_state_directory_is_not_written_through() {
    const KEPT: &str = "keep this";
    for name in ["exec.log", "exec.lock", "lock", "listening.json.new"] {
        for hard in [false, true] {
            let place = Place::ready();
            place.write("kept", KEPT);
            fs::create_dir(place.path("state")).unwrap();
            set_mode(&place.path("state"), 0o700);
            let (kept, link) = (place.path("kept"), place.path("state").join(name));
            match hard {
                true => fs::hard_link(kept, link).unwrap(),
                false => symlink(kept, link).unwrap(),
            }
            let run = place.run(&sh("echo ran"));
            assert_eq!(place.read("kept"), KEPT, "{name}, hard: {hard}");
            // What is made anew needs nothing of what was there.
            let is_anew = matches!(name, "exec.log" | "listening.json.new");
            run.ends_with(i32::from(!is_anew));
        }
    }
    let place = Place::ready();
    fs::create_dir(place.path("state")).unwrap();
    set_mode(&place.path("state"), 0o777);
    place.run(&sh("echo ran")).ends_with(78).says("may be written by others");
    assert_eq!(fs::read_dir(place.path("state")).unwrap().count(), 0);
}

#[test]
fn who_starts_a_proxy_by_the_file_that_is_here_is_told() {
    let place = Place::ready();
    let told = format!("starting a proxy by `{}`", place.path("egret.toml").display());
    place.run(&sh("exit 0")).ends_with(0).says(&told);
    let named = place.path("egret.toml").display().to_string();
    let run = place.run(&["exec", "-c", &named, "--", "/bin/sh", "-c", "exit 0"]).ends_with(0);
    assert!(!run.stderr.contains("starting a proxy"), "{}", run.stderr);
    let _serving = place.serve(&["serve"]);
    let run = place.run(&sh("exit 0")).ends_with(0);
    assert!(!run.stderr.contains("starting a proxy"), "{}", run.stderr);
}

#[test]
fn why_no_proxy_starts_is_shown_and_its_exit_code_kept() {
    let place = Place::ready();
    fs::remove_file(place.path("policy.toml")).unwrap();
    let run = place.run(&sh("echo ran")).ends_with(78).says("policy.toml");
    assert_eq!(run.stdout, "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::ready();
    place.write("egret.toml", &place.read("egret.toml").replace("127.0.0.1:0", &address));
    let run = place.run(&sh("echo ran")).ends_with(69).says("another process listens there");
    assert_eq!(run.stdout, "");
    place.write("egret.toml", "version = 2\n");
    place.run(&sh("echo ran")).ends_with(78).says("egret.toml:1:11");
}

/// As a container is given the directory that the proxy writes to.
#[test]
fn a_proxy_is_used_by_who_sees_its_state_read_only() {
    let place = Place::ready();
    let read_only = |run: &str| {
        let mounted = "mount --bind state state && mount -o remount,bind,ro state";
        let script = format!("exec unshare --map-root-user --mount sh -c '{mounted} && {run}' $0");
        place.shell(&script).env("PATH", "/usr/bin:/bin").output().unwrap()
    };
    fs::create_dir(place.path("state")).unwrap();
    let able = read_only("true");
    if !able.status.success() {
        return not_run("a mount", &std::io::Error::other(format!("{able:?}")));
    }
    let run = "\"$0\" exec -- /bin/sh -c \"echo at \\$http_proxy\"";
    Run::from(read_only(run)).ends_with(1).says("where the directory can be written");
    let serving = place.serve(&["serve"]);
    Run::from(read_only(run)).ends_with(0).has_line(&format!("at http://{}", serving.address));
}
