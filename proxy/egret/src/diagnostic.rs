//! Shows problems to people, on stderr: where, what, and how to mend it.
//!
//! Colours appear only on a terminal and never with NO_COLOR. What is shown of a file is the one
//! line that a problem points at; everything else that is printed is escaped by the renderer. Once
//! egret serves and its log is JSON, a problem is an event of that log, with what is shown in the
//! field `shown`.

use annotate_snippets::{AnnotationKind, Level, Renderer, Report, Snippet};
use egret_policy::source::Problem;

use crate::{files::SourceText, log};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

impl Severity {
    fn level(self) -> Level<'static> {
        match self {
            Self::Error => Level::ERROR,
            Self::Warning => Level::WARNING,
        }
    }
}

/// Prints problems of one file, each with its line, a caret and the fix.
pub(crate) fn print_problems(severity: Severity, source: &SourceText, problems: &[Problem]) {
    for problem in problems {
        let line = pointed_line(&source.text, problem);
        let snippet = Snippet::source(line.text)
            .line_start(problem.line)
            .path(source.name())
            .annotation(AnnotationKind::Primary.span(line.span));
        let title = severity.level().primary_title(problem.message.as_str());
        let group = title.element(snippet);
        let group = if problem.fix.is_empty() {
            group
        } else {
            group.element(Level::HELP.message(problem.fix.as_str()))
        };
        print(severity, &problem.message, &[group]);
    }
}

/// Prints why a verb could not do its work.
pub(crate) fn print_failure(message: &str, causes: &[String], fix: Option<&str>) {
    let title = Level::ERROR.primary_title(message);
    let notes = causes.iter().map(|cause| Level::NOTE.message(cause.as_str()));
    let help = fix.map(|fix| Level::HELP.message(fix));
    print(Severity::Error, message, &[title.elements(notes.chain(help))]);
}

/// Prints something that does not keep egret from going on.
pub(crate) fn print_warning(message: &str, fix: Option<&str>) {
    let title = Level::WARNING.primary_title(message);
    let group = title.elements(fix.map(|fix| Level::HELP.message(fix)));
    print(Severity::Warning, message, &[group]);
}

fn print(severity: Severity, message: &str, report: Report<'_>) {
    if log::takes_all() {
        let shown = Renderer::plain().render(report);
        return match severity {
            Severity::Error => tracing::error!(shown, "{message}"),
            Severity::Warning => tracing::warn!(shown, "{message}"),
        };
    }
    log::show(&format!("{}\n", Renderer::styled().render(report)));
}

struct PointedLine<'a> {
    text: &'a str,
    span: std::ops::Range<usize>,
}

/// The line that a problem begins in. A span over several lines ends with it: a caret points.
fn pointed_line<'a>(text: &'a str, problem: &Problem) -> PointedLine<'a> {
    let start = floor(text, problem.span.start);
    let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let stop = floor(text, problem.span.end).clamp(start, end);
    PointedLine { text: &text[begin..end], span: start - begin..stop - begin }
}

/// The nearest boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: std::ops::Range<usize>) -> Problem {
        Problem { span, line: 2, column: 1, message: "m".to_owned(), fix: String::new() }
    }

    #[test]
    fn a_caret_stays_in_its_line_and_on_whole_characters() {
        let text = "a = 1\nß = 2\nc = 3";
        let check = |span: std::ops::Range<usize>, line: &str, within: std::ops::Range<usize>| {
            let found = pointed_line(text, &problem(span));
            assert_eq!((found.text, found.span), (line, within));
        };
        check(6..8, "ß = 2", 0..2);
        check(7..8, "ß = 2", 0..2);
        check(6..17, "ß = 2", 0..6);
        check(12..12, "ß = 2", 6..6);
        check(99..120, "c = 3", 5..5);
    }
}
