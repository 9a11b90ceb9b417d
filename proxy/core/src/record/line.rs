//! The fields of a record. Their names are public interface; an absent fact is an absent field.
//!
//! `seq` goes before and `prev` and `hash` after what is here: the chain knows them, and only when
//! the line is written.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Serialize;

use super::{ClosedBy, event::Event};

/// One record, before it has its place in the chain.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    pub(super) time: String,
    pub(super) event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) addresses: Option<Vec<IpAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pinned: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sni: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_up: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_down: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decide_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dns_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) closed_by: Option<ClosedBy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    /// Lines after the newest signed head that a start has found, and that it goes on after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unsigned: Option<u64>,
}

impl Line {
    /// Returns about how many bytes it takes in memory: all that is long is a worker's choice.
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.method, &self.host, &self.path, &self.sni];
        size_of::<Self>()
            + texts.iter().map(|text| text.as_ref().map_or(0, String::len)).sum::<usize>()
    }
}

/// A signed head ([`Event::Head`]).
#[derive(Debug, Serialize)]
pub(super) struct HeadLine<'h> {
    pub(super) time: &'h str,
    pub(super) event: Event,
    pub(super) key: &'h str,
    pub(super) signature: &'h str,
}

/// The loss of a segment ([`Event::Missing`]).
#[derive(Debug, Serialize)]
pub(super) struct MissingLine<'m> {
    pub(super) time: &'m str,
    pub(super) event: Event,
    pub(super) segment: &'m str,
}

/// The removal of a segment ([`Event::Removed`]).
#[derive(Debug, Serialize)]
pub(super) struct RemovedLine<'r> {
    pub(super) time: &'r str,
    pub(super) event: Event,
    pub(super) segment: &'r str,
    /// `seq` of the line that is the first now.
    pub(super) begins_at: u64,
    /// `prev` of that line.
    pub(super) begins_after: &'r str,
    pub(super) key: &'r str,
    pub(super) signature: &'r str,
}
