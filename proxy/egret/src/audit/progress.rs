//! How far reading has got, on a terminal, once it takes longer than a moment.

use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

/// One line on stderr that is written over.
pub(super) struct Progress {
    /// When it is said next; never where nobody looks.
    next: Option<Instant>,
    said: bool,
    read: u64,
    all: u64,
}

impl Progress {
    pub(super) fn begin(files: &[PathBuf]) -> Self {
        let length = |path| fs::metadata(path).map_or(0, |file| file.len());
        Self {
            next: io::stderr().is_terminal().then(|| Instant::now() + PATIENCE),
            said: false,
            read: 0,
            all: files.iter().map(length).sum(),
        }
    }

    /// Counts what is read through what is returned.
    pub(super) fn watch<R: Read>(&mut self, source: R) -> impl Read {
        Watched { source, progress: self }
    }

    /// Wipes the line away.
    pub(super) fn end(&mut self) {
        if self.said {
            say(&" ".repeat(WIDTH));
            say("");
        }
    }

    fn add(&mut self, length: usize) {
        self.read += length as u64;
        let Some(next) = self.next.filter(|next| *next <= Instant::now()) else { return };
        self.next = Some(next + EVERY);
        self.said = true;
        let text = format!("read {} of {} MB", self.read / MB, self.all.max(self.read) / MB);
        say(&format!("{text:WIDTH$}"));
    }
}

struct Watched<'p, R> {
    source: R,
    progress: &'p mut Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.progress.add(length);
        Ok(length)
    }
}

fn say(text: &str) {
    let mut stderr = io::stderr();
    // Whoever has closed it does not want to know.
    let _ = write!(stderr, "\r{text}\r").and_then(|()| stderr.flush());
}

const PATIENCE: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(200);
const MB: u64 = 1_000_000;
const WIDTH: usize = 40;
