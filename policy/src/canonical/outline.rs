//! The canonical form of a policy kept apart by section and key.

use super::Entry;

/// What a policy means: what holds for all of it, then its rules and credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The first is the whole; rules follow in the order of the file, credentials in that of ids.
    pub sections: Vec<Section>,
}

/// One section, with every key that has a meaning in it; defaults are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is.
    pub kind: SectionKind,
    /// The id of a rule or credential; empty for the whole.
    pub id: String,
    /// Keys with their values, those of a set in order. `*` stands for every value.
    pub fields: Vec<(&'static str, Vec<String>)>,
}

/// What a section is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Mode and network.
    Whole,
    /// A rule.
    Rule,
    /// A credential.
    Credential,
}

impl Section {
    /// Returns the values of a key; none where the section has no such key.
    pub fn values(&self, key: &str) -> &[String] {
        let field = self.fields.iter().find(|(own, _)| *own == key);
        field.map_or(&[], |(_, values)| values)
    }
}

impl Outline {
    /// Returns a rule.
    pub fn rule(&self, id: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == SectionKind::Rule && section.id == id)
    }
}

/// Puts the lines of the form together again.
#[derive(Default)]
pub(super) struct Outliner(Outline);

impl Outliner {
    pub(super) fn add(&mut self, key: &'static str, entry: Entry) {
        let sections = &mut self.0.sections;
        let kind = match key {
            "form" => Some(SectionKind::Whole),
            "rule" => Some(SectionKind::Rule),
            "credential" => Some(SectionKind::Credential),
            _ => None,
        };
        match (kind, entry) {
            (Some(kind), Entry::Only(id)) => {
                let id = if kind == SectionKind::Whole { String::new() } else { id };
                sections.push(Section { kind, id, fields: Vec::new() });
            }
            (_, entry) => {
                let Some(section) = sections.last_mut() else { return };
                match entry {
                    Entry::Only(value) => section.fields.push((key, vec![value])),
                    Entry::Count(count) => section.fields.push((key, Vec::with_capacity(count))),
                    Entry::Member(value) => {
                        if let Some((_, values)) = section.fields.last_mut() {
                            values.push(value);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn finish(self) -> Outline {
        self.0
    }
}
