//! The files of a record: `NNNNNNNN.jsonl`, numbered in the order in which they were begun.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Returns the numbers of the segments in a directory, the oldest first.
pub fn segments(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the name of a segment.
pub fn segment_name(number: u32) -> String {
    format!("{number:08}{EXTENSION}")
}

pub(super) fn segment(directory: &Path, number: u32) -> PathBuf {
    directory.join(segment_name(number))
}

/// The number that a name stands for; nothing for a name that [`segment_name`] does not make.
fn number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(EXTENSION)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// What stands at the end of a segment.
#[derive(Debug)]
pub(super) struct Tail {
    /// Where the last whole line ends.
    pub(super) length: u64,
    /// Bytes of a torn line after it.
    pub(super) torn: u64,
    /// The last whole lines: all, or as many as fit a megabyte.
    pub(super) lines: Vec<u8>,
    /// Whether `lines` is all of the segment.
    pub(super) whole: bool,
}

/// Reads the end of a segment.
pub(super) fn tail(path: &Path) -> io::Result<Tail> {
    let mut file = File::open(path)?;
    let all = file.metadata()?.len();
    // Twice, since a torn line may be as long as a whole one.
    let from = all.saturating_sub(2 * WINDOW);
    if from > 0 {
        file.seek(SeekFrom::Start(from))?;
    }
    let mut lines = Vec::new();
    file.take(all - from).read_to_end(&mut lines)?;
    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if end == 0 && from > 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no line ends near its end"));
    }
    let torn = (lines.len() - end) as u64;
    lines.truncate(end);
    if from > 0 {
        // What the window cuts in two is not judged.
        let first = lines.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        lines.drain(..first);
    }
    Ok(Tail { length: from + end as u64, torn, lines, whole: from == 0 })
}

const EXTENSION: &str = ".jsonl";
const WINDOW: u64 = super::verify::LONGEST as u64;
