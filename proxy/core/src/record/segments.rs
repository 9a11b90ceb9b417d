//! The files of a record: `NNNNNNNN.jsonl`, numbered in the order in which they were begun.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    end::OpenError,
    folder,
    verify::{Fault, LONGEST},
};

/// Returns the numbers of the segments in a directory, the oldest first.
pub fn segments(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(segment_number));
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

/// Returns the number that a name stands for; nothing for a name that [`segment_name`] does not
/// make.
pub fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(EXTENSION)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// What stands at the end of a segment.
#[derive(Debug)]
pub(super) struct Tail {
    /// Where the last whole line ends.
    pub(super) length: u64,
    /// Bytes of a torn line after it, and of what was never written.
    pub(super) torn: u64,
    /// The last whole lines: all, or as many as fit a megabyte.
    pub(super) lines: Vec<u8>,
    /// Whether `lines` is all of the segment.
    pub(super) whole: bool,
}

/// Reads the end of a segment.
pub(super) fn tail(path: &Path) -> Result<Tail, OpenError> {
    let tail = tail_of(folder::read(path)?).map_err(|error| OpenError::using(path, error))?;
    tail.ok_or_else(|| {
        let fault = Fault::Syntax(format!("no line ends within the last {} bytes", 2 * WINDOW));
        OpenError::Broken { path: path.to_owned(), fault }
    })
}

/// Nothing where there is no end of a line where one must be.
fn tail_of(mut file: File) -> io::Result<Option<Tail>> {
    let all = file.metadata()?.len();
    // After power was lost a file may be longer than what of it had reached the disk.
    let written = without_nul_bytes(&mut file, all)?;
    // Twice, since a torn line may be as long as a whole one.
    let from = written.saturating_sub(2 * WINDOW);
    file.seek(SeekFrom::Start(from))?;
    let mut lines = Vec::new();
    file.take(written - from).read_to_end(&mut lines)?;
    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if end == 0 && from > 0 {
        return Ok(None);
    }
    let torn = all - from - end as u64;
    lines.truncate(end);
    if from > 0 {
        // What the window cuts in two is not judged.
        let first = lines.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        lines.drain(..first);
    }
    Ok(Some(Tail { length: from + end as u64, torn, lines, whole: from == 0 }))
}

/// Where the bytes end after which there are only NUL bytes.
fn without_nul_bytes(file: &mut File, mut end: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(from))?;
        block.clear();
        file.by_ref().take(end - from).read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

const EXTENSION: &str = ".jsonl";
const WINDOW: u64 = LONGEST as u64;
const BLOCK: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tail_after(lines: &str, torn: &str, nul_bytes: u64) -> Option<Tail> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        file.write_all(torn.as_bytes()).unwrap();
        file.set_len((lines.len() + torn.len()) as u64 + nul_bytes).unwrap();
        tail_of(file).unwrap()
    }

    #[test]
    fn what_was_never_written_is_torn_at_any_length() {
        for nul_bytes in [0, 1, BLOCK - 3, BLOCK, 2 * WINDOW + 1, 5 * WINDOW] {
            for torn in ["", "{\"seq\""] {
                let tail = tail_after("one\ntwo\n", torn, nul_bytes).unwrap();
                assert_eq!((tail.length, tail.torn), (8, torn.len() as u64 + nul_bytes));
                assert_eq!((&tail.lines[..], tail.whole), (&b"one\ntwo\n"[..], true));
            }
        }
        let nothing = tail_after("", "", 3 * WINDOW).unwrap();
        assert_eq!((nothing.length, nothing.torn, nothing.whole), (0, 3 * WINDOW, true));
    }

    #[test]
    fn what_is_no_line_is_not_torn_at_any_length() {
        let length = 2 * WINDOW as usize;
        let tail = tail_after("one\n", &"x".repeat(length - 1), 0).unwrap();
        assert_eq!((tail.length, tail.whole), (4, false));
        assert!(tail_after("one\n", &"x".repeat(length), 0).is_none());
        assert!(tail_after("one\n", &"x".repeat(length), 9).is_none());
    }
}
