//! What can be seen of a running egret from outside: figures for Prometheus, and whether it is
//! alive and ready.
//!
//! What the data path counts is in `egret_proxy::Metrics`; here is what only the process knows:
//! which policy is in force, which egret this is, what it takes of the machine. All of it is
//! printed under the prefix `egret_`; `dist/METRICS.md` is the list.

use std::{fmt, sync::Arc};

use egret_policy::Revision;
use egret_proxy::{Metrics, OnFailure, Recorder};
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
pub(crate) struct Observed {
    registry: Registry,
    recorder: Recorder,
    reloads: Reloads,
    ready: Ready,
    on_failure: OnFailure,
}

impl Observed {
    pub(crate) fn new(
        path: Arc<Metrics>,
        recorder: Recorder,
        reloads: Reloads,
        ready: Ready,
        on_failure: OnFailure,
    ) -> Self {
        let mut registry = Registry::with_prefix("egret");
        registry.register_collector(Box::new(path));
        registry.register_collector(Box::new(recorder.metrics()));
        registry.register_collector(Box::new(reloads.clone()));
        registry.register_collector(Box::new(ready.clone()));
        registry.register_collector(Box::new(Process::begin()));
        Self { registry, recorder, reloads, ready, on_failure }
    }

    /// Returns every figure as it is now.
    fn figures(&self, format: Format) -> String {
        text::print(&self.registry, format)
    }

    /// Returns whether new connections should come, and under which policy they would be judged.
    fn standing(&self) -> Standing {
        let status = match self.ready.now() {
            Readiness::Starting => Status::Starting,
            Readiness::Serving => match self.on_failure {
                OnFailure::Refuse if !self.recorder.is_writing() => Status::Records,
                // Without records it serves all the same: that is what the operator has asked for.
                OnFailure::Refuse | OnFailure::Continue => Status::Serving,
            },
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
    /// Exchanges cannot be recorded, so they are refused.
    Records,
}

impl Collector for Ready {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Which of its states the process is in: that one is 1";
        let mut each = encoder.encode_descriptor("state", help, None, MetricType::Gauge)?;
        for readiness in Readiness::ALL {
            let here = u64::from(self.now() == readiness);
            each.encode_family(&[("state", readiness.word())])?.encode_gauge(&here)?;
        }
        Ok(())
    }
}

fn as_text<S: serde::Serializer>(revision: &Revision, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(revision)
}

#[cfg(test)]
mod tests {
    use egret_policy::Policy;
    use egret_proxy::{HeadKey, RecordSettings};

    use super::*;
    use crate::serve::SystemClock;

    fn check(on_failure: OnFailure, says_without_records: &str) {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = RecordSettings::in_directory(&folder.path().join("audit"));
        let key = HeadKey::generate().unwrap();
        let (recorder, flush) = Recorder::open(settings, key, Arc::new(SystemClock)).unwrap();
        let policy = Policy::load("version = 1").policy.unwrap();
        let (ready, reloads) = (Ready::starting(), Reloads::begin(&policy));
        let observed = Observed::new(Arc::default(), recorder, reloads, ready.clone(), on_failure);
        let says = |status| {
            let text = serde_json::to_string(&observed.standing()).unwrap();
            let expected =
                format!("{{\"status\":\"{status}\",\"policy\":\"{}\"}}", policy.revision());
            assert_eq!(text, expected);
        };
        says("starting");
        ready.advance(Readiness::Serving);
        says("serving");
        // A writer that has ended writes nothing, as one whose disk is full.
        flush.wait().unwrap();
        says(says_without_records);
        ready.advance(Readiness::Draining);
        says("draining");
    }

    #[test]
    fn ready_is_who_serves_and_can_record() {
        check(OnFailure::Refuse, "records");
    }

    #[test]
    fn who_goes_on_without_records_is_ready() {
        check(OnFailure::Continue, "serving");
    }
}
