//! Terminal pictures: a block of the README as a terminal shows it, in colours.

use std::{fs, path::Path};

use anstyle_svg::{Term, WIN10_CONSOLE};

use super::shape::shape;

/// Draws a terminal with `text`, escape sequences and all.
pub(crate) fn draw(text: &str) -> String {
    Term::new().palette(WIN10_CONSOLE).min_width_px(860).render_svg(text)
}

/// Says whether the picture in `file` shows what `drawn` does, whatever the times and ids.
pub(crate) fn is_current(file: &Path, drawn: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|kept| shape(&kept) == shape(drawn))
}
