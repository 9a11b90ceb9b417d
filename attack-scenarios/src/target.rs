//! A kind of forward proxy that cases can be played against.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use egret_testkit::{dns, pki::Files, proxy::Ready};

use crate::{case::Policy, load::Tuning};

/// What a proxy's adapter has to know to start it.
#[derive(Debug)]
pub struct Setup<'a> {
    /// A private folder, empty at each start.
    pub directory: &'a Path,
    /// The policy of the corpus to express.
    pub policy: Policy,
    /// Certificates: the root of the origins, and a CA to intercept with.
    pub certificates: &'a Files,
}

/// Knows how one proxy is configured and started.
pub trait Target: Send + Sync {
    /// Returns the words of `requires` that this proxy, so configured, has.
    fn features(&self) -> &[&'static str];

    /// Returns the name it writes in `Via`; `None` where it writes none and cannot see a loop.
    fn via(&self) -> Option<&str>;

    /// Whether it may remember what a name resolved to, so that it must be started again when a
    /// case changes a name. Saying yes without need only costs time.
    fn caches_names(&self) -> bool;

    /// Writes the configuration and returns the command.
    fn command(&self, setup: &Setup<'_>) -> io::Result<Command>;

    /// Writes the configuration under limits for a load case and returns the command; `None` where
    /// they cannot be set.
    fn tuned(&self, setup: &Setup<'_>, tuning: &Tuning) -> io::Result<Option<Command>>;

    /// Returns how it shows that it is ready.
    fn ready(&self) -> Ready;

    /// Returns where it writes its records below the private folder; `None` where it keeps none
    /// that can be read.
    fn records(&self) -> Option<&Path>;
}

/// egret, as this project's own suite starts it.
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
}

impl Target for Egret {
    fn features(&self) -> &[&'static str] {
        match self.interception {
            Interception::Off => &["sni-check"],
            Interception::On => &["sni-check", "tls-intercept"],
        }
    }

    fn via(&self) -> Option<&str> {
        Some("egret")
    }

    fn caches_names(&self) -> bool {
        true
    }

    fn command(&self, setup: &Setup<'_>) -> io::Result<Command> {
        let (hosts, suffixes) = match setup.policy {
            Policy::Default => (r#""api.example.com""#, r#"".example.org""#),
            Policy::SsrfOnly => (r#""*""#, ""),
        };
        let (tls, authority) = match self.interception {
            Interception::Off => ("tunnel", String::new()),
            Interception::On => {
                let certificate = setup.certificates.intercept_certificate.display();
                let key = setup.certificates.intercept_key.display();
                let line = format!(
                    "intercept_ca = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n"
                );
                ("intercept", line)
            }
        };
        let policy = format!(
            "version = 1\n\n[[rule]]\nid = \"allowed\"\neffect = \"allow\"\nhosts = [{hosts}]\n\
             suffixes = [{suffixes}]\nschemes = [\"http\", \"https\"]\nports = [80, 443]\n\
             tls = \"{tls}\"\n"
        );
        let directory = setup.directory.display();
        let roots = setup.certificates.roots.display();
        let config = format!(
            "version = 1\nstate_dir = \"{directory}/state\"\npolicy = \"policy.toml\"\n\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\nidentity = [\"anonymous\"]\n\n\
             [dns]\nservers = [\"{}\"]\n\n[tls]\nroots = \"{roots}\"\n{authority}",
            dns::ADDRESS
        );
        write(&setup.directory.join("policy.toml"), &policy)?;
        let file = setup.directory.join("egret.toml");
        write(&file, &config)?;
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("-c").arg(file).current_dir(setup.directory);
        Ok(command)
    }

    fn tuned(&self, setup: &Setup<'_>, tuning: &Tuning) -> io::Result<Option<Command>> {
        let command = self.command(setup)?;
        let file = setup.directory.join("egret.toml");
        let mut config = fs::read_to_string(&file)? + &tuning.config();
        if !tuning.workers.is_empty() {
            config = config.replace("[\"anonymous\"]", "[\"token\"]");
        }
        write(&file, &config)?;
        let file = setup.directory.join("policy.toml");
        write(&file, &(fs::read_to_string(&file)? + &tuning.policy()))?;
        Ok(Some(command))
    }

    fn ready(&self) -> Ready {
        Ready::Line
    }

    fn records(&self) -> Option<&Path> {
        Some(&self.records)
    }
}

/// Writes a file that others may not write: egret refuses one that they could.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
