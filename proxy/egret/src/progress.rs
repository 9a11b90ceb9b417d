//! How far a long reading has come, on a terminal and only after a while.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);
/// The clock is asked once in so many steps.
const STEPS: u32 = 256;

/// One line on stderr that is written over and taken away at the end.
#[derive(Debug)]
pub(crate) struct Progress {
    size: u64,
    next: Option<Instant>,
    steps: u32,
    shown: bool,
}

impl Progress {
    /// Begins with what there is to read, in bytes.
    pub(crate) fn of(size: u64) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + PATIENCE);
        Self { size, next, steps: 0, shown: false }
    }

    /// Says how much has been read, if it is time to.
    pub(crate) fn at(&mut self, read: u64) {
        self.steps = self.steps.wrapping_add(1);
        let Some(next) = self.next.filter(|_| self.steps.is_multiple_of(STEPS)) else { return };
        let now = Instant::now();
        if now < next {
            return;
        }
        (self.next, self.shown) = (Some(now + INTERVAL), true);
        let percent = read.saturating_mul(100) / self.size.max(1);
        // There is nowhere left to say that stderr is closed.
        let _ = write!(io::stderr(), "\rreading records: {} % ", percent.min(100));
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
