//! Which keys of a configuration have changed: what takes effect at the next start is named.
//!
//! Texts are compared by key, as TOML and before anything is known of the keys, so that one that
//! is added to egret later is named as well. A value that is written in another way is a change.

use std::{borrow::Cow, collections::BTreeMap};

use egret_policy::source::Span;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A key that differs between two texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// As `limits.connections` or `listener[1].address`, counted from 1.
    pub(crate) key: String,
    /// Where it stands in the newer text, if it is there.
    pub(crate) span: Option<Span>,
}

/// Returns the keys that differ, without those of the tables `but`; none where a text is no TOML.
pub(crate) fn changed(before: &str, now: &str, but: &[&str]) -> Vec<Changed> {
    let (Ok(before), Ok(now)) = (DeTable::parse(before), DeTable::parse(now)) else {
        return Vec::new();
    };
    let (before, now) = (leaves(before.get_ref(), but), leaves(now.get_ref(), but));
    let new = now
        .iter()
        .filter(|(key, (value, _))| before.get(*key).is_none_or(|(before, _)| before != value));
    let new = new.map(|(key, (_, span))| Changed { key: key.clone(), span: Some(span.clone()) });
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    let gone = gone.map(|key| Changed { key: key.clone(), span: None });
    let mut changed: Vec<_> = new.chain(gone).collect();
    // In the order of the text; what is not in it comes last.
    changed.sort_by_key(|changed| changed.span.as_ref().map_or(usize::MAX, |span| span.start));
    changed
}

type Leaves = BTreeMap<String, (String, Span)>;

fn leaves(root: &DeTable<'_>, but: &[&str]) -> Leaves {
    let mut leaves = Leaves::new();
    for (name, value) in root.iter().filter(|(name, _)| !but.contains(&name.get_ref().as_ref())) {
        collect(name.get_ref().to_string(), name.span(), value, &mut leaves);
    }
    leaves
}

fn collect(key: String, at: Span, value: &Spanned<DeValue<'_>>, leaves: &mut Leaves) {
    match value.get_ref() {
        DeValue::Table(table) if !table.is_empty() => {
            for (name, value) in table.iter() {
                collect(format!("{key}.{}", name.get_ref()), name.span(), value, leaves);
            }
        }
        DeValue::Array(items)
            if !items.is_empty()
                && items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_))) =>
        {
            for (at, item) in items.iter().enumerate() {
                collect(format!("{key}[{}]", at + 1), item.span(), item, leaves);
            }
        }
        value @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => {
            leaves.insert(key, (written(value), at));
        }
    }
}

/// The value as a text that is equal exactly for equal values.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("{} in {}", number.as_str(), number.radix()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item.get_ref())).collect();
            format!("[{}]", items.join(","))
        }
        DeValue::Table(table) => {
            let entry = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                format!("{:?}={}", name.get_ref(), written(value.get_ref()))
            };
            let entries: Vec<_> = table.iter().map(entry).collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "version = 1\npolicy = 'policy.toml'\n[[listener]]\naddress = 'a'\n\
                          identity = ['token', 'source']\n[[worker]]\nid = 'w'\n\
                          [limits]\nconnections = 10\n";

    #[test]
    fn every_key_that_differs_is_named_with_its_line_and_no_other() {
        let check = |from: &str, to: &str, expected: &[(&str, usize)]| {
            assert!(BEFORE.contains(from), "{from}");
            let now = BEFORE.replacen(from, to, 1);
            let line = |span: Span| now[..span.start].matches('\n').count() + 1;
            let found: Vec<_> = changed(BEFORE, &now, &["worker", "policy"])
                .into_iter()
                .map(|Changed { key, span }| (key, span.map_or(0, line)))
                .collect();
            let expected: Vec<_> =
                expected.iter().map(|(key, line)| ((*key).to_owned(), *line)).collect();
            assert_eq!(found, expected, "{to}");
        };
        check("version", "# a remark\nversion", &[]);
        check("id = 'w'", "id = 'x'\nuid = 7", &[]);
        check("policy.toml", "other.toml", &[]);
        check("address = 'a'", "address = \"a\"", &[]);
        check("connections = 10", "connections = 11", &[("limits.connections", 9)]);
        check("address = 'a'", "address = 'b'", &[("listener[1].address", 4)]);
        check("'token', 'source'", "'token'", &[("listener[1].identity", 5)]);
        check("[limits]\nconnections = 10\n", "", &[("limits.connections", 0)]);
        check(
            "[limits]",
            "[[listener]]\naddress = 'b'\n[limits]\nhead_bytes = '1KiB'",
            &[("listener[2].address", 9), ("limits.head_bytes", 11)],
        );
        check("[limits]", "dns = { hosts = { a = ['10.0.0.1'] } }\n[limits]", &[]);
        check(
            "[[listener]]",
            "dns = { hosts = { a = ['10.0.0.1'] } }\n[[listener]]",
            &[("dns.hosts.a", 3)],
        );
    }
}
