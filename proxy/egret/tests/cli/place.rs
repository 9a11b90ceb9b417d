//! A folder of one's own to run egret in, with none of the caller's environment.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A policy with one rule, and two tests that pass.
pub(crate) const POLICY: &str = r#"version = 1

[[rule]]
id = "example"
effect = "allow"
hosts = ["example.com"]

[[test]]
url = "https://example.com/"
expect = "allow"

[[test]]
url = "https://example.org/"
expect = "deny"
"#;

/// A configuration that listens on a free port and keeps its state beside it.
pub(crate) const CONFIG: &str = r#"version = 1
state_dir = "state"
policy = "policy.toml"

[[listener]]
address = "127.0.0.1:0"
identity = ["anonymous"]
"#;

/// The number of a user with no rights.
const NOBODY: u32 = 65_534;

pub(crate) struct Place {
    folder: TempDir,
}

/// What a run of egret left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// A place with a configuration and a policy that are good.
    pub(crate) fn ready() -> Self {
        let place = Self::new();
        place.write("egret.toml", CONFIG);
        place.write("policy.toml", POLICY);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner may write, whatever the umask.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o644);
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        command
            .args(line)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        command
    }

    /// Returns egret as a user who may not read what the caller may: somebody else where that is
    /// root, who may read everything.
    pub(crate) fn as_somebody(&self, line: &[&str]) -> Command {
        set_mode(&self.path("."), 0o755);
        let egret = self.path("egret");
        if !egret.exists() {
            // A program that we had open to write could not be run while another test forks.
            let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_egret")).arg(&egret).status();
            assert!(copy.unwrap().success());
            set_mode(&egret, 0o755);
        }
        let mut command = Command::new(&egret);
        command
            .args(line)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs a shell script, to which egret is `$0`.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_egret")])
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.path("home"));
        command
    }

    pub(crate) fn run(&self, line: &[&str]) -> Run {
        self.command(line).output().unwrap().into()
    }

    /// Starts `serve` and waits until it has said on stdout where it listens.
    pub(crate) fn serve(&self, line: &[&str]) -> Serving {
        Serving::start(&mut self.command(line))
    }
}

/// A proxy that runs until it is told to end; killed if a test forgets to.
pub(crate) struct Serving {
    /// The address of its first listener, which is TCP in every test.
    pub(crate) address: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Lines of stderr, as they come.
    stderr: Receiver<String>,
    heard: String,
}

impl Serving {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        match line.trim_end().strip_prefix("listening ") {
            Some(address) => {
                let (line, lines) = mpsc::channel();
                let mut stderr = BufReader::new(child.stderr.take().unwrap());
                thread::spawn(move || {
                    let mut read = String::new();
                    while stderr.read_line(&mut read).unwrap() > 0 {
                        // Nobody listens once the test has its answer.
                        let _ = line.send(std::mem::take(&mut read));
                    }
                });
                let address = address.parse().unwrap();
                Self { address, child, stdout, stderr: lines, heard: String::new() }
            }
            None => panic!("{line:?}: {:?}", Run::from(child.wait_with_output().unwrap())),
        }
    }

    /// Waits for another line on stdout, as there is one for each listener.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Waits until stderr says something, and returns that line.
    #[track_caller]
    pub(crate) fn hears(&mut self, text: &str) -> String {
        loop {
            match self.stderr.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    self.heard += &line;
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("{text:?} is not in\n{}", self.heard),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; returns the status and all that was still to be read.
    pub(crate) fn end(mut self) -> Run {
        let mut run = Run { status: 0, stdout: String::new(), stderr: String::new() };
        self.stdout.read_to_string(&mut run.stdout).unwrap();
        run.stderr = std::mem::take(&mut self.heard) + &self.stderr.iter().collect::<String>();
        run.status = self.child.wait().unwrap().code().unwrap_or(-1);
        run
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn ends_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Requires a text on either stream.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "{text:?} is not in\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Requires a whole line on stdout.
    #[track_caller]
    pub(crate) fn has_line(&self, line: &str) {
        assert!(
            self.stdout.lines().any(|said| said == line),
            "{line:?} is not in\n{}",
            self.stdout
        );
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Says that something was not tried, as a program is not on this machine; a failure where all
/// clients are required.
pub(crate) fn not_run(program: &str, error: &std::io::Error) {
    let required = std::env::var_os("EGRET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "{program}: {error}");
    eprintln!("NOT RUN: {program}: {error}");
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
