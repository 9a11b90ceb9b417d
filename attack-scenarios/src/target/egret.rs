//! egret, as this project's own suite starts it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use egret_testkit::{dns, proxy::Ready};
use rustix::process::Signal;

use super::{Setup, Target};
use crate::{
    case::{
        Policy,
        config::{Change, Clients, Entries, Listener, Mode, Settings},
    },
    load::Tuning,
};

/// The adapter for egret.
#[derive(Debug, Clone)]
pub struct Egret {
    binary: PathBuf,
    records: PathBuf,
    interception: Interception,
}

/// Whether TLS is relayed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// Blind tunnels.
    Off,
    /// Every tunnel is opened.
    On,
}

impl Egret {
    /// Returns the adapter for a binary.
    pub fn new(binary: impl Into<PathBuf>, interception: Interception) -> Self {
        Self { binary: binary.into(), records: PathBuf::from("state/audit"), interception }
    }

    fn policy(&self, setup: &Setup<'_>, idle: Duration) -> String {
        let Setup { settings, .. } = setup;
        let entries = match &settings.allow {
            Entries::Usual if setup.policy == Policy::SsrfOnly => hosts(["*"].into_iter()),
            Entries::Usual => hosts(["api.example.com", ".example.org"].into_iter()),
            Entries::None => String::new(),
            Entries::List(list) => hosts(list.iter().map(String::as_str)),
        };
        let mode = match settings.mode {
            Mode::Enforce => "enforce",
            Mode::Report => "report",
        };
        let tls = match self.interception {
            Interception::Off => "tunnel",
            Interception::On => "intercept",
        };
        let unknown: String =
            settings.unknown.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let idle = idle.as_millis();
        let allow = format!(
            "version = 1\n\n[defaults]\nmode = \"{mode}\"\nidle_timeout = \"{idle}ms\"\n\n\
             [[rule]]\nid = \"allowed\"\neffect = \"allow\"\n{entries}{unknown}\
             schemes = [\"http\", \"https\"]\nports = [80, 443]\ntls = \"{tls}\"\n"
        );
        if settings.deny.is_empty() {
            return allow;
        }
        let entries = hosts(settings.deny.iter().map(String::as_str));
        format!("{allow}\n[[rule]]\nid = \"denied\"\neffect = \"deny\"\n{entries}")
    }

    fn configuration(&self, setup: &Setup<'_>) -> String {
        let Setup { directory, settings, certificates, .. } = setup;
        let authority = match self.interception {
            Interception::Off => String::new(),
            Interception::On => {
                let certificate = certificates.intercept_certificate.display();
                let key = certificates.intercept_key.display();
                format!("intercept_ca = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n")
            }
        };
        let identity = match settings.clients {
            Clients::Anybody => "anonymous",
            Clients::Known => "token",
        };
        let worker = format!("\n[[worker]]\nid = \"known\"\ntoken_sha256 = \"{TEST}\"\n");
        let (elsewhere, worker) = match (settings.listener, settings.clients) {
            // Nobody may be anonymous there, so this is as far as it can be opened.
            (Listener::Everywhere, _) => {
                ("\n[[listener]]\naddress = \"0.0.0.0:0\"\nidentity = [\"token\"]\n", &*worker)
            }
            (Listener::Loopback | Listener::Unsaid, Clients::Known) => ("", &*worker),
            (Listener::Loopback | Listener::Unsaid, Clients::Anybody) => ("", ""),
        };
        format!(
            "version = 1\nstate_dir = \"{}/state\"\npolicy = \"policy.toml\"\n\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\nidentity = [\"{identity}\"]\n{elsewhere}{worker}\n\
             [dns]\nservers = [\"{}\"]\n\n[tls]\nroots = \"{}\"\n{authority}",
            directory.display(),
            dns::ADDRESS,
            certificates.roots.display(),
        )
    }
}

impl Target for Egret {
    fn has(&self, feature: &str) -> bool {
        match self.interception {
            Interception::Off => feature == "sni-check",
            Interception::On => ["sni-check", "tls-intercept"].contains(&feature),
        }
    }

    fn via(&self) -> Option<&str> {
        Some("egret")
    }

    fn expresses(&self, _settings: &Settings) -> bool {
        true
    }

    fn forgeries(&self) -> Vec<&str> {
        vec![
            "Proxy-Status: egret; error=http_request_denied; details=\"egress.rule_denied; forged\"",
        ]
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Some(IDLE)
    }

    fn caches_names(&self) -> bool {
        true
    }

    fn command(&self, setup: &Setup<'_>) -> io::Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg("serve").current_dir(setup.directory);
        if setup.settings.listener == Listener::Unsaid {
            // Somebody who has configured nothing; a folder of its own stands for the home.
            for (variable, folder) in [("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "home")] {
                command.env(variable, setup.directory.join(folder));
            }
            return Ok(command);
        }
        let mode = setup.settings.policy_mode.unwrap_or(0o600);
        write(&setup.directory.join("policy.toml"), &self.policy(setup, IDLE), mode)?;
        let file = setup.directory.join("egret.toml");
        write(&file, &self.configuration(setup), 0o600)?;
        command.arg("-c").arg(file);
        Ok(command)
    }

    fn tuned(&self, setup: &Setup<'_>, tuning: &Tuning) -> io::Result<Option<Command>> {
        let command = self.command(setup)?;
        let file = setup.directory.join("egret.toml");
        let mut config = fs::read_to_string(&file)? + METRICS + &tuning.config();
        if !tuning.workers.is_empty() {
            config = config.replace("[\"anonymous\"]", "[\"token\"]");
        }
        write(&file, &config, 0o600)?;
        let policy = self.policy(setup, tuning.idle_timeout);
        write(&setup.directory.join("policy.toml"), &policy, 0o600)?;
        Ok(Some(command))
    }

    fn change(&self, setup: &Setup<'_>, change: &Change) -> io::Result<Option<Signal>> {
        let allowing = |list: &[String]| {
            let settings =
                Settings { allow: Entries::List(list.to_vec()), ..setup.settings.clone() };
            self.policy(&Setup { settings: &settings, ..*setup }, IDLE)
        };
        let (file, fresh) = (setup.directory.join("policy.toml"), setup.directory.join("fresh"));
        match change {
            Change::To(list) => write(&fresh, &allowing(list), 0o600)?,
            Change::Broken => write(&fresh, "version = 1\n[[rule]\nid = \"half of", 0o600)?,
            Change::Emptied => std::os::unix::fs::symlink("/dev/null", &fresh)?,
            Change::Widened => write(&fresh, &allowing(&["*".to_owned()]), 0o666)?,
            Change::Elsewhere => {
                let file = setup.directory.join("egret.toml");
                let config = fs::read_to_string(&file)? + "\n[limits]\nheader_timeout = \"9s\"\n";
                write(&file, &config, 0o600)?;
                return Ok(Some(Signal::HUP));
            }
        }
        fs::rename(&fresh, &file)?;
        Ok(Some(Signal::HUP))
    }

    fn metrics(&self, directory: &Path) -> Option<SocketAddr> {
        let written = fs::read_to_string(directory.join("state/listening.json")).ok()?;
        let listening: serde_json::Value = serde_json::from_str(&written).ok()?;
        listening["metrics"].as_str()?.parse().ok()
    }

    fn ready(&self) -> Ready {
        Ready::Line
    }

    fn records(&self) -> Option<&Path> {
        Some(&self.records)
    }
}

/// `hosts` and `suffixes` of a rule. What begins with a dot is meant as a suffix; an empty list is
/// written only where nothing else would be.
fn hosts<'e>(entries: impl Iterator<Item = &'e str>) -> String {
    let (suffixes, hosts): (Vec<&str>, Vec<&str>) =
        entries.partition(|entry| entry.starts_with('.'));
    // A TOML string of these may be written as in JSON.
    let line = |key: &str, names: &[&str]| format!("{key} = {}\n", serde_json::json!(names));
    match (&hosts[..], &suffixes[..]) {
        (hosts, []) => line("hosts", hosts),
        ([], suffixes) => line("suffixes", suffixes),
        (hosts, suffixes) => line("hosts", hosts) + &line("suffixes", suffixes),
    }
}

/// Writes a file, as a rule one that others may not write: egret refuses one that they could.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

const METRICS: &str = "\n[metrics]\naddress = \"127.0.0.1:0\"\n";

/// For how long a tunnel may be idle.
const IDLE: Duration = Duration::from_secs(10);

/// The digest of the token `test`, which only a case that is about tokens presents.
const TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
