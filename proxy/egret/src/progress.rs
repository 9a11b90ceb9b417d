//! How far a long reading has come, on a terminal and only after a while.

use std::{
    io::{self, IsTerminal, Read, Write},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

/// One line on stderr that is written over and taken away at the end.
#[derive(Debug)]
pub(crate) struct Progress {
    size: u64,
    read: u64,
    /// When it is said next; never where nobody looks.
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Begins with what there is to read, in bytes.
    pub(crate) fn of(size: u64) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + PATIENCE);
        Self { size, read: 0, next, shown: false }
    }

    /// Counts what is read through what is returned.
    pub(crate) fn watch<R: Read>(&mut self, source: R) -> impl Read {
        Watched { source, progress: self }
    }

    /// Says how much has been read, if it is time to.
    pub(crate) fn at(&mut self, read: u64) {
        self.read = read;
        let Some(next) = self.next else { return };
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

struct Watched<'p, R> {
    source: R,
    progress: &'p mut Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.progress.at(self.progress.read + length as u64);
        Ok(length)
    }
}
