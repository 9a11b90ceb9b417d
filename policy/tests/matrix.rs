//! Worker by target: the whole table of answers of one policy, to be reviewed as a difference.
//!
//! `EGRET_BLESS=1` rewrites `matrix.txt`.

// A test harness reads fixtures, which the pure crate itself may not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::net::IpAddr;
use std::path::Path;

use egret_policy::{Labels, Policy, Question, Timestamp, Worker, WorkerId};

const WORKERS: [(&str, &str); 5] =
    [("ci-1", "build"), ("ci-1", ""), ("ci-2", "build"), ("anonymous", ""), ("ci-1", "guest")];

const TARGETS: [(&str, &str, &str); 22] = [
    ("GET", "https://api.github.com/repos", ""),
    ("POST", "https://api.github.com/repos", ""),
    ("DELETE", "https://api.github.com/repos", ""),
    ("GET", "https://api.github.com:8443/", ""),
    ("GET", "http://api.github.com/", ""),
    ("GET", "https://github.com/", ""),
    ("GET", "https://crates.example/", ""),
    ("GET", "https://static.crates.example/", ""),
    ("GET", "https://wheels.example/", ""),
    ("GET", "https://files.wheels.example/", ""),
    ("GET", "http://deb.example/debian/dists", ""),
    ("GET", "http://deb.example/debian/../etc", ""),
    ("GET", "http://deb.example/etc", ""),
    ("GET", "https://deb.example/debian", ""),
    ("GET", "https://api.internal.example/", "10.20.0.1"),
    ("GET", "https://api.internal.example/", "10.21.0.1"),
    ("GET", "https://static.crates.example/", "10.20.0.1"),
    ("GET", "tcp://db.example.com:5432", ""),
    ("GET", "https://db.example.com:5432/", ""),
    ("GET", "https://evil.test/", ""),
    ("GET", "http://169.254.169.254/", ""),
    ("GET", "https://crates.example@evil.test/", ""),
];

#[test]
fn every_worker_gets_what_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let text = std::fs::read_to_string(folder.join("matrix.toml")).unwrap();
    let policy = Policy::load(&text).policy.unwrap();
    let mut table = String::new();
    for (method, url, address) in TARGETS {
        let resolved = if address.is_empty() { String::new() } else { format!(" at {address}") };
        table += &format!("{method} {url}{resolved}\n");
        let addresses: Vec<IpAddr> = address.parse().into_iter().collect();
        for (id, pool) in WORKERS {
            let labels: Labels =
                [("pool", pool)].into_iter().filter(|(_, pool)| !pool.is_empty()).collect();
            let worker = Worker { id: WorkerId::parse(id).unwrap(), labels };
            let question = Question { worker: &worker, method, url, addresses: &addresses };
            let answer = policy.explain(&question, Timestamp::UNIX_EPOCH);
            let rule = answer.rule.unwrap_or_default();
            let reason = answer.reason.code();
            let line = format!("    {id:<10}{pool:<6}{:<6}{reason:<27}{rule}", answer.verdict);
            table += &format!("{}\n", line.trim_end());
        }
    }
    let expected = folder.join("matrix.txt");
    if std::env::var_os("EGRET_BLESS").is_some() {
        std::fs::write(&expected, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(table, expected, "EGRET_BLESS=1 rewrites the table");
}
