//! The README, done as it says: its files are valid, its commands print what it shows, and its
//! pictures show what they print.
//!
//! Runs in a network namespace, where `example.com` is an origin of the test and the embedded
//! listener's port is free. What differs from run to run (ids, digests, times) is compared by its
//! shape. `EGRET_UPDATE_README=1` writes what is printed into the README and the pictures.

#![allow(clippy::unwrap_used)]

mod readme {
    pub(crate) mod page;
    pub(crate) mod picture;
    pub(crate) mod shape;
    pub(crate) mod terminal;
}

use std::{
    fs,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use egret_testkit::{
    dns::Dns,
    namespace::{Namespace, REQUIRE},
    origin::{Origin, Plan},
    pki::Pki,
};
use libtest_mimic::{Arguments, Failed, Trial};

use readme::{
    page::{Block, blocks},
    picture,
    shape::shape,
    terminal::Terminal,
};

/// The folder of the README, to which its links are relative.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const UPDATE: &str = "EGRET_UPDATE_README";

fn main() -> ExitCode {
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(status) => return status,
    };
    // Threads may start from here on.
    let arguments = Arguments::from_args();
    let dns = Dns::start().unwrap();
    dns.serve(&[("example.com", "93.184.216.34"), ("example.org", "93.184.216.34")]);
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

    /// Runs a line of a shell, and returns all that it prints on either stream.
    fn run(&self, line: &str, coloured: bool) -> String {
        let mut command = self.command("sh");
        command.args(["-c", &format!("exec 2>&1\n{line}")]);
        if coloured {
            command.env("CLICOLOR_FORCE", "1");
        }
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        printed.replace('\r', "").replace(&self.home.display().to_string(), "~")
    }

    fn serve(&self) -> Terminal {
        let mut serve = self.command("egret");
        serve.arg("serve");
        let terminal = Terminal::start(serve);
        terminal.wait_for("listening 127.0.0.1:3128\n");
        terminal
    }

    /// How many policies have been taken or refused, by the records of whoever serves here.
    fn policies(&self) -> usize {
        let Ok(segments) = fs::read_dir(self.home.join("state/audit")) else { return 0 };
        let texts = segments.map(|segment| fs::read_to_string(segment.unwrap().path()).unwrap());
        texts.map(|text| text.matches(r#""event":"policy""#).count()).sum()
    }
}

fn wait_until(otherwise: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn page() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

fn in_language(language: &str) -> Vec<Block> {
    blocks(&page()).into_iter().filter(|block| block.language == language).collect()
}

fn both_commands_are_there(_: &Folder) {
    let shell = in_language("sh");
    let lines: Vec<_> = shell.iter().take(2).flat_map(|block| block.text.lines()).collect();
    assert_eq!(lines, ["cargo run --release -p egret -- serve", "cargo test --workspace"]);
}

fn files_are_valid(folder: &Folder) {
    let place = folder.home.join("files");
    fs::create_dir(&place).unwrap();
    let (mut policies, mut configurations) = (0, 0);
    for block in in_language("toml") {
        let is_policy = block.text.contains("[[rule]]");
        let name = if is_policy { "policy.toml" } else { "egret.toml" };
        fs::write(place.join(name), block.text).unwrap();
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
    fs::remove_dir_all(place).unwrap();
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
    fs::remove_dir_all(folder.home.join(".config")).unwrap();
    fs::remove_dir_all(folder.home.join(".local")).unwrap();
}

/// The blocks are one story: what a newcomer types, from the first `egret init` on.
fn commands_print_what_is_shown(folder: &Folder) {
    let page = page();
    let update = std::env::var_os(UPDATE).is_some_and(|value| value == "1");
    let mut serving: Option<(Terminal, Block)> = None;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut stale = Vec::new();
    for block in in_language("console") {
        let commands = block.commands();
        if commands[0].command == "egret serve" {
            serving = Some((folder.serve(), block));
            continue;
        }
        let (mut text, mut coloured) = (String::new(), String::new());
        for shown in commands {
            let policies = folder.policies();
            if shown.command.starts_with("egret audit verify") {
                // How it goes on depends on whether anything is signed; soon something is.
                let head = folder.home.join("state/audit/head.json");
                wait_until("no head was signed", || head.exists());
            }
            let printed = folder.run(&shown.command, block.picture.is_some());
            if let Some((terminal, _)) = &serving
                && printed.contains(" 403 egress.")
            {
                // Told there as it came, and not as the next command leaves the policy.
                terminal.wait_for("✗ denied");
            }
            if serving.is_some() && shown.command.contains("policy.toml <<") {
                // It takes effect by itself, in a moment.
                wait_until("the policy was not taken", || folder.policies() != policies);
            }
            let mut plain = anstream::adapter::strip_str(&printed).to_string();
            if !plain.is_empty() && !plain.ends_with('\n') {
                plain.push('\n');
            }
            if shape(&plain) != shape(&shown.output) {
                stale.push(format!("{}\nprints:\n{plain}", shown.command));
            }
            coloured += &format!("{}{printed}", shown.prompt);
            text += &format!("{}{plain}", shown.prompt);
        }
        if shape(&text) != shape(&block.text) {
            edits.push((block.at.clone(), text));
        }
        if let Some(name) = &block.picture {
            let (file, drawn) = (Path::new(ROOT).join(name), picture::draw(&coloured));
            if !picture::is_current(&file, &drawn) {
                stale.push(format!("the picture {name} shows something else"));
                if update {
                    fs::create_dir_all(file.parent().unwrap()).unwrap();
                    fs::write(file, drawn).unwrap();
                }
            }
        }
    }
    let (terminal, block) = serving.expect("the story starts egret");
    let said = terminal.end().replace(&folder.home.display().to_string(), "~");
    let lines: Vec<_> = said.lines().map(shape).collect();
    for shown in block.text.lines().skip(1).filter(|line| !lines.contains(&shape(line))) {
        stale.push(format!("`egret serve` does not say {shown:?}, but:\n{said}"));
    }
    if update {
        let mut page = page;
        edits.sort_by_key(|(at, _)| at.start);
        for (at, text) in edits.into_iter().rev() {
            page.replace_range(at, &text);
        }
        fs::write(Path::new(ROOT).join("README.md"), page).unwrap();
    }
    assert!(stale.is_empty(), "{UPDATE}=1 writes it:\n{}", stale.join("\n"));
}
