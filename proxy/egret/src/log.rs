//! The log of `serve`, on stderr: lines for people on a terminal, JSON otherwise.
//!
//! It says how the proxy itself fares. What workers did is in the records, never only here, and
//! never by itself at level `info` or above: what traffic can cause is said at most every ten
//! seconds, with `unsaid` for how many were not. `EGRET_LOG` filters it.
//!
//! Once egret serves, nothing that it does waits for whoever reads stderr: where nobody does, lines
//! are dropped and counted (`dropped`). Until then, and from a start that fails, all is written.
//!
//! A line of JSON has `timestamp` (RFC 3339), `level`, `target` (the module), `message` and the
//! fields of the event. Fields keep their names and meaning: `error` (and what caused it), `id`
//! and `code` (of an exchange, as in the records), `signal`, `open` (connections and exchanges),
//! `server` and `servers` (name servers), `fault`, `cut` and `lost` (entries and workers that a
//! reload ended), `problems`, `shown` (a problem with its line and fix, as people see it), `files`
//! and `needed` (descriptors), `connections`, `accounts` (of workers and rules), `denials`,
//! `clock` and `newest` (what it says, and what the newest record does), `unsaid`, `dropped`,
//! `path`, `file`, `segment`, `version`, `config`, `policy`, `revision`, `state`, `records`. No
//! event has a secret, a query string or a header's value; what others have sent is shortened, and
//! has no control character on a terminal.

use std::{
    cell::Cell,
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::format::{FmtSpan, Writer, debug_fn},
};

use self::behind::{Piece, Queue};
use crate::failure::Failure;

mod behind;

/// What the resolver's library has to say is at the whim of whoever sends it packets.
const DEFAULT_FILTER: &str = "info,hickory_net=off,hickory_proto=off,hickory_resolver=off";

/// How long what was said last may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is said once egret serves, and not written yet.
static BEHIND: OnceLock<Arc<Queue>> = OnceLock::new();

thread_local! {
    /// Whether this is the thread that writes what waits.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// Has all that is said from here on written by a thread of its own, and said in the log, unless
/// people read it: a start that fails tells who starts, a running egret is read by programs.
pub(crate) fn begin_serving() -> Result<(), Failure> {
    let queue = Arc::<Queue>::default();
    let waiting = queue.clone();
    let write = move || {
        WRITES.set(true);
        waiting.write(|piece| match piece {
            // A closed stderr is no reason to stop serving.
            Piece::Text(text) => drop(io::stderr().write_all(&text)),
            Piece::Dropped(dropped) => tracing::warn!(dropped, "lines of this log were dropped"),
        })
    };
    let writer = thread::Builder::new().name("log".to_owned()).spawn(write);
    writer.map_err(|error| Failure::Start(error.into()))?;
    // It serves once in a process; what waits in the first queue is what is written.
    let _ = BEHIND.set(queue);
    Ok(())
}

/// Waits a moment for what is not written yet.
pub(crate) fn finish() {
    if let Some(queue) = BEHIND.get() {
        queue.settle(LAST_LINES);
    }
}

/// Whether whatever is said belongs into the log.
pub(crate) fn takes_all() -> bool {
    BEHIND.get().is_some() && !io::stderr().is_terminal()
}

/// Says something to people, in colours where they are seen.
pub(crate) fn show(text: &str) {
    // There is nowhere left to say that stderr is closed.
    let _ = if colours() {
        Stderr.write_all(text.as_bytes())
    } else {
        Stderr.write_all(anstream::adapter::strip_str(text).to_string().as_bytes())
    };
}

/// Where all that is said goes.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match BEHIND.get() {
            Some(queue) if !WRITES.get() => {
                queue.put(text);
                Ok(text.len())
            }
            Some(_) | None => io::stderr().write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log; a filter that cannot be understood is refused, not ignored.
pub(crate) fn start(filter: Option<&str>) -> Result<(), Failure> {
    let filter =
        EnvFilter::builder().parse(filter.unwrap_or(DEFAULT_FILTER)).map_err(Failure::LogFilter)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        // What cannot be written is gone: told on stderr it would be a panic of whoever logs.
        .log_internal_errors(false)
        .with_writer(|| Stderr);
    if io::stderr().is_terminal() {
        let fields = debug_fn(field).delimited(" ");
        log.with_ansi(colours()).with_target(false).fmt_fields(fields).init();
    } else {
        log.json().flatten_event(true).init();
    }
    Ok(())
}

/// Prints one field for people. The library lets line ends through, by which a value could pass
/// for a line of its own.
fn field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    if field.name() != "message" {
        let (dim, plain) = if out.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        write!(out, "{dim}{}={plain}", field.name())?;
    }
    value.chars().try_for_each(|character| match character.is_control() {
        true => write!(out, "{}", character.escape_default()),
        false => out.write_char(character),
    })
}

/// Says something at length: plain lines for people, one event each otherwise.
pub(crate) fn say(lines: &[String]) {
    for line in lines {
        if io::stderr().is_terminal() {
            show(&format!("{line}\n"));
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a terminal without colours gets of one event.
    fn shown(event: impl FnOnce()) -> String {
        let terminal = Terminal::default();
        let writer = terminal.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(debug_fn(field).delimited(" "))
            .finish();
        tracing::subscriber::with_default(subscriber, event);
        String::from_utf8(terminal.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn fields_follow_the_message() {
        let line = shown(|| tracing::warn!(files = 7, error = %"it is full", "fewer files"));
        assert_eq!(line, " WARN fewer files files=7 error=it is full\n");
    }

    #[test]
    fn no_value_can_begin_a_line_or_command_the_terminal() {
        let sent = "gone\r\n ERROR forged\u{1b}[2J\u{9b}1m\u{7}";
        for line in
            [shown(|| tracing::info!(error = %sent, "x")), shown(|| tracing::info!("{sent}"))]
        {
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            let end = line.strip_suffix('\n').unwrap();
            assert!(!end.contains(char::is_control), "{line:?}");
            assert!(end.contains("gone\\r\\n ERROR forged"), "{line:?}");
        }
    }
}
