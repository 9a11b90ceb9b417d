//! Cases of kind `config`: how the proxy is set up, and what is then tried.
//!
//! The setup is read by its keys. A key that is nearly one of them is a slip of the operator that
//! the case is about, and is written into the policy as it stands. Any other key, and any setup or
//! step without a player, makes the case undriven, with the reason.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Input;

/// What is set up, and what is then tried.
#[derive(Debug, Clone)]
pub struct Configured {
    /// How the proxy is set up.
    pub settings: Settings,
    /// What becomes of that while it runs, before anything is tried.
    pub change: Option<Change>,
    /// What is tried, in order.
    pub attempts: Vec<Attempt>,
}

/// How a proxy is set up, in words that every proxy's adapter can translate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Who may be reached.
    pub allow: Entries,
    /// Who may not, in spite of it.
    pub deny: Vec<String>,
    /// Whether denials are carried out.
    pub mode: Mode,
    /// Keys that mean nothing, for where the allowlist stands.
    pub unknown: BTreeMap<String, Value>,
    /// The permissions of the policy file, where they are odd.
    pub policy_mode: Option<u32>,
    /// Whom the listener serves.
    pub clients: Clients,
    /// Where it listens.
    pub listener: Listener,
}

/// An allowlist as an operator wrote it.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Entries {
    /// That of the default policy.
    #[default]
    Usual,
    /// The key is there without a value, or is missing.
    None,
    /// These: `.name` is what is below a name, all else is a host.
    List(Vec<String>),
}

/// Whether denials are carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are recorded only.
    Report,
}

/// Whom the listener serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clients {
    /// Everybody who reaches it.
    #[default]
    Anybody,
    /// Who proves an identity.
    Known,
}

/// Where the proxy listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listener {
    /// On loopback.
    #[default]
    Loopback,
    /// On every address of the machine too, where the proxy lets itself be opened so far.
    Everywhere,
    /// Where it listens when nobody says.
    Unsaid,
}

/// What becomes of the files of a running proxy, which is then told to read them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The policy allows these instead.
    To(Vec<String>),
    /// The policy is no policy any more.
    Broken,
    /// The policy is a link to `/dev/null`.
    Emptied,
    /// The policy allows everything, and others may write it.
    Widened,
    /// The policy stays; something else is set otherwise.
    Elsewhere,
}

/// One thing that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// A CONNECT to an authority.
    Connect(String),
    /// The same with a field of one's own.
    ConnectWith {
        /// The field, as it stands in the head.
        line: String,
        /// The authority.
        authority: String,
    },
    /// A GET in absolute form.
    Get(String),
    /// A connection to the proxy's port on an address that is not loopback.
    FromElsewhere,
    /// A CONNECT to a name that is not allowed, once a worker has written that into the policy.
    AfterEdit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    steps: Vec<String>,
}

/// Why a case in which files change while the proxy runs is not played.
pub(crate) const NO_CHANGE: &str = "this proxy is not known to read its files again";

/// The keys of a setup.
const KEYS: [&str; 9] = [
    "allow",
    "deny",
    "mode",
    "policy_mode",
    "client_auth",
    "listen",
    "allow_local_binding",
    "reload",
    "policy_path",
];

/// Reads a case; the error is something broken, undriven input is none.
pub(super) fn parse(input: Value, setup: Option<Value>) -> Result<Input, String> {
    let Steps { steps } = super::input::read(input)?;
    let undriven = |why: String| Ok(Input::Undriven(why));
    let (settings, change) = match settings(setup.unwrap_or(Value::Null)) {
        Ok(read) => read,
        Err(why) => return undriven(why),
    };
    let mut attempts = Vec::new();
    for step in &steps {
        match attempt(step) {
            Some(attempt) => attempts.push(attempt),
            None if step.contains("SIGHUP") => attempts.push(Attempt::AfterEdit),
            None => return undriven(format!("no driver for the step `{step}`")),
        }
    }
    if attempts.is_empty() {
        return undriven("nothing is tried".to_owned());
    }
    Ok(Input::Config(Box::new(Configured { settings, change, attempts })))
}

/// The settings and what becomes of them, or the word that nobody translates.
fn settings(setup: Value) -> Result<(Settings, Option<Change>), String> {
    let (mut settings, mut change) = (Settings::default(), None);
    let Value::Object(setup) = setup else { return Ok((settings, change)) };
    for (key, value) in setup {
        match (key.as_str(), value) {
            ("allow", Value::Null) => settings.allow = Entries::None,
            ("allow", Value::Array(list)) => settings.allow = Entries::List(texts(&list)),
            ("deny", Value::Array(list)) => settings.deny = texts(&list),
            ("mode", Value::String(mode)) if mode == "report" => settings.mode = Mode::Report,
            ("mode", Value::String(mode)) if mode == "enforce" => settings.mode = Mode::Enforce,
            ("policy_mode", Value::String(digits)) => {
                let mode = u32::from_str_radix(&digits, 8);
                settings.policy_mode = Some(mode.map_err(|_| format!("policy_mode `{digits}`"))?);
            }
            ("client_auth", Value::String(who)) if who == "required" => {
                settings.clients = Clients::Known;
            }
            ("listen", Value::String(place)) if place == "default" => {
                settings.listener = Listener::Unsaid;
            }
            ("allow_local_binding", Value::Bool(true)) => settings.listener = Listener::Everywhere,
            ("reload", Value::String(what)) if what == "log level only" => {
                change = Some(Change::Elsewhere);
            }
            ("reload", Value::String(what)) if what == "a policy that others may write" => {
                change = Some(Change::Widened);
            }
            ("policy_path", Value::String(to)) if to == "-> /dev/null" => {
                change = Some(Change::Emptied);
            }
            (known, value) if KEYS.contains(&known) => {
                return Err(format!("no driver for the setup `{known}` = {value}"));
            }
            (key, value)
                if KEYS.iter().any(|known| strsim::damerau_levenshtein(known, key) < 2) =>
            {
                settings.unknown.insert(key.to_owned(), value);
            }
            (key, _) => return Err(format!("no driver for the setup `{key}`")),
        }
    }
    if settings.allow == Entries::Usual && !settings.unknown.is_empty() {
        settings.allow = Entries::None;
    }
    Ok((settings, change))
}

/// Entries as texts; what is none stands there as it was written.
fn texts(list: &[Value]) -> Vec<String> {
    list.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect()
}

/// A step in words, of which the last ones say what is tried.
fn attempt(step: &str) -> Option<Attempt> {
    let after = |word: &str| {
        let (_, rest) = step.split_once(word)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    if step.starts_with("Proxy-Authorization: ")
        && let Some((line, request)) = step.rsplit_once(": ")
    {
        let authority = request.strip_prefix("CONNECT ")?.to_owned();
        return Some(Attempt::ConnectWith { line: line.to_owned(), authority });
    }
    after("CONNECT ")
        .map(Attempt::Connect)
        .or_else(|| after("GET ").map(Attempt::Get))
        .or_else(|| step.contains("another interface").then_some(Attempt::FromElsewhere))
}

impl Configured {
    /// Whether the files of the proxy are not those it was started on.
    pub(crate) fn changes(&self) -> bool {
        self.change.is_some() || self.attempts.contains(&Attempt::AfterEdit)
    }
}

impl Settings {
    /// Whether the allowlist, read by its letters, covers a name; where denials are only recorded,
    /// every name may be looked up.
    pub fn covers(&self, name: &str) -> bool {
        if self.mode == Mode::Report {
            return true;
        }
        match &self.allow {
            Entries::Usual => name == "api.example.com" || name.ends_with(".example.org"),
            Entries::None => false,
            Entries::List(list) => list.iter().any(|entry| {
                let entry = entry.trim();
                entry == name || entry.len() > 1 && entry.starts_with('.') && name.ends_with(entry)
            }),
        }
    }
}
