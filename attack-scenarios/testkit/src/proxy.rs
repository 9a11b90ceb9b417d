//! A proxy under test as a process: started by a command, watched, and gone at the end.
//!
//! The process leads a group of its own, so that what it starts goes with it. Readiness is the line
//! `listening ADDRESS` on its standard output or, for proxies that print none, a port that accepts.
//! All it prints is collected, for the message of a test that fails.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How a proxy shows that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// A line `listening ADDRESS` for each listener on standard output.
    Line,
    /// This address accepts connections.
    Accepts(SocketAddr),
}

/// A running proxy; it is killed when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    addresses: Vec<String>,
    out: Text,
    err: Text,
}

/// What a process used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes.
    pub resident: u64,
    /// Time on the processors.
    pub cpu: Duration,
    /// Open descriptors.
    pub descriptors: usize,
}

/// A proxy that did not come up.
#[derive(Debug)]
pub struct NotStarted {
    /// How it ended, if it did.
    pub status: Option<ExitStatus>,
    /// What it said, or what the system said.
    pub said: String,
}

type Text = Arc<Mutex<String>>;

impl Proxy {
    /// Starts a command and waits until it is ready.
    pub fn start(mut command: Command, ready: Ready, wait: Duration) -> Result<Self, NotStarted> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let failed = |error: io::Error| NotStarted { status: None, said: error.to_string() };
        let mut child = command.spawn().map_err(failed)?;
        let out = child.stdout.take().map(collect).unwrap_or_default();
        let err = child.stderr.take().map(collect).unwrap_or_default();
        let mut proxy = Self { child, addresses: Vec::new(), out, err };
        let deadline = Instant::now() + wait;
        loop {
            if let Some(status) = proxy.ended() {
                // The collectors need a moment to see the end of the pipes.
                thread::sleep(Duration::from_millis(20));
                return Err(NotStarted { status: Some(status), said: proxy.said() });
            }
            let is_ready = match ready {
                Ready::Line => {
                    proxy.addresses = listening(&text(&proxy.out));
                    !proxy.addresses.is_empty()
                }
                Ready::Accepts(address) => {
                    proxy.addresses = vec![address.to_string()];
                    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
                }
            };
            if is_ready {
                return Ok(proxy);
            }
            if Instant::now() > deadline {
                let said = format!("not ready after {wait:?}\n{}", proxy.said());
                return Err(NotStarted { status: None, said });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the address of the first TCP listener.
    ///
    /// # Panics
    /// When the proxy listens on no TCP address.
    pub fn address(&self) -> SocketAddr {
        let tcp = self.listeners().into_iter().find_map(|address| address.parse().ok());
        tcp.expect("the proxy has a TCP listener")
    }

    /// Returns the addresses of all listeners announced until now, as the proxy wrote them.
    pub fn listeners(&self) -> Vec<String> {
        let announced = listening(&text(&self.out));
        if announced.is_empty() { self.addresses.clone() } else { announced }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.ended().is_none()
    }

    /// Returns what it printed on standard output.
    pub fn stdout(&self) -> String {
        text(&self.out).clone()
    }

    /// Returns what it printed on standard error.
    pub fn stderr(&self) -> String {
        text(&self.err).clone()
    }

    /// Waits until standard error holds some text; false when it does not within the time.
    pub fn says_within(&self, wanted: &str, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        while !self.stderr().contains(wanted) {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Sends a signal to the process itself.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.group().ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end of the process; `None` when it still runs after the time.
    pub fn wait(&mut self, wait: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns what the process and its children use.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let Ok(entries) = fs::read_dir("/proc") else { return usage };
        for entry in entries.flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            // After the command's name, which may hold anything: state, parent, group …
            let Some((_, rest)) = stat.rsplit_once(')') else { continue };
            let fields: Vec<u64> =
                rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
            if fields.get(2) == Some(&u64::from(self.pid())) && fields.len() > 21 {
                usage.cpu += Duration::from_millis((fields[11] + fields[12]) * 10);
                usage.resident += fields[21] * 4096;
                usage.descriptors +=
                    fs::read_dir(entry.path().join("fd")).map_or(0, Iterator::count);
            }
        }
        usage
    }

    /// Returns how many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Returns how many of them are sockets.
    pub fn sockets(&self) -> usize {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid())) else { return 0 };
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn said(&self) -> String {
        format!("{}{}", text(&self.out), text(&self.err))
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.ended().is_none() {
            if let Some(group) = self.group() {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => write!(f, "the proxy ended ({status}): {}", self.said.trim()),
            None => write!(f, "the proxy did not start: {}", self.said.trim()),
        }
    }
}

impl std::error::Error for NotStarted {}

fn listening(out: &str) -> Vec<String> {
    // Only whole lines: the last one may still be growing.
    let whole = out.rfind('\n').map_or("", |end| &out[..end]);
    let lines = whole.lines().filter_map(|line| line.strip_prefix("listening "));
    lines.map(|address| address.trim().to_owned()).collect()
}

fn collect(pipe: impl Read + Send + 'static) -> Text {
    let collected = Text::default();
    let into = Arc::clone(&collected);
    thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            text(&into).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    collected
}

fn text(text: &Text) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}
