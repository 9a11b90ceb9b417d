//! What the chain costs the recorder's thread, and how fast it is verified: typical completions,
//! as JSON alone and sealed, each written to a file in batches as the recorder writes them.

use std::{
    fs::File,
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

use chain::Chain;
use egret_proxy::{Extent, Verifier};
use serde::Serialize;

/// The chain is private to its crate.
#[allow(dead_code)]
#[path = "../src/record/chain.rs"]
mod chain;

const LINES: usize = 200_000;
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

fn main() -> std::io::Result<()> {
    let record = completion();
    let folder = tempfile::tempdir()?;
    let plain = best(
        |file| {
            let mut bytes = Vec::new();
            for at in 0..LINES {
                serde_json::to_writer(&mut bytes, black_box(&record))?;
                bytes.push(b'\n');
                flush(file, &mut bytes, at)?;
            }
            Ok(())
        },
        folder.path(),
    )?;
    let sealed = best(
        |file| {
            let (mut chain, mut bytes) = (Chain::EMPTY, Vec::new());
            for at in 0..LINES {
                chain.seal(black_box(&record), &mut bytes);
                flush(file, &mut bytes, at)?;
            }
            Ok(())
        },
        folder.path(),
    )?;
    let bytes = std::fs::read(folder.path().join("record"))?;
    let began = Instant::now();
    let mut verifier = Verifier::default();
    verifier.file(&bytes[..], |line, fault| panic!("{line}: {fault}"))?;
    let verified = began.elapsed();
    assert!(verifier.finish(Extent::Whole).1.is_empty());
    for (name, took) in [("json", plain), ("sealed", sealed), ("verified", verified)] {
        println!(
            "record {name}_ns={} lines_per_s={:.0}",
            took.as_nanos() / LINES as u128,
            LINES as f64 / took.as_secs_f64()
        );
    }
    let length = bytes.len() as f64;
    println!(
        "record bytes_per_line={:.0} verified_mb_per_s={:.0}",
        length / LINES as f64,
        length / verified.as_secs_f64() / 1e6
    );
    Ok(())
}

fn flush(file: &mut File, bytes: &mut Vec<u8>, at: usize) -> std::io::Result<()> {
    if at % BATCH == BATCH - 1 || at + 1 == LINES {
        file.write_all(bytes)?;
        bytes.clear();
    }
    Ok(())
}

/// The best of a few, as the machine is shared.
fn best(
    write: impl Fn(&mut File) -> std::io::Result<()>,
    folder: &std::path::Path,
) -> std::io::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let mut file = File::create(folder.join("record"))?;
        let began = Instant::now();
        write(&mut file)?;
        best = best.min(began.elapsed());
    }
    Ok(best)
}
