//! What the chain costs the recorder's thread, and how fast it is verified: typical completions,
//! as JSON alone and sealed, each written to a file in batches as the recorder writes them.

use std::{
    fs::File,
    hint::black_box,
    io::{self, BufReader, Write},
    time::Duration,
};

use egret_proxy::{Extent, Verifier};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use record::chain::Chain;

/// The chain is private to its crate.
#[allow(dead_code, unreachable_pub)]
#[path = "../src/record"]
mod record {
    pub(crate) mod chain;
    mod hex;
}

const LINES: usize = 50_000;
const BATCH: usize = 128;

#[derive(Serialize)]
struct Completion {
    id: &'static str,
    time: &'static str,
    event: &'static str,
    worker: &'static str,
    labels: std::collections::BTreeMap<&'static str, &'static str>,
    listener: &'static str,
    client: &'static str,
    method: &'static str,
    scheme: &'static str,
    host: &'static str,
    port: u16,
    path: &'static str,
    verdict: &'static str,
    reason: &'static str,
    rule: &'static str,
    policy: &'static str,
    addresses: [&'static str; 2],
    pinned: &'static str,
    status: u16,
    bytes_up: u64,
    bytes_down: u64,
    decide_us: u64,
    dns_us: u64,
    connect_us: u64,
    total_ms: u64,
    closed_by: &'static str,
}

fn completion() -> Completion {
    Completion {
        id: "01KAMFQ1XW2V7Q9J8B4C5D6E7F",
        time: "2026-11-21T12:00:00.123456Z",
        event: "completion",
        worker: "ci-17",
        labels: [("pool", "build"), ("team", "payments")].into(),
        listener: "10.0.0.1:3128",
        client: "10.1.2.3:51234",
        method: "GET",
        scheme: "http",
        host: "registry.example.org",
        port: 80,
        path: "/packages/alpha/1.2.3/metadata.json",
        verdict: "allow",
        reason: "egress.allowed",
        rule: "registry",
        policy: "9f3c4f1d2b6a7c8e9f3c4f1d2b6a7c8e9f3c4f1d2b6a7c8e9f3c4f1d2b6a7c8e",
        addresses: ["192.0.2.17", "2001:db8::17"],
        pinned: "192.0.2.17:80",
        status: 200,
        bytes_up: 431,
        bytes_down: 28_733,
        decide_us: 4,
        dns_us: 812,
        connect_us: 1733,
        total_ms: 41,
        closed_by: "upstream",
    }
}

fn main() -> io::Result<()> {
    let record = completion();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("record");
    let plain = best(|| {
        let (mut file, mut bytes) = (File::create(&path)?, Vec::new());
        for at in 0..LINES {
            serde_json::to_writer(&mut bytes, black_box(&record))?;
            bytes.push(b'\n');
            flush(&mut file, &mut bytes, at)?;
        }
        Ok(())
    })?;
    let sealed = best(|| {
        let (mut file, mut bytes) = (File::create(&path)?, Vec::new());
        let mut chain = Chain::EMPTY;
        for at in 0..LINES {
            chain.seal(black_box(&record), &mut bytes);
            flush(&mut file, &mut bytes, at)?;
        }
        Ok(())
    })?;
    let verified = best(|| {
        let mut verifier = Verifier::default();
        let file = BufReader::with_capacity(256 << 10, File::open(&path)?);
        verifier.file(file, |line, fault| panic!("{line}: {fault}"))?;
        assert!(verifier.finish(Extent::Whole).1.is_empty());
        Ok(())
    })?;
    for (name, took) in [("json", plain), ("sealed", sealed), ("verified", verified)] {
        println!(
            "record {name}_ns={} lines_per_s={:.0}",
            took.as_nanos() / LINES as u128,
            LINES as f64 / took.as_secs_f64()
        );
    }
    let length = path.metadata()?.len() as f64;
    println!(
        "record bytes_per_line={:.0} verified_mb_per_s={:.0}",
        length / LINES as f64,
        length / verified.as_secs_f64() / 1e6
    );
    Ok(())
}

fn flush(file: &mut File, bytes: &mut Vec<u8>, at: usize) -> io::Result<()> {
    if at % BATCH == BATCH - 1 || at + 1 == LINES {
        file.write_all(bytes)?;
        bytes.clear();
    }
    Ok(())
}

/// The best of several, in time of the processor, as the machine is shared.
fn best(work: impl Fn() -> io::Result<()>) -> io::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..12 {
        let began = processor_time();
        work()?;
        best = best.min(processor_time() - began);
    }
    Ok(best)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // It begins with the thread.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
