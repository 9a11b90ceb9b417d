//! When connections end, and whether with a reset.

use std::{
    fmt::Write,
    io,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::net::TcpStream;

use crate::{measure, role::parse};

/// Longer than any cut may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The ends that have been seen since they were last taken.
#[derive(Default)]
pub(crate) struct Ends {
    seen: Mutex<Seen>,
    enough: Condvar,
}

#[derive(Default)]
struct Seen {
    resets: Vec<u64>,
    others: usize,
    /// How many somebody waits for; each end must not wake them.
    awaited: usize,
}

impl Ends {
    /// Waits until a connection ends, whatever comes through it before, and notes when.
    pub(crate) async fn watch(&self, stream: TcpStream) {
        let mut room = [0; 256];
        let end = loop {
            match stream.readable().await.and_then(|()| stream.try_read(&mut room)) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                end => break end,
            }
        };
        let at = measure::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match end {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => seen.resets.push(at),
            Ok(_) | Err(_) => seen.others += 1,
        }
        if seen.resets.len() + seen.others == seen.awaited {
            self.enough.notify_all();
        }
    }

    /// Waits for `count` ends; writes when each reset came, behind how many ends were none.
    pub(crate) fn take(&self, count: &str) -> io::Result<String> {
        let count: usize = parse(count)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.awaited = count;
        let waiting = |seen: &mut Seen| seen.resets.len() + seen.others < count;
        let (mut seen, _) = self
            .enough
            .wait_timeout_while(seen, PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let Seen { resets, others, .. } = std::mem::take(&mut *seen);
        let mut line = others.to_string();
        for at in resets {
            write!(line, " {at}").map_err(io::Error::other)?;
        }
        Ok(line)
    }
}

/// A runtime beside the thread that answers, so that what is open is always watched.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}
