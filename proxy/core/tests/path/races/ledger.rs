//! A record file that takes nothing until it is told to: a pipe in place of the file, full.
//!
//! The recorder opens and writes it as it would a file on a disk that has stopped answering.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use serde_json::Value;

use crate::scene::is_about_traffic;

pub(crate) struct Ledger {
    pipe: Arc<File>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Ledger {
    /// Puts a full pipe where the recorder of `directory` keeps its first file.
    pub(crate) fn stalled(directory: &Path) -> Self {
        let path = directory.join("00000001.jsonl");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let pipe = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let mut pipe = pipe.unwrap();
        // Empty lines, first by pages and then one by one, until there is no room for a byte.
        fill(&mut pipe, &[b'\n'; 4096]);
        fill(&mut pipe, b"\n");
        Self { pipe: Arc::new(pipe), taken: Arc::default() }
    }

    /// Takes everything from here on.
    pub(crate) fn take(&self) {
        let (pipe, taken) = (self.pipe.clone(), Arc::downgrade(&self.taken));
        thread::spawn(move || {
            while let Some(taken) = taken.upgrade() {
                take_what_is_there(&pipe, &taken);
                drop(taken);
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// Returns the whole lines that were written.
    pub(crate) fn records(&self) -> Vec<Value> {
        take_what_is_there(&self.pipe, &self.taken);
        let taken = self.taken.lock().unwrap();
        let lines = taken.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.filter_map(|line| serde_json::from_slice(line).ok());
        lines.filter(is_about_traffic).collect()
    }
}

fn take_what_is_there(mut pipe: &File, taken: &Mutex<Vec<u8>>) {
    let mut taken = taken.lock().unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = pipe.read(&mut buffer) {
        taken.extend(&buffer[..length]);
    }
}

/// Writes `piece` again and again, until there is no room for it. A page goes into a pipe whole or
/// not at all, and so does less.
fn fill(pipe: &mut File, piece: &[u8]) {
    let full = loop {
        if let Err(error) = pipe.write_all(piece) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
}
