//! How words look on a terminal, the same in every verb.

use anstyle::{AnsiColor, Style};

pub(crate) const ALLOWED: Style = AnsiColor::Green.on_default();
pub(crate) const DENIED: Style = AnsiColor::Red.on_default();
/// What report mode lets through.
pub(crate) const REPORTED: Style = AnsiColor::Yellow.on_default();
pub(crate) const STRONG: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();
