//! A proxy that a file of its own describes: how it is configured, started and what it can do.
//!
//! Placeholders in braces stand for what a cell decides; an unknown one in the command is an error,
//! since the proxy would be started with it. What the file does not claim, the proxy does not have:
//! no records are read, and settings beyond the two policies of the corpus are not translated.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use egret_testkit::{dns, proxy::Ready};
use rustix::process::Signal;
use serde::Deserialize;

use super::{Setup, Target};
use crate::{
    case::{
        Policy,
        config::{Change, Settings},
    },
    load::Tuning,
};

/// A proxy by its description.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What it is called; `NAME_BIN` in the environment names another program for it.
    pub name: String,
    /// The program and its arguments, with placeholders.
    command: Vec<String>,
    /// The name it writes in `Via`.
    via: Option<String>,
    /// The words of `requires` that it has.
    #[serde(default)]
    features: Vec<String>,
    /// Whether it may remember what a name resolved to. If in doubt, yes.
    #[serde(default = "yes")]
    caches_names: bool,
    /// Lines with which an origin would forge a verdict of it.
    #[serde(default)]
    forgeries: Vec<String>,
    /// For how many seconds it keeps a tunnel in which nothing moves.
    idle_timeout_s: Option<u64>,
    /// It runs as another user, who has to write into its folder.
    #[serde(default)]
    open_folder: bool,
    /// The folder for which `{policy-dir}` stands; the one of the description.
    #[serde(skip)]
    folder: PathBuf,
    #[serde(default, rename = "file")]
    files: Vec<File>,
}

/// A file that is written before the proxy starts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    /// Only under this policy.
    policy: Option<Policy>,
    text: String,
}

fn yes() -> bool {
    true
}

/// A description that cannot be used.
#[derive(Debug)]
pub struct Unusable(String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

impl Template {
    /// Parses a description; `folder` is what `{policy-dir}` stands for.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Unusable> {
        let parsed: Self = toml::from_str(text).map_err(|error| Unusable(error.to_string()))?;
        Self { folder: folder.to_owned(), ..parsed }.checked()
    }

    /// Returns the description that is built in under a name.
    pub fn known(name: &str) -> Option<Result<Self, Unusable>> {
        let (_, text) = KNOWN.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text, Path::new(".")))
    }

    /// Returns a proxy that one command line starts, as `{config}` with the text of one file.
    pub fn of_command(line: &str, config: Option<&str>, folder: &Path) -> Result<Self, Unusable> {
        let file =
            |text: &str| File { name: CONFIG.to_owned(), policy: None, text: text.to_owned() };
        Self {
            name: "command".to_owned(),
            command: line.split_whitespace().map(str::to_owned).collect(),
            via: None,
            features: Vec::new(),
            caches_names: true,
            forgeries: Vec::new(),
            idle_timeout_s: None,
            open_folder: false,
            folder: folder.to_owned(),
            files: config.map(file).into_iter().collect(),
        }
        .checked()
    }

    fn checked(self) -> Result<Self, Unusable> {
        if self.command.is_empty() {
            return Err(Unusable("`command` is empty".to_owned()));
        }
        for word in &self.command {
            if let Some(name) = placeholders(word).find(|name| !PLACEHOLDERS.contains(name)) {
                let known = PLACEHOLDERS.join("}, {");
                return Err(Unusable(format!(
                    "unknown placeholder {{{name}}}; known: {{{known}}}"
                )));
            }
        }
        for file in &self.files {
            if file.name.contains('/') || file.name.starts_with('.') || file.name.is_empty() {
                return Err(Unusable(format!("`{}` is not the name of a file", file.name)));
            }
        }
        Ok(self)
    }

    fn filled(&self, text: &str, setup: &Setup<'_>) -> String {
        let Setup { directory, policy, settings: _, certificates } = setup;
        let value = |name: &str| match name {
            "directory" => Some(directory.display().to_string()),
            "config" => Some(directory.join(CONFIG).display().to_string()),
            "port" => Some(PORT.to_string()),
            "dns" => Some(dns::ADDRESS.ip().to_string()),
            "dns-port" => Some(dns::ADDRESS.port().to_string()),
            "roots" => Some(certificates.roots.display().to_string()),
            "ca-certificate" => Some(certificates.intercept_certificate.display().to_string()),
            "ca-key" => Some(certificates.intercept_key.display().to_string()),
            "policy" => Some(policy.to_string()),
            "policy-dir" => Some(self.folder.display().to_string()),
            _ => None,
        };
        PLACEHOLDERS.iter().fold(text.to_owned(), |text, name| {
            value(name).map_or(text.clone(), |value| text.replace(&format!("{{{name}}}"), &value))
        })
    }

    fn program(&self) -> String {
        let variable = format!("{}_BIN", self.name.to_uppercase().replace('-', "_"));
        env::var(variable).unwrap_or_else(|_| self.command[0].clone())
    }
}

/// The words in braces that look like placeholders.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

impl Target for Template {
    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|one| one == feature)
    }

    fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }

    fn expresses(&self, settings: &Settings) -> bool {
        *settings == Settings::default()
    }

    fn forgeries(&self) -> Vec<&str> {
        self.forgeries.iter().map(String::as_str).collect()
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout_s.map(Duration::from_secs)
    }

    fn caches_names(&self) -> bool {
        self.caches_names
    }

    fn command(&self, setup: &Setup<'_>) -> io::Result<Command> {
        if self.open_folder {
            use std::os::unix::fs::PermissionsExt;
            for folder in setup.directory.ancestors().take(2) {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
            }
        }
        for file in &self.files {
            if file.policy.is_none_or(|policy| policy == setup.policy) {
                fs::write(setup.directory.join(&file.name), self.filled(&file.text, setup))?;
            }
        }
        let mut command = Command::new(self.program());
        command.args(self.command[1..].iter().map(|word| self.filled(word, setup)));
        command.current_dir(setup.directory);
        Ok(command)
    }

    fn tuned(&self, _setup: &Setup<'_>, _tuning: &Tuning) -> io::Result<Option<Command>> {
        Ok(None)
    }

    fn change(&self, _setup: &Setup<'_>, _change: &Change) -> io::Result<Option<Signal>> {
        Ok(None)
    }

    fn metrics(&self, _directory: &Path) -> Option<SocketAddr> {
        None
    }

    fn ready(&self) -> Ready {
        Ready::Accepts(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT))
    }

    fn records(&self) -> Option<&Path> {
        None
    }
}

/// Where the proxy listens; nobody else is there, in a namespace of its own.
const PORT: u16 = 3128;

/// The name of the file for which `{config}` stands.
const CONFIG: &str = "config";

const PLACEHOLDERS: [&str; 10] = [
    "directory",
    "config",
    "port",
    "dns",
    "dns-port",
    "roots",
    "ca-certificate",
    "ca-key",
    "policy",
    "policy-dir",
];

/// The descriptions that are built in.
const KNOWN: &[(&str, &str)] = &[
    ("squid", include_str!("../../targets/squid.toml")),
    ("tinyproxy", include_str!("../../targets/tinyproxy.toml")),
];

/// The names of the descriptions that are built in.
pub fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_that_is_built_in_is_usable_and_has_both_policies() {
        for name in known() {
            let template = Template::known(name).expect("known").expect("usable");
            assert_eq!(template.name, name);
            for policy in [Policy::Default, Policy::SsrfOnly] {
                let files = template.files.iter();
                let fits = |file: &&File| file.policy.is_none_or(|only| only == policy);
                assert!(files.filter(fits).count() >= 1, "{name} {policy}");
            }
        }
    }

    #[test]
    fn an_unknown_placeholder_or_key_is_refused() {
        let of = |line: &str| Template::of_command(line, None, Path::new("."));
        assert!(of("proxy --port {port}").is_ok());
        assert!(of("proxy --port {prot}").expect_err("unknown").to_string().contains("{prot}"));
        assert!(of("").is_err());
        let text = "name = \"x\"\ncommand = [\"x\"]\ncolour = \"red\"\n";
        assert!(Template::parse(text, Path::new(".")).is_err());
        let above = "name = \"x\"\ncommand = [\"x\"]\n[[file]]\nname = \"../x\"\ntext = \"\"\n";
        assert!(Template::parse(above, Path::new(".")).is_err());
    }
}
