//! The README, done as it says: its files are valid, its commands print what it shows.
//!
//! Runs in a network namespace, where `example.com` is an origin of the test and the embedded
//! listener's port is free. What differs from run to run (ids, digests, dates) is compared by its
//! shape.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
};

use egret_testkit::{
    dns::Dns,
    namespace::{Namespace, REQUIRE},
    origin::{Origin, Plan},
    pki::Pki,
};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};

const README: &str = include_str!("../../../README.md");

fn main() -> ExitCode {
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(status) => return status,
    };
    // Threads may start from here on.
    let arguments = Arguments::from_args();
    let dns = Dns::start().unwrap();
    dns.serve(&[("example.com", "93.184.216.34")]);
    let pki = Pki::new().unwrap();
    let _origin = Origin::start(Plan::good(&pki).unwrap()).unwrap();
    let folder = Arc::new(Folder::new(entered.directory(), &pki.root_pem()));

    let with = |test: fn(&Folder)| {
        let folder = folder.clone();
        move || -> Result<(), Failed> {
            test(&folder);
            Ok(())
        }
    };
    let curl_is_there = Command::new("curl").arg("--version").output().is_ok();
    let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    let trials = vec![
        Trial::test("both_commands_are_there", with(both_commands_are_there)),
        Trial::test("every_policy_and_configuration_is_valid", with(files_are_valid)),
        Trial::test("the_first_start_and_the_second", with(first_and_second_start)),
        // Said as ignored where there is no curl; a failure where everything is required.
        Trial::test("what_is_shown_is_what_is_printed", with(commands_print_what_is_shown))
            .with_ignored_flag(!curl_is_there && !required),
    ];
    // One at a time: the listener's port is the embedded one.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit_code()
}

/// Where the commands run.
struct Folder {
    home: PathBuf,
    roots: PathBuf,
}

impl Folder {
    fn new(directory: &Path, roots_pem: &str) -> Self {
        let folder = Self { home: directory.join("home"), roots: directory.join("roots.pem") };
        fs::write(&folder.roots, roots_pem).unwrap();
        fs::create_dir(&folder.home).unwrap();
        folder
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let egret = Path::new(env!("CARGO_BIN_EXE_egret")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(egret).chain(std::env::split_paths(&path)));
        command
            .env_clear()
            .env("PATH", path.unwrap())
            .env("HOME", &self.home)
            .env("CURL_CA_BUNDLE", &self.roots)
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    fn serve(&self) -> Serving {
        let mut child = self
            .command("egret")
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut listening = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut listening).unwrap();
        assert_eq!(listening, "listening 127.0.0.1:3128\n");
        Serving(child)
    }
}

struct Serving(Child);

impl Serving {
    /// Ends the proxy and returns the messages of its log.
    fn end(mut self) -> Vec<String> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.0.wait().unwrap().success(), "{log}");
        let message = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["message"].as_str().unwrap_or_default().to_owned()
        };
        log.lines().map(message).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in README.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(name)) => open = Some((name == language, String::new())),
            (Some(_), Some(_)) => {
                blocks.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, text)| text));
            }
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

fn both_commands_are_there(_: &Folder) {
    let shell = blocks("sh");
    let lines: Vec<_> = shell.iter().take(2).flat_map(|block| block.lines()).collect();
    assert_eq!(lines, ["cargo run --release -p egret -- serve", "cargo test --workspace"]);
}

fn files_are_valid(folder: &Folder) {
    let place = folder.home.join("files");
    fs::create_dir(&place).unwrap();
    let (mut policies, mut configurations) = (0, 0);
    for block in blocks("toml") {
        let is_policy = block.contains("[[rule]]");
        let name = if is_policy { "policy.toml" } else { "egret.toml" };
        fs::write(place.join(name), block).unwrap();
        let mut check = folder.command("egret");
        check.arg("check").current_dir(&place);
        if is_policy {
            check.arg(name);
            policies += 1;
        } else {
            configurations += 1;
        }
        let output = check.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "a warning");
    }
    assert_eq!((policies, configurations), (1, 1));
}

fn first_and_second_start(folder: &Folder) {
    let policy = folder.home.join(".config/egret/policy.toml");
    let fetch = |host: &str| {
        let mut stream = std::net::TcpStream::connect("127.0.0.1:3128").unwrap();
        let head =
            format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    };
    let serving = folder.serve();
    assert!(fetch("example.com").starts_with("HTTP/1.1 200 "));
    assert!(fetch("example.org").starts_with("HTTP/1.1 403 egress.host_not_allowed "));
    serving.end();

    let written = fs::read_to_string(&policy).unwrap();
    let edited = written.replace("\"example.com\"", "\"mine.example\"");
    let edited = edited.split("[[test]]").next().unwrap();
    fs::write(&policy, edited).unwrap();
    let serving = folder.serve();
    assert!(fetch("example.com").starts_with("HTTP/1.1 403 egress.host_not_allowed "));
    serving.end();
    assert_eq!(fs::read_to_string(&policy).unwrap(), edited, "it was overwritten");
    fs::remove_file(&policy).unwrap();
}

fn commands_print_what_is_shown(folder: &Folder) {
    let consoles = blocks("console");
    let (serve, others) = consoles.split_first().unwrap();
    let serving = folder.serve();
    let mut ran = 0;
    for block in others {
        for shown in format!("\n{block}").split("\n$ ").skip(1) {
            let (line, shown) = shown.split_once('\n').unwrap();
            let output = folder.command("sh").args(["-c", &format!("{line} 2>&1")]).output();
            let printed = String::from_utf8(output.unwrap().stdout).unwrap().replace('\r', "");
            assert_eq!(shape(&printed), shape(shown), "{line}\nprinted:\n{printed}");
            ran += 1;
        }
    }
    assert!(ran >= 3, "only {ran} commands were run");

    let messages = serving.end();
    let home = folder.home.display().to_string();
    let shown: Vec<_> = serve.lines().collect();
    assert_eq!(shown[..2], ["$ egret serve", "listening 127.0.0.1:3128"]);
    for line in &shown[2..] {
        let line = line.replace('~', &home);
        assert!(messages.contains(&line), "{line:?} is not in {messages:#?}");
    }
}

/// Takes out what differs from run to run: ULIDs, digests, dates.
fn shape(text: &str) -> String {
    let word = |word: &str| match word.len() {
        26 if word.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()) => "ULID",
        64 if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => "DIGEST",
        _ => "",
    };
    let mut shape = String::new();
    for line in text.trim_end().lines().filter(|line| !line.to_lowercase().starts_with("date:")) {
        let is_part = |c: char| c.is_ascii_alphanumeric();
        let mut rest = line;
        while let Some(start) = rest.find(is_part) {
            let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |end| start + end);
            let part = &rest[start..end];
            shape += &rest[..start];
            shape += if word(part).is_empty() { part } else { word(part) };
            rest = &rest[end..];
        }
        shape += rest;
        shape.push('\n');
    }
    shape
}
