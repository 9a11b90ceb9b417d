//! What stands around egret: origins, names, a folder, and the process, which may be started more
//! than once on the same state.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::Client,
    dns::{self, Dns, Zone},
    namespace::Entered,
    origin::{Origin, Plan, Service},
    packets::Own,
    pki::Pki,
    proxy::{Proxy, Ready},
};
use tempfile::TempDir;

use crate::ledger::Ledger;

/// Allows what is below `example.org`, by http and https.
pub(crate) const POLICY: &str = r#"
version = 1
[[rule]]
id = "allowed"
effect = "allow"
suffixes = ["example.org"]
schemes = ["http", "https"]
ports = [80, 443]
"#;

/// What outlives a single trial: the namespace has one of each.
pub(crate) struct Stage {
    pub(crate) entered: Entered,
    pub(crate) dns: Dns,
    pub(crate) origin: Origin,
    pki: Pki,
}

impl Stage {
    pub(crate) fn furnish(entered: Entered) -> Self {
        let pki = Pki::new().unwrap();
        let origin = Origin::start(Plan::good(&pki).unwrap()).unwrap();
        Self { entered, dns: Dns::start().unwrap(), origin, pki }
    }

    /// Returns the plan of good origins that send back what comes to port 443.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::good(&self.pki).unwrap();
        plan.services.insert(443, Service::Echo);
        plan
    }

    /// Lays out a folder for egret, with fresh names and origins; `more` is appended to its
    /// configuration.
    pub(crate) fn lay(&self, policy: &str, more: &str) -> Scene {
        self.dns.reset(Zone::corpus(), vec![]);
        self.origin.reset(self.plan());
        let folder = tempfile::tempdir_in(self.entered.directory()).unwrap();
        let config = format!(
            "version = 1\nstate_dir = \"state\"\npolicy = \"policy.toml\"\n\
             [dns]\nservers = [\"{}\"]\ntimeout = \"5s\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\nidentity = [\"anonymous\"]\n\
             [metrics]\naddress = \"127.0.0.1:0\"\n{more}",
            dns::ADDRESS
        );
        write(&folder.path().join("policy.toml"), policy);
        write(&folder.path().join("egret.toml"), &config);
        Scene { folder, proxy: None }
    }
}

/// One folder, and the egret that runs on it.
pub(crate) struct Scene {
    folder: TempDir,
    proxy: Option<Proxy>,
}

impl Scene {
    /// Starts egret; one that runs already is ended with it.
    pub(crate) fn start(&mut self) -> &mut Proxy {
        self.proxy = None;
        let proxy = Proxy::start(self.command(), Ready::Line, PATIENCE);
        self.proxy.insert(proxy.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Returns what starts egret.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        command.args(["serve", "-c", "egret.toml"]).current_dir(self.folder.path());
        command
    }

    /// Returns the running egret.
    pub(crate) fn proxy(&mut self) -> &mut Proxy {
        self.proxy.as_mut().unwrap()
    }

    /// Returns a client of the running egret.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.proxy.as_ref().unwrap().address(), Own::default())
    }

    /// Returns a client of its metrics.
    pub(crate) fn metrics(&self) -> Client {
        let written = fs::read_to_string(self.path("state/listening.json")).unwrap();
        let listening: serde_json::Value = serde_json::from_str(&written).unwrap();
        Client::new(listening["metrics"].as_str().unwrap().parse().unwrap(), Own::default())
    }

    /// Returns the status and the text of a page of its metrics.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        page(&self.metrics(), path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Egret itself finds nothing wrong with its records, nor with the newest head beside them.
    pub(crate) fn verify(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_egret"))
            .args(["audit", "verify", "state/audit", "--head", "state/audit/head.json"])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    /// Returns the records as they are now.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::read(&self.path("state/audit"))
    }
}

/// Returns the status and the text of a page.
pub(crate) fn page(client: &Client, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: metrics\r\n\r\n");
    let answer = client.request(request.as_bytes()).unwrap();
    (answer.status(), answer.text())
}

/// Writes a file as egret wants it: nobody else may write it.
pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits until a condition holds; panics with what was waited for when it does not in time.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Longer than anything takes on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
