//! Who asks: the identity that stage 3 established, as the policy sees it.
//!
//! A [`Worker`] is made by whoever checked the proof; nothing here authenticates. Labels come
//! from the operator, the fleet policy or a grant, never from a worker's own report, so they are
//! not limited in their bytes: they are compared and recorded as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The name of a worker: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// Reads an id; the alphabet keeps it safe in records, headers and file names.
    pub fn parse(text: &str) -> Result<Self, WorkerIdError> {
        if !(1..=128).contains(&text.len()) {
            return Err(WorkerIdError::Length { length: text.len() });
        }
        let stray = |byte: &u8| {
            !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'-'))
        };
        if let Some((at, byte)) = text.bytes().enumerate().find(|(_, byte)| stray(byte)) {
            return Err(WorkerIdError::Byte { byte, at });
        }
        Ok(Self(text.into()))
    }

    /// Returns the id as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for WorkerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Why a text is not a worker's id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WorkerIdError {
    /// Empty or too long.
    #[error("a worker id has 1 to 128 bytes, not {length}")]
    Length {
        /// Bytes of the text.
        length: usize,
    },
    /// A byte outside the alphabet.
    #[error("byte 0x{byte:02x} at {at} does not belong in a worker id")]
    Byte {
        /// The byte.
        byte: u8,
        /// Offset in the text.
        at: usize,
    },
}

/// What the operator says about a worker: names with values, in the order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Returns the value of the label `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether every label of `wanted` is here with the same value; nothing wanted is always here.
    pub fn contain(&self, wanted: &Labels) -> bool {
        wanted.iter().all(|(name, value)| self.value(name) == Some(value))
    }

    /// Returns the labels in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        Self(labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// An identified worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The id that its proof names.
    pub id: WorkerId,
    /// What the operator says about it.
    pub labels: Labels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_safe_alphabet_and_a_bounded_length() {
        for good in ["ci-1", "A.b_c:d@e-f", "0", &"w".repeat(128)] {
            assert_eq!(WorkerId::parse(good).unwrap().as_str(), good);
        }
        for length in [0, 129] {
            let text = "w".repeat(length);
            assert_eq!(WorkerId::parse(&text), Err(WorkerIdError::Length { length }));
        }
        for (bad, byte, at) in
            [("ci 1", b' ', 2), ("ci/1", b'/', 2), ("ci\n", b'\n', 2), ("é", 0xc3, 0)]
        {
            assert_eq!(WorkerId::parse(bad), Err(WorkerIdError::Byte { byte, at }));
        }
    }

    #[test]
    fn labels_contain_what_they_hold_and_nothing_else() {
        let labels = Labels::from_iter([("pool", "build"), ("zone", "a")]);
        assert!(labels.contain(&Labels::from_iter([("pool", "build")])));
        assert!(labels.contain(&Labels::default()));
        assert!(!labels.contain(&Labels::from_iter([("pool", "test")])));
        assert!(!labels.contain(&Labels::from_iter([("pool", "build"), ("team", "x")])));
        assert!(!Labels::default().contain(&Labels::from_iter([("pool", "build")])));
    }
}
