//! What can be seen of a running egret from outside: figures for Prometheus, and whether it is
//! alive and ready.
//!
//! What the data path counts is in `egret_proxy::Metrics`; here is what only the process knows:
//! which policy is in force, which egret this is, what it takes of the machine. All of it is
//! printed under the prefix `egret_`; `dist/METRICS.md` is the list.

use std::{fmt, sync::Arc};

use egret_policy::Revision;
use egret_proxy::Metrics;
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Registry,
};
use serde::Serialize;

pub(crate) use self::{
    endpoint::Endpoint,
    reloads::{Reloaded, Reloads},
};
use self::{process::Process, text::Format};
use crate::ready::{Readiness, Ready};

mod endpoint;
mod process;
mod reloads;
mod text;

/// All that can be asked for.
#[derive(Debug)]
pub(crate) struct Observed {
    registry: Registry,
    reloads: Reloads,
    ready: Ready,
}

impl Observed {
    pub(crate) fn new(path: Arc<Metrics>, reloads: Reloads, ready: Ready) -> Self {
        let mut registry = Registry::with_prefix("egret");
        registry.register_collector(Box::new(path));
        registry.register_collector(Box::new(reloads.clone()));
        registry.register_collector(Box::new(ready.clone()));
        registry.register_collector(Box::new(Process::begin()));
        Self { registry, reloads, ready }
    }

    /// Returns every figure as it is now.
    fn figures(&self, format: Format) -> String {
        text::print(&self.registry, format)
    }

    /// Returns whether new connections should come, and under which policy they would be judged.
    fn standing(&self) -> Standing {
        let status = match self.ready.now() {
            Readiness::Starting => Status::Starting,
            Readiness::Serving => Status::Serving,
            Readiness::Draining => Status::Draining,
        };
        Standing { status, policy: self.reloads.revision() }
    }
}

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
struct Standing {
    status: Status,
    #[serde(serialize_with = "as_text")]
    policy: Revision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Starting,
    Serving,
    Draining,
}

impl Collector for Ready {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Which of its states the process is in: that one is 1";
        let mut each = encoder.encode_descriptor("state", help, None, MetricType::Gauge)?;
        let states = [
            ("starting", Readiness::Starting),
            ("serving", Readiness::Serving),
            ("draining", Readiness::Draining),
        ];
        for (state, readiness) in states {
            let here = u64::from(self.now() == readiness);
            each.encode_family(&[("state", state)])?.encode_gauge(&here)?;
        }
        Ok(())
    }
}

fn as_text<S: serde::Serializer>(revision: &Revision, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(revision)
}
