//! Makes texts of others fit for a line of the log.
//!
//! Libraries put into their errors what a server has sent. What is told of it is short and has no
//! control characters, so that nobody can forge a line or command a terminal.

use std::fmt::{self, Display, Formatter};

/// Shows a text without controls, cut off after [`MOST`] characters.
pub(crate) struct Plain<T>(pub(crate) T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let mut characters = text.chars();
        for character in characters.by_ref().take(MOST) {
            let shown =
                if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
            fmt::Write::write_char(f, shown)?;
        }
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

const MOST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_replaced_and_what_is_long_is_cut_off() {
        let show = |text: &str| Plain(text).to_string();
        assert_eq!(show("name `a.test` not found"), "name `a.test` not found");
        assert_eq!(show("a\r\n\u{1b}[2Jb\u{9b}c"), "a\u{fffd}\u{fffd}\u{fffd}[2Jb\u{fffd}c");
        let shown = show(&"é".repeat(10_000));
        assert_eq!(shown.chars().count(), MOST + 1);
        assert!(shown.ends_with("é…"));
    }
}
