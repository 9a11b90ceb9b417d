//! What stands around the clients: origins, names, a root they trust, and egret as a process.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use egret_attack::audit::{self, Record};
use egret_testkit::{
    client::Client as Raw,
    dns::{self, Dns, Zone},
    namespace::Entered,
    origin::{Answer, Origin, Plan, Step},
    packets::Own,
    pki::Pki,
    proxy::{Proxy, Ready},
};

use crate::program::{Client, Outcome, Program};

/// Allowed by [`POLICY`], by http and https.
pub(crate) const ALLOWED: &str = "api.example.com";
/// Resolves, has an origin with a good certificate, and is allowed by nothing.
pub(crate) const DENIED: &str = "www.example.org";
/// What a denied client should be able to read.
pub(crate) const CODE: &str = "egress.host_not_allowed";
/// What the origins answer.
pub(crate) const BODY: &str = "ok";

pub(crate) const POLICY: &str = r#"
version = 1
[[rule]]
id = "allowed"
effect = "allow"
hosts = ["api.example.com"]
schemes = ["http", "https"]
ports = [80, 443]
"#;

/// The id of the worker that [`Stage::serve_to_worker`] admits.
pub(crate) const WORKER: &str = "ci-1";
/// Its token.
const TOKEN: &str = "correct-horse";

/// Runs a command with what `egret env` prints, and with nothing else that names the proxy.
const WITH_ENV: &str = r#"variables="$("$0" env)" && eval "$variables" && exec "$@""#;

/// What outlives a single trial: the namespace has one of each.
pub(crate) struct Stage {
    pub(crate) dns: Dns,
    pub(crate) origin: Origin,
    pub(crate) pki: Pki,
    /// The root of the origins, as PEM.
    pub(crate) roots: PathBuf,
    directory: PathBuf,
}

impl Stage {
    pub(crate) fn furnish(entered: &Entered) -> Self {
        let pki = Pki::new().unwrap();
        let directory = entered.directory().to_owned();
        Self {
            dns: Dns::start().unwrap(),
            origin: Origin::start(Plan::good(&pki).unwrap()).unwrap(),
            roots: pki.write(&directory).unwrap().roots,
            pki,
            directory,
        }
    }

    /// Whether a client is not on this machine.
    pub(crate) fn lacks(&self, client: Client) -> bool {
        let Some((program, arguments)) = client.probe() else { return false };
        let mut probe = Command::new(program);
        probe.args(arguments).env("HOME", &self.directory).stdin(Stdio::null());
        !probe.output().is_ok_and(|output| output.status.success())
    }

    /// Starts egret for anybody, with fresh names and origins.
    pub(crate) fn serve(&self, policy: &str) -> Scene {
        self.start(policy, r#"identity = ["anonymous"]"#, None)
    }

    /// Starts egret for one worker that has to show its token.
    pub(crate) fn serve_to_worker(&self, policy: &str) -> Scene {
        let token_sha256 = "9dca666eb54730714630d1519264a7bf1eeaad00b8f2edc90d3ecbfad928d163";
        let worker = format!("[[worker]]\nid = \"{WORKER}\"\ntoken_sha256 = \"{token_sha256}\"");
        self.start(policy, &format!("identity = [\"token\"]\n\n{worker}"), Some(TOKEN))
    }

    /// Has the origins serve the files of a folder; a path that ends in a slash is its index.
    pub(crate) fn publish(&self, folder: PathBuf) {
        self.origin.reset(Plan::good(&self.pki).unwrap().answering(Answer::with(move |request| {
            let target = String::from_utf8_lossy(request.target()).into_owned();
            let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
            let index = if path.is_empty() || path.ends_with('/') { "index.html" } else { "" };
            let file = folder.join(format!("{path}{index}"));
            let (status, body) = match fs::read(&file) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", vec![]),
            };
            let kind = if index.is_empty() { "application/octet-stream" } else { "text/html" };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            vec![Step::Send([head.into_bytes(), body].concat())]
        })));
    }

    fn start(&self, policy: &str, identity: &str, token: Option<&str>) -> Scene {
        self.dns.reset(Zone::corpus(), vec![]);
        self.origin.reset(Plan::good(&self.pki).unwrap());
        let folder = tempfile::tempdir_in(&self.directory).unwrap();
        let config = format!(
            "version = 1\nstate_dir = \"state\"\npolicy = \"policy.toml\"\n\
             [dns]\nservers = [\"{}\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\n{identity}\n",
            dns::ADDRESS
        );
        let token_file = token.map(|token| ("token", token));
        let files = [("policy.toml", policy), ("egret.toml", &config)];
        for (name, text) in files.into_iter().chain(token_file) {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        command.args(["serve", "-c", "egret.toml"]).current_dir(folder.path());
        let proxy = Proxy::start(command, Ready::Line, Duration::from_secs(20))
            .unwrap_or_else(|error| panic!("{error}"));
        Scene { proxy, folder, roots: self.roots.clone(), has_token: token.is_some() }
    }
}

/// One running egret.
pub(crate) struct Scene {
    proxy: Proxy,
    folder: tempfile::TempDir,
    roots: PathBuf,
    has_token: bool,
}

impl Scene {
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Returns the proxy's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns the proxy's URL with the credentials of [`WORKER`].
    pub(crate) fn url_of_worker(&self) -> String {
        format!("http://{WORKER}:{TOKEN}@{}", self.address())
    }

    /// Returns the root of the origins, as PEM.
    pub(crate) fn roots(&self) -> &Path {
        &self.roots
    }

    /// Returns a client that speaks bytes.
    pub(crate) fn raw(&self) -> Raw {
        Raw::new(self.address(), Own::default())
    }

    /// Returns a private folder that goes with the scene.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a command that knows the proxy by `eval "$(egret env)"` alone, as the worker of the
    /// scene where there is one.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare("/bin/sh");
        command.args(["-c", WITH_ENV, env!("CARGO_BIN_EXE_egret"), program]).args(arguments);
        if self.has_token {
            command.env("EGRET_TOKEN_FILE", self.folder().join("token"));
        }
        command
    }

    /// Returns a command that knows the proxy by the plain variables, and shows no token.
    pub(crate) fn stranger(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare(program);
        command.args(arguments);
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env(name, self.url());
        }
        command
    }

    /// Returns a program that trusts the origins by the variables that clients know, and has
    /// nothing else of the caller's environment but the path.
    fn bare(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .current_dir(self.folder());
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "NODE_EXTRA_CA_CERTS",
            "NPM_CONFIG_CAFILE",
        ] {
            command.env(name, &self.roots);
        }
        command
    }

    /// Starts a command; several may run at a time.
    pub(crate) fn start(&self, command: Command) -> Program {
        Program::start(command, self.folder())
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: Command) -> Outcome {
        self.start(command).end()
    }

    /// Waits until a record fits and returns it.
    pub(crate) fn record(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let records = audit::read(&self.folder().join("state/audit"));
            if let Some(found) = records.iter().find(|record| fits(record)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "no record of {what} among {records:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a request of the worker to the allowed host is recorded.
    pub(crate) fn is_known(&self, what: &str) {
        self.record(what, |record| {
            record.is_decision()
                && record.text("worker") == WORKER
                && record.text("host") == ALLOWED
        });
    }

    /// Waits for the decision of a kind on a host and returns it.
    pub(crate) fn decision(&self, host: &str, reason: &str) -> Record {
        self.record(reason, |record| {
            record.is_decision() && record.text("host") == host && record.reason() == reason
        })
    }
}
