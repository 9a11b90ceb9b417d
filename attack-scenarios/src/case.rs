//! The cases of the corpus: JSON Lines, one case a line, as the README beside them describes.
//!
//! Parsing is strict about fields. Input that no driver plays is kept as [`Input::Undriven`] with
//! the reason, so that it shows up as unchecked and is never taken for passed.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::Value;

pub use self::{
    config::Configured,
    input::{Input, Response, TlsInput},
};
use egret_testkit::dns::{Zone, script::Addresses};

pub mod config;
pub(crate) mod input;
#[cfg(test)]
mod tests;

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Stable and unique.
    pub id: String,
    /// The family, which names the file.
    pub family: String,
    /// A short label; empty where there is none.
    pub name: String,
    /// The word for how it is replayed.
    pub kind: String,
    /// The policies to run under.
    pub policies: Vec<Policy>,
    /// Where it is played.
    pub channels: Vec<ChannelName>,
    /// Features without which it does not apply.
    pub requires: Vec<String>,
    /// What is sent.
    pub input: Input,
    /// What names resolve to, in place of the default zone.
    pub resolver: Zone,
    /// The verdict that passes.
    pub expected: Expected,
    /// Other outcomes that pass softly.
    pub also_ok: Vec<String>,
    /// Statuses that count as the refusal beside 400.
    pub status_ok: Vec<u16>,
    /// Side conditions.
    pub must: Vec<String>,
    /// What a failure would mean.
    pub severity: Severity,
    /// Why the verdict is right.
    pub why: String,
}

/// A test policy of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// `api.example.com`, names below `example.org`, http and https on 80 and 443.
    Default,
    /// Any name; only the address guard stands.
    SsrfOnly,
}

/// Where a case is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    /// To the cleartext proxy port, as written.
    Plain,
    /// Inside an intercepted tunnel to `api.example.com`.
    Mitm,
}

/// The verdict a case asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Let through.
    Allow,
    /// Refused, best with a 403.
    Deny,
    /// 400, and the connection closed.
    #[serde(rename = "reject-400")]
    Reject400,
    /// Refused or 400.
    Either,
}

/// What a failure would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A bypass or a leaked secret.
    Critical,
    /// Likely one in combination.
    High,
    /// A weakness.
    Medium,
    /// A nuisance.
    Low,
}

macro_rules! words {
    ($($type:ident: $($variant:ident = $word:literal),+;)+) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    )+};
}

words! {
    Policy: Default = "default", SsrfOnly = "ssrf-only";
    ChannelName: Plain = "plain", Mitm = "mitm";
    Expected: Allow = "allow", Deny = "deny", Reject400 = "reject-400", Either = "either";
    Severity: Critical = "critical", High = "high", Medium = "medium", Low = "low";
}

/// A line that is not a case.
#[derive(Debug)]
pub struct Malformed {
    /// The start of the line.
    pub line: String,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed case {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Malformed {}

/// The fields as they stand in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    family: String,
    name: Option<String>,
    kind: String,
    policy: Option<Vec<Policy>>,
    channel: Option<Vec<ChannelName>>,
    #[serde(default)]
    requires: Vec<String>,
    input: Value,
    #[serde(default)]
    resolver: BTreeMap<String, Addresses>,
    setup: Option<Value>,
    expected: Expected,
    #[serde(default)]
    also_ok: Vec<String>,
    #[serde(default)]
    status_ok: Vec<u16>,
    #[serde(default)]
    must: Vec<String>,
    severity: Severity,
    why: String,
    #[serde(rename = "source")]
    _source: String,
}

impl Case {
    /// Parses one line. Cases speak of the proxy's own address as `PROXY_LISTEN_IP`.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let text = line.replace("PROXY_LISTEN_IP", "127.0.0.1");
        let malformed =
            |why: String| Malformed { line: line.chars().take(60).collect::<String>(), why };
        let Line {
            id,
            family,
            name,
            kind,
            policy,
            channel,
            requires,
            input,
            resolver,
            setup,
            expected,
            also_ok,
            status_ok,
            must,
            severity,
            why,
            _source: _,
        } = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let setup = setup.filter(|setup| setup.as_object().is_none_or(|keys| !keys.is_empty()));
        let input = match (kind.as_str(), setup) {
            ("config", setup) => config::parse(input, setup).map_err(malformed)?,
            (_, Some(_)) => Input::Undriven(format!("no driver for the setup of kind {kind}")),
            (_, None) => Input::parse(&kind, input).map_err(malformed)?,
        };
        Ok(Self {
            id,
            family,
            name: name.unwrap_or_default(),
            kind,
            policies: policy.unwrap_or_else(|| vec![Policy::Default]),
            channels: channel.unwrap_or_else(|| vec![ChannelName::Plain]),
            requires,
            input,
            resolver: Zone::new(resolver),
            expected,
            also_ok,
            status_ok,
            must,
            severity,
            why,
        })
    }

    /// Whether a driver plays this case.
    pub fn is_driven(&self) -> bool {
        !matches!(self.input, Input::Undriven(_))
    }
}

/// Reads every case of a folder, file by file in order of their names.
pub fn load(directory: &Path) -> io::Result<Vec<Case>> {
    let mut files: Vec<_> =
        fs::read_dir(directory)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        for line in fs::read_to_string(&path)?.lines().filter(|line| !line.trim().is_empty()) {
            let case = Case::parse(line).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?;
            cases.push(case);
        }
    }
    Ok(cases)
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|error| format!("bytes_b64: {error}"))
}
