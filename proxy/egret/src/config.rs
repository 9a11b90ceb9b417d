//! `egret.toml`: how egret runs.
//!
//! The text is read in full and every problem is reported with its place and fix; only a text
//! without any becomes a [`Config`]. Keys of parts that are not built are unknown keys. What the
//! file means together (who may listen where, who can prove what) is checked in [`checks`].

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
};

use egret_policy::source::{Document, Problem, Report, Span, Table};
use egret_proxy::{
    ConnectionLimits, DnsSettings, IdentityKind, KnownWorker, ListenAddress, ListenerSettings,
    RecordSettings, Settings,
};

use crate::{
    diagnostic::{Severity, print_problems},
    environment::Environment,
    failure::Failure,
    files::{self, SourceText},
};

mod audit;
mod changed;
mod checks;
mod dns;
mod limits;
mod listener;
mod metrics;
mod tls;
mod worker;

/// Everything that `serve` needs to know, with all paths resolved.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) origin: Origin,
    pub(crate) policy: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) audit: RecordSettings,
    /// Where metrics are answered for, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) settings: Settings,
    pub(crate) workers: Vec<KnownWorker>,
    /// The file of trusted roots, if one is named.
    pub(crate) roots: Option<PathBuf>,
}

impl Config {
    /// Where egret listens, and the name servers that it asks, as far as this says so: never a
    /// worker's target.
    pub(crate) fn own_endpoints(&self) -> Vec<SocketAddr> {
        let Settings { listeners, dns, own, .. } = &self.settings;
        let listening = listeners.iter().filter_map(|listener| listener.address.tcp());
        let asked = dns.servers.iter().flatten().map(|server| server.address);
        listening.chain(self.metrics).chain(asked).chain(own.iter().copied()).collect()
    }
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The text as it was read.
    File(SourceText),
    Embedded,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(source) => source.path.display().fmt(f),
            Self::Embedded => f.write_str("embedded defaults"),
        }
    }
}

impl Origin {
    /// Returns the file's whole name, for people who may not know where they stand.
    pub(crate) fn absolute(&self) -> String {
        match self {
            Self::File(SourceText { path, .. }) => {
                path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            Self::Embedded => self.to_string(),
        }
    }

    /// Whether another file would be found from elsewhere.
    pub(crate) fn is_of_here(&self) -> bool {
        match self {
            Self::File(source) => source.path.is_relative(),
            Self::Embedded => false,
        }
    }

    /// Whether nobody but root has written it.
    pub(crate) fn is_roots(&self) -> bool {
        match self {
            Self::File(source) => source
                .path
                .metadata()
                .is_ok_and(|file| file.uid() == 0 && !files::is_writable_by_others(file.mode())),
            Self::Embedded => false,
        }
    }
}

/// What reading a configuration gave: a configuration only if there are no problems.
pub(crate) struct Loaded {
    pub(crate) config: Option<Config>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

pub(crate) use self::changed::{Changed, changed};

/// Finds the configuration file: the one that is named, one here, the user's, or none.
///
/// A file that is there and cannot be read is found, so that reading it fails; nothing falls
/// through to the defaults.
pub(crate) fn find(named: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let here = PathBuf::from(FILE);
    let users = environment.config_home.as_ref().map(|home| home.join(FILE));
    [Some(here), users].into_iter().flatten().find(|path| files::is_there(path))
}

/// Finds and reads the configuration to run by; every problem of it has been printed on failure.
pub(crate) fn for_serving(
    named: Option<&Path>,
    environment: &Environment,
) -> Result<Config, Failure> {
    match find(named, environment) {
        Some(path) => {
            let config = complete(&files::read_guarded(&path)?, environment)?;
            // Whoever writes it can pass for every name server.
            config.roots.as_deref().map_or(Ok(()), files::check_guard)?;
            Ok(config)
        }
        None => embedded(environment),
    }
}

/// Finds and reads the configuration to judge by, the one that is in force where this is asked;
/// every problem of it has been printed on failure.
pub(crate) fn to_judge_by(
    named: Option<&Path>,
    environment: &Environment,
) -> Result<Config, Failure> {
    match find(named, environment) {
        Some(path) => read_to_judge_by(&path, environment),
        None => embedded(environment),
    }
}

/// Reads a configuration to judge by; every problem of it has been printed on failure.
pub(crate) fn read_to_judge_by(path: &Path, environment: &Environment) -> Result<Config, Failure> {
    complete(&files::read(path)?, environment)
}

/// Takes a text only whole; every problem of it has been printed on failure.
pub(crate) fn complete(source: &SourceText, environment: &Environment) -> Result<Config, Failure> {
    let Loaded { config, problems, warnings } = load(source, environment);
    print_problems(Severity::Warning, source, &warnings);
    print_problems(Severity::Error, source, &problems);
    config.ok_or_else(|| Failure::Invalid { file: source.name(), problems: problems.len() })
}

/// The configuration of somebody who has none.
pub(crate) fn embedded(environment: &Environment) -> Result<Config, Failure> {
    let state = environment
        .state_home
        .clone()
        .ok_or(Failure::NoHome { what: "the state", variable: "XDG_STATE_HOME" })?;
    Ok(Config {
        origin: Origin::Embedded,
        policy: users_policy(environment)?,
        audit: RecordSettings::in_directory(&state.join(AUDIT)),
        metrics: None,
        state,
        settings: Settings {
            listeners: vec![ListenerSettings {
                address: ListenAddress::Tcp(DEFAULT_ADDRESS.into()),
                identity: vec![IdentityKind::Anonymous],
            }],
            dns: DnsSettings::default(),
            limits: ConnectionLimits::default(),
            own: Vec::new(),
        },
        workers: Vec::new(),
        roots: None,
    })
}

/// Where the policy is when there is no configuration.
pub(crate) fn users_policy(environment: &Environment) -> Result<PathBuf, Failure> {
    let home = environment.config_home.as_ref();
    home.map(|home| home.join(POLICY))
        .ok_or(Failure::NoHome { what: "the policy", variable: "XDG_CONFIG_HOME" })
}

/// Reads a configuration.
pub(crate) fn load(source: &SourceText, environment: &Environment) -> Loaded {
    let document = Document::parse(&source.text);
    let config = read(&document.root(), source, environment);
    let (problems, warnings) = document.finish();
    Loaded { config: config.filter(|_| problems.is_empty()), problems, warnings }
}

/// Reads every table, whatever is wrong with the others, and then puts them together.
fn read(root: &Table<'_>, source: &SourceText, environment: &Environment) -> Option<Config> {
    let folder = files::folder(&source.path);
    version(root);
    let state = path(root, "state_dir").map(|given| folder.join(given));
    let state = state.or_else(|| default_state(root, environment));
    let policy = path(root, "policy").unwrap_or_else(|| PathBuf::from(POLICY));
    let listeners = root.require("listener", "add `[[listener]]` with `address` and `identity`");
    let listeners = listeners.map(|listeners| listener::read(&listeners)).unwrap_or_default();
    let workers = root.find("worker").map(|workers| worker::read(&workers)).unwrap_or_default();
    let dns = root.find("dns").and_then(|value| value.table("[dns]"));
    let mut dns = dns.map(|table| dns::read(&table)).unwrap_or_default();
    let tls = root.find("tls").and_then(|value| value.table("[tls]"));
    let roots = tls.map(|table| tls::read(&table, &folder)).unwrap_or_default();
    let trusted = roots.file.clone();
    if dns.servers.iter().flatten().any(|server| server.transport.is_encrypted()) {
        dns.roots = roots.load(root);
    }
    let limits = root.find("limits").and_then(|value| value.table("[limits]"));
    let limits = limits.map(|table| limits::read(&table)).unwrap_or_default();
    let audit = root.find("audit").and_then(|value| value.table("[audit]"));
    let audit = audit::read(audit.as_ref(), state.as_deref().unwrap_or(Path::new("")));
    let metrics = root.find("metrics").and_then(|value| value.table("[metrics]"));
    let metrics = metrics.and_then(|table| metrics::read(&table));

    checks::together(root.report(), &listeners, &workers, metrics.as_ref());
    let state = state?;
    Some(Config {
        origin: Origin::File(source.clone()),
        policy: folder.join(policy),
        audit,
        metrics: metrics.map(|at| at.value),
        state,
        settings: Settings {
            listeners: listeners.into_iter().filter_map(listener::Listener::built).collect(),
            dns,
            limits,
            own: Vec::new(),
        },
        workers: workers.into_iter().filter_map(worker::Known::built).collect(),
        roots: trusted,
    })
}

fn version(root: &Table<'_>) {
    let Some(value) = root.require("version", "write `version = 1` at the top") else { return };
    let Some(version) = value.integer(0..=u64::MAX) else { return };
    if version.value != VERSION {
        value.problem(
            format!("this egret reads version {VERSION} of the file, not {}", version.value),
            format!("write `version = {VERSION}`"),
        );
    }
}

fn default_state(root: &Table<'_>, environment: &Environment) -> Option<PathBuf> {
    if environment.state_home.is_none() && root.key_span("state_dir").is_none() {
        root.report().missing(
            root.span(),
            "the file has no `state_dir`, and neither XDG_STATE_HOME nor HOME is set",
            "write `state_dir = \"state\"`",
        );
    }
    environment.state_home.clone()
}

/// Reads a path; an empty one is a slip, and would name a folder.
fn path(table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
    let value = table.find(key)?;
    let text = value.text()?;
    if text.value.is_empty() || text.value.contains('\0') {
        value.problem(format!("{} is not a path", value.name()), "write the name of a file");
        return None;
    }
    Some(PathBuf::from(text.value))
}

/// Reports the second of two that must differ, and names the first.
fn unique<'k, K: Ord>(
    report: &Report<'_>,
    what: &str,
    fix: &str,
    keys: impl Iterator<Item = (K, &'k Span)>,
) {
    let mut seen = BTreeMap::new();
    for (key, span) in keys {
        if let Some(first) = seen.get(&key) {
            let (line, _) = report.position(*first);
            report.problem(span, format!("{what} is in line {line} already"), fix);
        } else {
            seen.insert(key, span.start);
        }
    }
}

/// The id of whoever a listener admits without a proof.
pub(crate) const ANONYMOUS: &str = "anonymous";

const FILE: &str = "egret.toml";
const POLICY: &str = "policy.toml";
const AUDIT: &str = "audit";
const VERSION: u64 = 1;
const DEFAULT_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 3128);

#[cfg(test)]
mod tests;
