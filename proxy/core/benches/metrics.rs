//! What counting costs: for one request, alone and while another thread counts as well, and for
//! whoever asks for all of it. Prints one line for each.

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use egret_proxy::{Metrics, stages::count_request};
use prometheus_client::{encoding::text::encode, registry::Registry};

const ROUNDS: u32 = 1_000_000;
const SCRAPES: u32 = 200;

fn main() {
    for threads in [1, 2] {
        let best = (0..5).map(|_| counting(threads)).min().unwrap_or_default();
        println!("metrics threads={threads} request_ns={}", best.as_nanos());
    }
    let (best, bytes) = (0..5).map(|_| printing()).min().unwrap_or_default();
    println!("metrics scrape_us={} bytes={bytes}", best.as_micros());
}

/// The time of one request in a thread, of which there are so many.
fn counting(threads: usize) -> Duration {
    let metrics = Arc::<Metrics>::default();
    let begin = Barrier::new(threads);
    let slowest = thread::scope(|scope| {
        let counting: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    let began = Instant::now();
                    for round in 0..ROUNDS {
                        let took = Duration::from_nanos(u64::from(black_box(round) % 5_000_000));
                        count_request(black_box(&metrics), took);
                    }
                    began.elapsed()
                })
            })
            .collect();
        counting.into_iter().filter_map(|thread| thread.join().ok()).max()
    });
    slowest.unwrap_or_default() / ROUNDS
}

/// The time to print all of it, and how long that is.
fn printing() -> (Duration, usize) {
    let mut registry = Registry::with_prefix("egret");
    registry.register_collector(Box::new(Arc::<Metrics>::default()));
    let mut bytes = 0;
    let began = Instant::now();
    for _ in 0..SCRAPES {
        let mut text = String::new();
        assert!(encode(&mut text, black_box(&registry)).is_ok());
        bytes = text.len();
    }
    (began.elapsed() / SCRAPES, bytes)
}
