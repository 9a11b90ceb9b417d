//! How long a decision takes for 10, 1,000 and 100,000 allowed hosts over 100 rules.
//!
//! Half of the requests are allowed, half name hosts that no rule has, in random order. Targets are
//! parsed in small batches just before they are decided, as in the proxy: the request is in the
//! cache, the policy's tables need not be. The figure is the median over the batches, so that other
//! work of the machine does not count. `cargo bench -p egret-policy --bench decide` prints one
//! line for each size on stdout, and on stderr how long the policy took to load.

// A benchmark is not part of the pure crate: it reads the clock and prints.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, clippy::unwrap_used)]

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use egret_policy::{Ask, Labels, Method, Policy, Target, Timestamp, Worker, WorkerId};

const RULES: usize = 100;
const BATCH: usize = 64;
const BATCHES: usize = 8_000;

fn main() {
    let worker = Worker { id: WorkerId::parse("bench").unwrap(), labels: Labels::default() };
    for hosts in [10, 1_000, 100_000] {
        let began = Instant::now();
        let policy = Policy::load(&text(hosts)).policy.unwrap();
        let loaded = began.elapsed();
        // The first round fills what caches can hold; the second counts.
        measure(&policy, &worker, hosts);
        let (per_decision, allocations) = measure(&policy, &worker, hosts);
        eprintln!("load hosts={hosts} ms={}", loaded.as_millis());
        println!("decide hosts={hosts} ns={per_decision:.0} allocations={allocations}");
    }
}

fn measure(policy: &Policy, worker: &Worker, hosts: usize) -> (f64, u64) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut spent = Vec::with_capacity(BATCHES);
    let mut allocations = 0;
    let mut allowed = 0;
    let now = Timestamp::UNIX_EPOCH;
    let method = Method::parse("GET").unwrap();
    for _ in 0..BATCHES {
        let targets: Vec<Target> = (0..BATCH)
            .map(|n| {
                let host = name(random.below(hosts) + if n % 2 == 0 { 0 } else { hosts });
                Target::absolute(&format!("http://{host}/index.html")).unwrap()
            })
            .collect();
        let mut elapsed = Duration::ZERO;
        let counted = allocation_counter::measure(|| {
            let began = Instant::now();
            for target in &targets {
                let ask = Ask { worker, method, target };
                allowed += usize::from(black_box(policy.decide(black_box(&ask), now)).is_ok());
            }
            elapsed = began.elapsed();
        });
        spent.push(elapsed);
        allocations += counted.count_total;
    }
    assert_eq!(allowed, BATCHES * BATCH / 2);
    spent.sort_unstable();
    (spent[BATCHES / 2].as_nanos() as f64 / BATCH as f64, allocations)
}

fn text(hosts: usize) -> String {
    let mut text = "version = 1\n[defaults]\nschemes = [\"http\"]\nports = [80]\n".to_owned();
    for rule in 0..RULES {
        write!(text, "[[rule]]\nid = \"r{rule}\"\neffect = \"allow\"\nhosts = [").unwrap();
        for host in (rule..hosts).step_by(RULES) {
            write!(text, "\"{}\",", name(host)).unwrap();
        }
        text.push_str("]\n");
    }
    text
}

fn name(number: usize) -> String {
    format!("api-{number}.region-{}.example{}.com", number % 13, number % 1009)
}

/// Xorshift: the same order in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
