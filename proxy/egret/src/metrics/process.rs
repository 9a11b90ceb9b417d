//! What the process takes of the machine, and which egret it is.
//!
//! Read when it is asked for, from `/proc` where there is one. What a system does not tell is
//! absent: a figure that is made up is worse than none.

use std::{
    fmt, fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    began: f64,
}

impl Process {
    /// Notes that the process begins now.
    pub(super) fn begin() -> Self {
        // Before 1970 there was no egret.
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: began.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Which egret this is";
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        encoder.encode_descriptor("build", help, None, MetricType::Info)?.encode_info(&labels)?;
        let help = "When the process began";
        encoder
            .encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&self.began)?;
        let help = "Processor time of all threads";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&processor_time().as_secs_f64(), None)?;
        if let Some(bytes) = resident() {
            let help = "Memory that is resident";
            encoder
                .encode_descriptor(
                    "process_resident_memory",
                    help,
                    Some(&Unit::Bytes),
                    MetricType::Gauge,
                )?
                .encode_gauge(&bytes)?;
        }
        if let Some(open) = descriptors() {
            let help = "Descriptors that are open";
            encoder
                .encode_descriptor("process_open_fds", help, None, MetricType::Gauge)?
                .encode_gauge(&open)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let help = "Descriptors that may be open";
            encoder
                .encode_descriptor("process_max_fds", help, None, MetricType::Gauge)?
                .encode_gauge(&most)?;
        }
        Ok(())
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib << 10)
}

fn descriptors() -> Option<u64> {
    // One of them is the one that this reads by.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}
