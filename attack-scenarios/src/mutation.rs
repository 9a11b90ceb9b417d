//! Checks of egret switched off on purpose, one at a time, to see that the cases notice.
//!
//! A mutation is a file: which text becomes which, the families that must catch it, and why it is
//! there. It is applied to a copy, never to the sources. A text that is no longer there exactly
//! once is an error, so that no mutation can quietly stop meaning anything.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::tree::{NotBuilt, Tree};

mod tree;

/// One check switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The name of its file.
    pub name: String,
    /// What it takes away, and what must not go unnoticed then.
    pub why: String,
    /// The families of which at least one case must fail.
    pub families: Vec<String>,
    edits: Vec<Edit>,
}

/// One place that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// The file, from the root of the workspace.
    file: PathBuf,
    /// A text that stands there once.
    find: String,
    /// What it becomes.
    replace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    why: String,
    families: Vec<String>,
    edit: Vec<Edit>,
}

impl Mutation {
    /// Reads every mutation of a folder, so ordered that those of one file follow each other.
    pub fn load(folder: &Path) -> io::Result<Vec<Self>> {
        let mut mutations = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                mutations.push(Self::parse(&name, &fs::read_to_string(&path)?).map_err(|why| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {why}"))
                })?);
            }
        }
        mutations
            .sort_by_cached_key(|mutation| (mutation.edits[0].file.clone(), mutation.name.clone()));
        Ok(mutations)
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let Source { why, families, edit } =
            toml::from_str(text).map_err(|error| error.to_string())?;
        if edit.is_empty() || families.is_empty() || why.is_empty() {
            return Err("an edit, a family and a reason are needed".to_owned());
        }
        Ok(Self { name: name.to_owned(), why, families, edits: edit })
    }

    /// Returns the files that it changes and what they become.
    pub fn applied(&self, workspace: &Path) -> Result<Vec<(PathBuf, String)>, String> {
        let mut changed: Vec<(PathBuf, String)> = Vec::new();
        for Edit { file, find, replace } in &self.edits {
            let before = match changed.iter().position(|(path, _)| path == file) {
                Some(at) => changed.remove(at).1,
                None => fs::read_to_string(workspace.join(file))
                    .map_err(|error| format!("read `{}`: {error}", file.display()))?,
            };
            match before.matches(find.as_str()).count() {
                1 => changed.push((file.clone(), before.replacen(find.as_str(), replace, 1))),
                count => {
                    return Err(format!("found {count} times in `{}`: {find}", file.display()));
                }
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::corpus;

    fn workspace() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    fn mutations() -> Vec<Mutation> {
        Mutation::load(&workspace().join("attack-scenarios/mutations")).expect("the mutations")
    }

    #[test]
    fn every_mutation_applies_to_the_sources_as_they_are() {
        for mutation in mutations() {
            let applied = mutation.applied(&workspace());
            assert!(applied.is_ok(), "{}: {}", mutation.name, applied.unwrap_err());
        }
    }

    #[test]
    fn every_mutation_names_families_that_there_are() {
        let cases = corpus::embedded().expect("the corpus");
        let families: BTreeSet<String> = cases.into_iter().map(|case| case.family).collect();
        for mutation in mutations() {
            for family in &mutation.families {
                assert!(families.contains(family), "{}: {family}", mutation.name);
            }
        }
    }

    #[test]
    fn the_four_checks_that_everything_rests_on_are_switched_off() {
        let names: Vec<String> = mutations().into_iter().map(|mutation| mutation.name).collect();
        for check in ["address-check", "sni-check", "host-check", "gate"] {
            assert!(names.iter().any(|name| name == check), "{check} is not among {names:?}");
        }
    }

    #[test]
    fn a_text_that_is_not_there_once_is_an_error() {
        let of = |find: &str| {
            let edit = format!("file = \"Cargo.toml\"\nfind = '{find}'\nreplace = 'x'\n");
            let text = format!("why = \"w\"\nfamilies = [\"f\"]\n[[edit]]\n{edit}");
            Mutation::parse("m", &text).expect("a mutation").applied(&workspace())
        };
        assert!(of("resolver = \"3\"").is_ok());
        assert!(of("no such text").expect_err("absent").contains("0 times"));
        assert!(of("workspace").is_err());
    }
}
