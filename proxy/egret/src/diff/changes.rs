//! In what two policies differ, section by section and key by key.

use std::collections::BTreeSet;

use egret_policy::{Outline, Section, SectionKind};
use serde::Serialize;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// `policy`, `rule` or `credential`.
    pub(super) section: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    pub(super) change: What,
    /// What differs in a section that is in both; `order` for the order of the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'static str>,
    /// Values that are only in the old policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) old: Vec<String>,
    /// Values that are only in the new policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) new: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Added,
    Removed,
    Changed,
}

/// Returns the differences: the whole first, then rules and credentials in the order of the new
/// file, and what is gone from it.
pub(super) fn between(old: &Outline, new: &Outline) -> Vec<Change> {
    let mut changes = Vec::new();
    for section in &new.sections {
        match same(section, old) {
            Some(before) => changes.extend(within(before, section)),
            None => changes.push(whole(section, What::Added)),
        }
    }
    let gone = old.sections.iter().filter(|section| same(section, new).is_none());
    changes.extend(gone.map(|section| whole(section, What::Removed)));
    changes.extend(order(old, new));
    changes
}

fn same<'o>(section: &Section, other: &'o Outline) -> Option<&'o Section> {
    let is_same = |one: &&Section| one.kind == section.kind && one.id == section.id;
    other.sections.iter().find(is_same)
}

fn whole(section: &Section, change: What) -> Change {
    let name = name(section.kind);
    Change { section: name, id: section.id.clone(), change, key: None, old: vec![], new: vec![] }
}

fn name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Whole => "policy",
        SectionKind::Rule => "rule",
        SectionKind::Credential => "credential",
    }
}

fn within(old: &Section, new: &Section) -> Vec<Change> {
    let keys: Vec<&'static str> = old.fields.iter().map(|(key, _)| *key).collect();
    let more = new.fields.iter().map(|(key, _)| *key).filter(|key| !keys.contains(key));
    let change = |key: &'static str| {
        let (before, after) = (old.values(key), new.values(key));
        (before != after).then(|| {
            let (had, has): (BTreeSet<_>, BTreeSet<_>) =
                (before.iter().collect(), after.iter().collect());
            let only = |of: &[String], other: &BTreeSet<&String>| -> Vec<String> {
                of.iter().filter(|value| !other.contains(value)).map(|one| told(key, one)).collect()
            };
            Change {
                section: name(new.kind),
                id: new.id.clone(),
                change: What::Changed,
                key: Some(key),
                old: only(before, &has),
                new: only(after, &had),
            }
        })
    };
    keys.iter().copied().chain(more).filter_map(change).collect()
}

/// A value as a policy would write it.
fn told(key: &str, value: &str) -> String {
    match (key, value.strip_prefix('+'), value) {
        ("hosts", Some(suffix), _) => format!("{suffix} and below"),
        ("hosts", None, "**") => "every host".to_owned(),
        ("hosts", None, "*") => "every name".to_owned(),
        ("hosts", None, value) if value.starts_with('.') => format!("below {}", &value[1..]),
        _ => value.to_owned(),
    }
}

/// The first rule that stands elsewhere among those that both have.
fn order(old: &Outline, new: &Outline) -> Option<Change> {
    let ids = |one: &Outline, other: &Outline| -> Vec<String> {
        let rules = one.sections.iter().filter(|section| section.kind == SectionKind::Rule);
        let shared = rules.filter(|section| same(section, other).is_some());
        shared.map(|section| section.id.clone()).collect()
    };
    let (before, after) = (ids(old, new), ids(new, old));
    (before != after).then(|| Change {
        section: "policy",
        id: String::new(),
        change: What::Changed,
        key: Some("order"),
        old: before,
        new: after,
    })
}
