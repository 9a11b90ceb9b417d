//! The two formats in which figures are printed.
//!
//! The library writes OpenMetrics 1.0. Whoever does not ask for it gets the text format 0.0.4 of
//! Prometheus, which names a family as its samples are named, knows no units, and calls an info a
//! gauge. The samples are the same.

use prometheus_client::{encoding::text::encode, registry::Registry};

/// A format of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// Chooses by what a client accepts: OpenMetrics only where it is named and not ruled out.
    pub(super) fn accepted(accept: &str) -> Self {
        let named = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let openmetrics =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(OPEN_METRICS));
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|quality| quality.parse().is_ok_and(|quality: f32| quality <= 0.0));
            openmetrics && !refused
        });
        if named { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the value of `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Prints every figure as it is now.
pub(super) fn print(registry: &Registry, format: Format) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("a text takes what is written to it");
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => to_prometheus(&text),
    }
}

fn to_prometheus(text: &str) -> String {
    let mut types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut converted = String::with_capacity(text.len());
    // HELP comes before TYPE, and says nothing of the type that its name depends on.
    let mut suffix = "";
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            push(&mut converted, &[line]);
            continue;
        };
        let (keyword, rest) = comment.split_once(' ').unwrap_or((comment, ""));
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match keyword {
            "HELP" => {
                suffix = match types.next().and_then(|line| line.rsplit(' ').next()) {
                    Some("counter") => "_total",
                    Some("info") => "_info",
                    Some(_) | None => "",
                };
                push(&mut converted, &["# HELP ", name, suffix, " ", rest]);
            }
            "TYPE" => {
                let kind = if rest == "info" { "gauge" } else { rest };
                push(&mut converted, &["# TYPE ", name, suffix, " ", kind]);
            }
            // Units and the mark of the end.
            _ => {}
        }
    }
    converted
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
    text.push('\n');
}

const OPEN_METRICS: &str = "application/openmetrics-text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        for accept in [prometheus, "text/plain, Application/OpenMetrics-Text"] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
        let refused = "application/openmetrics-text; version=1.0.0; q=0, */*";
        for accept in ["", "*/*", "text/plain;version=0.0.4", refused, "openmetrics-text"] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn families_are_named_as_their_samples_in_the_older_format() {
        let text = "# HELP a_seconds How long.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{x=\"y\"} 1\n# HELP b Which.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP c Now.\n# TYPE c gauge\nc 2\n# EOF\n";
        assert_eq!(
            to_prometheus(text),
            "# HELP a_seconds_total How long.\n# TYPE a_seconds_total counter\n\
             a_seconds_total{x=\"y\"} 1\n# HELP b_info Which.\n# TYPE b_info gauge\n\
             b_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\nc 2\n"
        );
    }
}
