//! Changes the text of a policy in one place and leaves all else as it is: comments, order, form.
//!
//! Whether the result means what was wanted is for the caller to try.

use egret_policy::source::{Document, Span, Table};

/// A text with one value more.
pub(super) struct Edited {
    pub(super) text: String,
    /// Where the change begins, from 1.
    pub(super) line: usize,
    /// What stands there now.
    pub(super) lines: String,
}

/// Puts lines at the end, after an empty one.
pub(super) fn append(text: &str, lines: &str) -> String {
    let text = text.trim_end();
    let between = if text.is_empty() { "" } else { "\n\n" };
    format!("{text}{between}{lines}")
}

/// Adds a value to the list of a rule; where there is no such list, one with the values that hold
/// so far and this one.
pub(super) fn with_one_more(
    text: &str,
    rule: &str,
    key: &'static str,
    value: &str,
    held: &[String],
) -> Option<Edited> {
    let document = Document::parse(text);
    let root = document.root();
    let rules = root.find("rule")?.tables("a rule");
    let is_it = |table: &&Table<'_>| {
        table.find("id").and_then(|id| id.text()).is_some_and(|id| id.value == rule)
    };
    let table = rules.iter().find(is_it)?;
    let (at, insert, shown) = match table.find(key) {
        Some(list) => {
            let whole = list.span();
            let start = table.key_span(key)?.start;
            let entries = list.list()?.value;
            let (at, insert) = match entries.last() {
                Some(last) => (last.span().end, format!(", {value}")),
                None => (whole.start + 1, value.to_owned()),
            };
            (at, insert, start..whole.end)
        }
        None => {
            let id = table.find("id")?.span();
            let at = text[id.end..].find('\n').map_or(text.len(), |end| id.end + end);
            let list = [held, &[value.to_owned()]].concat().join(", ");
            (at, format!("\n{key} = [{list}]"), at + 1..at)
        }
    };
    let rest = text.get(shown.end..).unwrap_or_default().lines().next().unwrap_or_default();
    let comment = if rest.trim_start().starts_with('#') { rest.len() } else { 0 };
    let shown = shown.start..shown.end + comment;
    let edited = format!("{}{insert}{}", &text[..at], &text[at..]);
    let Span { start, end } = shown.start..shown.end + insert.len();
    let lines = edited.get(start..end)?.to_owned();
    let line = edited[..start].matches('\n').count() + 1;
    Some(Edited { text: edited, line, lines: shortened(lines, key, value) })
}

/// A list that is long is told by what is new in it.
fn shortened(lines: String, key: &str, value: &str) -> String {
    if lines.len() <= LONG && lines.lines().count() <= MANY {
        return lines;
    }
    format!("{key} = [ …, {value} ]   # one more in the list")
}

const LONG: usize = 400;
const MANY: usize = 8;
