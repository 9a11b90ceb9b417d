//! Chunk framing as the most lenient receivers read it, with a note of every leniency.

use super::{Message, fields, head_end};

/// Fills the message from the chunks at `at`; returns the offset behind them once they are whole.
pub(super) fn read(data: &[u8], at: usize, message: &mut Message) -> Option<usize> {
    let mut at = at;
    loop {
        let end = at + data.get(at..)?.iter().position(|byte| *byte == b'\n')?;
        let line = &data[at..end];
        let bare = !line.ends_with(b"\r");
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let size = match line.iter().position(|byte| *byte == b';') {
            Some(semicolon) => {
                message.chunk_extension = true;
                &line[..semicolon]
            }
            None => line,
        };
        let strict = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        message.odd_chunks |= bare || !strict;
        let size = lenient_size(size)?;
        at = end + 1;
        if size == 0 {
            break;
        }
        let Some(stop) = at.checked_add(size).filter(|stop| *stop + 2 <= data.len()) else {
            message.body.extend(&data[at..at.saturating_add(size).min(data.len())]);
            return None;
        };
        message.body.extend(&data[at..stop]);
        at = stop;
        if data[at..].starts_with(b"\r\n") {
            at += 2;
        } else {
            message.odd_chunks = true;
        }
    }
    if data[at..].starts_with(b"\r\n") {
        return Some(at + 2);
    }
    let end = head_end(data, at)?;
    message.trailers = fields(&data[at..end]);
    Some(end)
}

/// The number that `strtol` and its relatives would read: white space, a plus sign, `0x` and
/// underscores are tolerated; what overflows is as good as endless.
fn lenient_size(text: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(text.trim_ascii()).to_ascii_lowercase().replace('_', "");
    let text = text.strip_prefix('+').unwrap_or(&text);
    let text = text.strip_prefix("0x").unwrap_or(text);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(usize::from_str_radix(text, 16).unwrap_or(usize::MAX / 2))
}
