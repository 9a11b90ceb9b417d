//! Shows problems to people, on stderr: where, what, and how to mend it.
//!
//! What is shown of one file is bounded, so that it is soon said whatever is wrong with it.
//! Colours appear only on a terminal and never with NO_COLOR. What is shown of a file is the one
//! line that a problem points at; everything else that is printed is escaped by the renderer. Once
//! egret serves and its log is JSON, a problem is an event of that log, with what is shown in the
//! field `shown`.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Report, Snippet};
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

/// Prints problems of one file, each with its line, a caret and the fix; past some of them, how many
/// more there are.
pub(crate) fn print_problems(severity: Severity, source: &SourceText, problems: &[Problem]) {
    for problem in problems.iter().take(SHOWN) {
        let group = severity.level().primary_title(problem.message.as_str());
        let group = match pointed_line(&source.text, problem) {
            Pointed::Line(text, span) => group.element(
                Snippet::source(text)
                    .line_start(problem.line)
                    .path(source.name())
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            // The renderer would count the column from the beginning of the window.
            Pointed::Within(text, span) => group
                .element(Origin::path(source.name()).line(problem.line).char_column(problem.column))
                .element(
                    Snippet::source(text)
                        .line_start(problem.line)
                        .annotation(AnnotationKind::Primary.span(span)),
                ),
        };
        let group = if problem.fix.is_empty() {
            group
        } else {
            group.element(Level::HELP.message(problem.fix.as_str()))
        };
        print(severity, &problem.message, &[group]);
    }
    if problems.len() > SHOWN {
        let message = format!("and {} more in {}", problems.len() - SHOWN, source.name());
        print(severity, &message, &[severity.level().primary_title(&message).elements(NO_FIX)]);
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

/// What a problem points at.
#[derive(Debug, PartialEq, Eq)]
enum Pointed<'a> {
    /// A whole line.
    Line(&'a str, Range<usize>),
    /// A piece of a line that nobody would read to its end.
    Within(&'a str, Range<usize>),
}

/// The line that a problem begins in. A span over several lines ends with it: a caret points.
fn pointed_line<'a>(text: &'a str, problem: &Problem) -> Pointed<'a> {
    let start = floor(text, problem.span.start);
    let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let stop = floor(text, problem.span.end).clamp(start, end);
    if end - begin <= LONG {
        return Pointed::Line(&text[begin..end], start - begin..stop - begin);
    }
    let stop = floor(text, stop.min(start + BESIDE));
    let begin = floor(text, begin.max(start.saturating_sub(BESIDE)));
    let end = floor(text, end.min(stop + BESIDE));
    Pointed::Within(&text[begin..end], start - begin..stop - begin)
}

/// The nearest boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

/// Problems of one file that are shown: enough for who mends them one by one.
const SHOWN: usize = 100;
/// Bytes of a line that is shown as a whole.
const LONG: usize = 1000;
/// Bytes of a longer one that are shown on each side of what is pointed at.
const BESIDE: usize = 60;
const NO_FIX: Option<annotate_snippets::Message<'static>> = None;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: Range<usize>) -> Problem {
        Problem { span, line: 2, column: 1, message: "m".to_owned(), fix: String::new() }
    }

    #[test]
    fn a_caret_stays_in_its_line_and_on_whole_characters() {
        let text = "a = 1\nß = 2\nc = 3";
        let check = |span: Range<usize>, line: &str, within: Range<usize>| {
            let found = pointed_line(text, &problem(span));
            assert_eq!(found, Pointed::Line(line, within));
        };
        check(6..8, "ß = 2", 0..2);
        check(7..8, "ß = 2", 0..2);
        check(6..17, "ß = 2", 0..6);
        check(12..12, "ß = 2", 6..6);
        check(99..120, "c = 3", 5..5);
    }

    /// What is drawn of a line grows with it, and so would the time for all problems in it.
    #[test]
    fn of_a_long_line_only_what_is_around_a_problem_is_shown() {
        let text = format!("a = 1\nb = [{}]\nc = 3", "'ß', ".repeat(4000));
        let at = text.find('[').unwrap() + 1 + 6 * 2000;
        let Pointed::Within(shown, span) = pointed_line(&text, &problem(at..at + 4)) else {
            panic!("the whole line");
        };
        assert_eq!(&shown[span], "'ß'");
        assert!(shown.len() <= 4 + 2 * BESIDE && !shown.contains('\n'), "{shown}");
        let Pointed::Within(shown, span) = pointed_line(&text, &problem(at..text.len())) else {
            panic!("the whole line");
        };
        assert!(shown.len() <= 3 * BESIDE + 3 && span.len() <= BESIDE, "{shown}");
    }
}
