//! The lines of a squid.conf, put together as squid does it.
//!
//! Comments and empty lines go first, then a backslash at the end has the next line continue: so
//! no comment continues, and none ends a line that does. What squid would read in pieces, or not
//! at all, refuses the file, as a deny might be lost with it.

use super::Refused;

/// A line of the file, with those that continue it.
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) words: Vec<String>,
}

/// Splits the text into lines that say something.
pub(super) fn read(text: &str) -> Result<Vec<Line>, Refused> {
    let mut lines = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (at, part) in text.split('\n').enumerate() {
        let here = at + 1;
        if part.len() > LONGEST {
            return Err(Refused::new(here, "squid reads a line that is so long in pieces"));
        }
        if part.contains('\0') {
            return Err(Refused::new(here, "squid reads a line up to its zero byte"));
        }
        // What follows a carriage return is not read.
        let part = part.split('\r').next().unwrap_or_default().trim_start_matches(SPACE);
        if part.is_empty() || part.starts_with('#') {
            continue;
        }
        let (number, mut whole) = begun.take().unwrap_or((here, String::new()));
        match part.strip_suffix('\\') {
            Some(part) => {
                whole += part;
                begun = Some((number, whole));
            }
            None => {
                whole += part;
                let line = Line { number, words: words(&whole) };
                lines.extend((!line.words.is_empty()).then_some(line));
            }
        }
    }
    match begun {
        Some((number, _)) => Err(Refused::new(number, "a line is to go on where the file ends")),
        None => Ok(lines),
    }
}

/// Splits a line as squid does: at blanks and tabs alone. A `#` before a word begins a comment.
fn words(line: &str) -> Vec<String> {
    let words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    words.take_while(|word| !word.starts_with('#')).map(str::to_owned).collect()
}

/// What squid takes away from the beginning of a line.
const SPACE: [char; 5] = [' ', '\t', '\u{b}', '\u{c}', '\r'];
/// What squid reads at once on every platform that it is common on.
const LONGEST: usize = 4094;
