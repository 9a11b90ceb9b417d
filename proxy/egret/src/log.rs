//! The log of `serve`, on stderr: lines for people on a terminal, JSON otherwise.
//!
//! It says how the proxy itself fares. What workers did is in the records, never only here.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

use crate::failure::Failure;

/// What the resolver's library has to say is at the whim of whoever sends it packets.
const DEFAULT_FILTER: &str = "info,hickory_net=off,hickory_proto=off,hickory_resolver=off";

/// Starts the log; a filter that cannot be understood is refused, not ignored.
pub(crate) fn start(filter: Option<&str>) -> Result<(), Failure> {
    let filter =
        EnvFilter::builder().parse(filter.unwrap_or(DEFAULT_FILTER)).map_err(Failure::LogFilter)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.with_ansi(colours()).with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
    Ok(())
}

/// Says something at length: plain lines for people, one event each otherwise.
pub(crate) fn say(lines: &[String]) {
    for line in lines {
        if io::stderr().is_terminal() {
            // A closed stderr is no reason to stop serving.
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            tracing::info!("{line}");
        }
    }
}

/// Whether the terminal shows colours and the operator wants them.
fn colours() -> bool {
    match anstream::AutoStream::choice(&io::stderr()) {
        anstream::ColorChoice::Never => false,
        anstream::ColorChoice::Auto
        | anstream::ColorChoice::AlwaysAnsi
        | anstream::ColorChoice::Always => true,
    }
}
