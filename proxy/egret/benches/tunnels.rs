//! What many open tunnels cost, how fast they are cut, and what bulk through one of them costs.
//!
//! The proxy runs in a process of its own, as do the workers, the origins and the bare relay that
//! it is held against, so that memory, processor time and descriptors are each its own; times are
//! compared between them by the monotonic clock of the machine. Figures go to stdout, one a line,
//! everything else to stderr. `cargo bench -p egret --bench tunnels [-- connect tunnels cut bulk]`

#[path = "tunnels/bulk.rs"]
mod bulk;
#[path = "tunnels/conduct.rs"]
mod conduct;
#[path = "tunnels/ends.rs"]
mod ends;
#[path = "tunnels/measure.rs"]
mod measure;
#[path = "tunnels/origins.rs"]
mod origins;
#[path = "tunnels/proxy.rs"]
mod proxy;
#[path = "tunnels/relay.rs"]
mod relay;
#[path = "tunnels/role.rs"]
mod role;
#[path = "tunnels/workers.rs"]
mod workers;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words[..] {
        ["proxy", origin, ref ports @ ..] => proxy::run(origin, ports),
        ["origins", address] => origins::run(address),
        ["workers", proxy, ref ports @ ..] => workers::run(proxy, ports),
        ["relay", origin] => relay::run(origin),
        _ => conduct::run(&words),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tunnels {}: {error}", words.first().unwrap_or(&""));
            ExitCode::FAILURE
        }
    }
}
