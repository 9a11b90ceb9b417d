//! Clients as processes: whether they are there, and a run of one that cannot hang the test.
//!
//! A program leads a process group of its own and writes into files, so that nothing it leaves
//! behind holds a pipe open. When its time is up, and in any case at the end, the group is killed.

use std::{
    fmt, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// Long enough for any of these on a busy machine; a client that needs it has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who speaks to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// The test itself, byte by byte.
    Bytes,
    Curl,
    Wget,
    Git,
    Python,
    Requests,
    Httpx,
    Pip,
    Node,
    /// The library that npm brings along.
    Undici,
    /// The library that npm brings along.
    HttpsProxyAgent,
    Npm,
    Chromium,
}

impl Client {
    /// Returns a command that succeeds where the client is there.
    pub(crate) fn probe(self) -> Option<(&'static str, Vec<String>)> {
        let version = || vec!["--version".to_owned()];
        let from_npm = |module: &str| {
            vec!["-e".to_owned(), format!("{}('{module}')", crate::node::REQUIRE_FROM_NPM)]
        };
        Some(match self {
            Self::Bytes => return None,
            Self::Curl => ("curl", version()),
            Self::Wget => ("wget", version()),
            Self::Git => ("git", version()),
            Self::Python => ("python3", version()),
            Self::Requests => ("python3", vec!["-c".to_owned(), "import requests".to_owned()]),
            Self::Httpx => ("python3", vec!["-c".to_owned(), "import httpx".to_owned()]),
            Self::Pip => ("python3", ["-m", "pip", "--version"].map(str::to_owned).to_vec()),
            Self::Node => ("node", version()),
            Self::Undici => ("node", from_npm("undici")),
            Self::HttpsProxyAgent => ("node", from_npm("https-proxy-agent")),
            Self::Npm => ("npm", version()),
            Self::Chromium => ("chromium", version()),
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Curl => "curl",
            Self::Wget => "wget",
            Self::Git => "git",
            Self::Python => "Python",
            Self::Requests => "requests",
            Self::Httpx => "httpx",
            Self::Pip => "pip",
            Self::Node => "Node",
            Self::Undici => "undici (of npm)",
            Self::HttpsProxyAgent => "https-proxy-agent (of npm)",
            Self::Npm => "npm",
            Self::Chromium => "Chromium",
        })
    }
}

/// A running program; its process group is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether it ended well.
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// Starts a command; what it prints goes into two files in a new folder below `directory`.
    pub(crate) fn start(mut command: Command, directory: &Path) -> Self {
        let own = tempfile::tempdir_in(directory).unwrap().keep();
        let (out, err) = (own.join("stdout"), own.join("stderr"));
        let child = command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, out, err }
    }

    /// Waits for the end of the program and returns what it said.
    pub(crate) fn end(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Outcome {
                    ok: status.success(),
                    out: text(&self.out),
                    err: text(&self.err),
                };
            }
            let said = || format!("{}\n{}", text(&self.out), text(&self.err));
            assert!(Instant::now() < deadline, "not ended after {PATIENCE:?}:\n{}", said());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // What the program started may have outlived it. An empty group is no error here.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Requires a good end and this output.
    #[track_caller]
    pub(crate) fn gives(&self, out: &str) {
        assert!(self.ok && self.out.trim_end() == out, "{self:#?}");
    }

    /// Requires a failure that shows this text on either stream.
    #[track_caller]
    pub(crate) fn fails_showing(&self, text: &str) {
        let shown = self.out.contains(text) || self.err.contains(text);
        assert!(!self.ok && shown, "no failure with {text:?}: {self:#?}");
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
