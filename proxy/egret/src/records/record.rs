//! One record as it is read: every field may be absent, and what is not known is ignored, so that
//! records of other releases can be read.

use std::{collections::BTreeMap, net::IpAddr};

use clap::ValueEnum;
use egret_policy::{Labels, Timestamp, Worker, WorkerId};
use serde::{Deserialize, Serialize};

/// What a line says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Judged>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_up: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_down: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) closed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
}

/// A recorded verdict.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Judged {
    Allow,
    WouldDeny,
    Deny,
}

impl Judged {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::WouldDeny => "would_deny",
            Self::Deny => "deny",
        }
    }
}

impl Record {
    /// Reads a line; nothing if it is no record.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(line).ok()?;
        (!record.event.is_empty()).then_some(record)
    }

    pub(crate) fn is_decision(&self) -> bool {
        self.event == "decision"
    }

    /// Whether something was denied, or would have been if the policy were enforced.
    pub(crate) fn is_denial(&self) -> bool {
        let denied = self.verdict.is_some_and(|verdict| verdict != Judged::Allow);
        self.is_decision() && denied || self.event == SUMMED
    }

    /// Whether this is the one record of many denials.
    pub(crate) fn is_sum(&self) -> bool {
        self.event == SUMMED
    }

    /// Whether it is about a worker; about anybody where none is named.
    pub(crate) fn is_of(&self, worker: Option<&WorkerId>) -> bool {
        worker.is_none_or(|id| self.worker.as_deref() == Some(id.as_str()))
    }

    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// The worker as policy sees it; nothing where nobody was identified.
    pub(crate) fn worker(&self) -> Option<Worker> {
        let id = WorkerId::parse(self.worker.as_deref()?).ok()?;
        Some(Worker { id, labels: Labels::from_iter(self.labels.clone()) })
    }

    /// What was asked for, for people: `host:port` with the path where there is one.
    pub(crate) fn target(&self) -> String {
        let mut target = self.host.clone().unwrap_or_default();
        if let Some(port) = self.port {
            target += &format!(":{port}");
        }
        target + self.path.as_deref().unwrap_or_default()
    }
}

const SUMMED: &str = "audit.denials";
