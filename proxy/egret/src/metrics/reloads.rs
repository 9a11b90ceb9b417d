//! Which policy is in force, and how attempts to replace it ended.
//!
//! There is one series for the policy in force and none for those before it, so a file that is
//! changed every minute adds nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use egret_policy::{Policy, Revision};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// How an attempt to put another policy in force ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reloaded<'a> {
    /// This one is in force now.
    Replaced(&'a Policy),
    /// The one before stays.
    Refused,
}

/// What is counted of it; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reloads(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    in_force: ArcSwap<InForce>,
    replaced: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct InForce {
    revision: Revision,
    rules: usize,
    since: f64,
}

impl Reloads {
    /// Begins with the policy that was loaded at the start.
    pub(crate) fn begin(policy: &Policy) -> Self {
        Self(Arc::new(Counts {
            in_force: ArcSwap::from_pointee(InForce::now(policy)),
            replaced: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// Counts an attempt.
    pub(crate) fn reloaded(&self, outcome: Reloaded<'_>) {
        match outcome {
            Reloaded::Replaced(policy) => {
                self.0.in_force.store(Arc::new(InForce::now(policy)));
                self.0.replaced.fetch_add(1, Ordering::Relaxed);
            }
            Reloaded::Refused => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns the revision of the policy in force.
    pub(crate) fn revision(&self) -> Revision {
        self.0.in_force.load().revision
    }
}

impl InForce {
    fn now(policy: &Policy) -> Self {
        // Before 1970 there was no egret.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { revision: policy.revision(), rules: policy.rules(), since: since.as_secs_f64() }
    }
}

impl Collector for Reloads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { in_force, replaced, refused } = &*self.0;
        let in_force = in_force.load();
        let help = "The policy in force, by its revision";
        let labels = [("revision", in_force.revision.to_string())];
        encoder.encode_descriptor("policy", help, None, MetricType::Info)?.encode_info(&labels)?;
        let help = "Rules of the policy in force";
        encoder
            .encode_descriptor("policy_rules", help, None, MetricType::Gauge)?
            .encode_gauge(&(in_force.rules as u64))?;
        let help = "When the policy in force was loaded";
        encoder
            .encode_descriptor(
                "policy_loaded_timestamp",
                help,
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&in_force.since)?;
        let help = "Attempts to put another policy in force";
        let mut each =
            encoder.encode_descriptor("policy_reload", help, None, MetricType::Counter)?;
        for (result, count) in [("replaced", replaced), ("refused", refused)] {
            each.encode_family(&[("result", result)])?
                .encode_counter::<NoLabelSet, u64, f64>(&count.load(Ordering::Relaxed), None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn policy(rules: usize) -> Policy {
        let rule = |n| format!("[[rule]]\nid = 'r{n}'\neffect = 'allow'\nhosts = ['h{n}.test']\n");
        let rules: String = (0..rules).map(rule).collect();
        Policy::load(&format!("version = 1\n{rules}")).policy.unwrap()
    }

    fn printed(reloads: &Reloads) -> Vec<String> {
        let mut registry = Registry::with_prefix("egret");
        registry.register_collector(Box::new(reloads.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn the_policy_in_force_is_the_only_one_with_a_series() {
        let (first, second) = (policy(1), policy(2));
        let reloads = Reloads::begin(&first);
        let info =
            |policy: &Policy| format!("egret_policy_info{{revision=\"{}\"}} 1", policy.revision());
        let before = printed(&reloads);
        assert!(before.contains(&info(&first)), "{before:?}");
        assert!(before.contains(&"egret_policy_rules 1".to_owned()), "{before:?}");

        reloads.reloaded(Reloaded::Refused);
        assert!(printed(&reloads).contains(&info(&first)));
        reloads.reloaded(Reloaded::Replaced(&second));

        let after = printed(&reloads);
        assert_eq!(after.len(), before.len());
        assert!(after.contains(&info(&second)) && !after.contains(&info(&first)), "{after:?}");
        assert!(after.contains(&"egret_policy_rules 2".to_owned()), "{after:?}");
        for result in ["replaced", "refused"] {
            let line = format!("egret_policy_reload_total{{result=\"{result}\"}} 1");
            assert!(after.contains(&line), "{after:?}");
        }
        assert_eq!(reloads.revision(), second.revision());
    }
}
