//! Reads TOML so that every problem of a file is found at once, each with its place and its fix.
//!
//! A [`Document`] parses with recovery, its [`Table`]s are read key by key, and whatever is wrong
//! goes into one [`Report`] while reading goes on. A key that nobody asked for is a problem when
//! its table is dropped, so forgetting to look at a key can only refuse a file, never accept it
//! silently. Where the syntax is broken, missing keys and everything else on the broken lines are
//! not reported: they would be consequences. No file is opened here.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use serde::Serialize;
use toml::Spanned;
use toml::de::DeTable;

pub use self::table::Table;
pub use self::value::Value;

mod table;
mod units;
mod value;

/// Where something stands in the text, in bytes.
pub type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> At<T> {
    /// Returns another value that stands in the same place.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> At<U> {
        At { value: to(self.value), span: self.span }
    }
}

/// Something wrong with a text: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Bytes of the text that it is about.
    pub span: Span,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

/// A parsed text, with what has been found wrong with it so far.
pub struct Document<'t> {
    root: Spanned<DeTable<'t>>,
    report: Report<'t>,
}

impl<'t> Document<'t> {
    /// Parses the text; syntax errors are the first problems of the report.
    pub fn parse(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut report = Report::new(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let fix = syntax_fix(error.message());
            report.problem(&span, format!("not valid TOML: {}", error.message()), fix);
        }
        report.broken_lines =
            report.problems.get_mut().iter().map(|problem| problem.line).collect();
        Self { root, report }
    }

    /// Returns the table of the whole file.
    pub fn root(&self) -> Table<'_> {
        Table::new("the file", self.root.get_ref(), 0..0, &self.report)
    }

    /// Returns where problems are collected, for those that are found later than by reading.
    pub fn report(&self) -> &Report<'t> {
        &self.report
    }

    /// Ends the reading and returns problems and warnings, each in the order of the text.
    pub fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let in_order = |found: RefCell<Vec<Problem>>| {
            let mut found = found.into_inner();
            found.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
            found.dedup();
            found
        };
        (in_order(self.report.problems), in_order(self.report.warnings))
    }
}

/// The problems and warnings of one text.
pub struct Report<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    broken_lines: Vec<usize>,
    /// The last place that was asked for: a line may hold a hundred thousand hosts, and counting
    /// from its start for each would take as long as a denial of service.
    last: Cell<Place>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    fn new(text: &'t str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            broken_lines: Vec::new(),
            last: Cell::default(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Adds a problem: the text is refused.
    pub fn problem(&self, span: &Span, message: impl Into<String>, fix: impl Into<String>) {
        self.add(&self.problems, span, message.into(), fix.into());
    }

    /// Adds a warning: the text is valid, but hardly what was meant.
    pub fn warning(&self, span: &Span, message: impl Into<String>, fix: impl Into<String>) {
        self.add(&self.warnings, span, message.into(), fix.into());
    }

    /// Adds a problem about something that is not there; what a syntax error swallowed is not
    /// missing.
    pub fn missing(&self, span: &Span, message: impl Into<String>, fix: impl Into<String>) {
        if !self.is_broken() {
            self.problem(span, message, fix);
        }
    }

    /// Whether the text is not valid TOML, so that parts of it may be unread.
    pub fn is_broken(&self) -> bool {
        !self.broken_lines.is_empty()
    }

    /// Returns how many problems there are so far.
    pub fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Returns line and column, both from 1, the column in characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let line = self.line_starts.partition_point(|start| *start <= at);
        let last = self.last.get();
        let from = match last.line == line && last.at <= at {
            true => last,
            false => Place { line, at: self.line_starts[line - 1], column: 1 },
        };
        let column = from.column + self.text[from.at..at].chars().count();
        self.last.set(Place { line, at, column });
        (line, column)
    }

    fn add(&self, to: &RefCell<Vec<Problem>>, span: &Span, message: String, fix: String) {
        let (line, column) = self.position(span.start);
        if !self.broken_lines.contains(&line) {
            to.borrow_mut().push(Problem { span: span.clone(), line, column, message, fix });
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Place {
    line: usize,
    at: usize,
    column: usize,
}

/// Returns text of a file fit to be shown: control characters escaped, cut when it is long.
pub fn shown(text: &str) -> String {
    shown_within(text, SHOWN_MAX)
}

/// Returns text as [`shown`] does, with up to so many of its characters.
pub fn shown_within(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    // A quote inside a quoted text is no reason to escape it.
    shown.replace("\\'", "'").replace("\\\"", "\"")
}

/// Returns the known word that `text` was most likely meant to be.
pub fn nearest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    words
        .into_iter()
        .map(|word| (strsim::jaro_winkler(text, word), word))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

fn syntax_fix(message: &str) -> &'static str {
    if message.starts_with("duplicate key") {
        "keep one of the two; tables that repeat are written `[[name]]`"
    } else if message.contains("must be quoted") || message.contains("string") {
        "write a value: \"text\", a number, true, false, a date, [ … ] or { … }; text in quotes \
         ends on its line"
    } else if message.starts_with("unclosed") {
        "close what was opened before it"
    } else {
        "write `key = value`, one to a line, below `[table]` or `[[table]]`"
    }
}

const SHOWN_MAX: usize = 80;
const LIKENESS_MIN: f64 = 0.8;

#[cfg(test)]
mod tests;
