//! The proxy's own records, read as anybody would: JSON objects, one a line.
//!
//! Nothing of egret's code is used, so a field that changes its name is found here.

use std::{fs, path::Path};

use serde_json::Value;

/// One record; a field that is absent reads as empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Record(pub Value);

impl Record {
    /// Returns a text field.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a number field.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field).and_then(Value::as_u64)
    }

    /// Returns the id that a decision shares with its completion.
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Returns the reason code.
    pub fn reason(&self) -> &str {
        self.text("reason")
    }

    /// Whether this is the decision of an exchange.
    pub fn is_decision(&self) -> bool {
        self.text("event") == "decision"
    }

    /// Whether this is the completion of an exchange.
    pub fn is_completion(&self) -> bool {
        self.text("event") == "completion"
    }
}

/// Reads every whole record of an audit directory, in order. A line that is not JSON yields a
/// record of `null`, so that it is noticed; a directory that is not there has none.
pub fn read(directory: &Path) -> Vec<Record> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut records = Vec::new();
    for path in files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        // The last line may still be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line| Record(serde_json::from_str(line).unwrap_or(Value::Null));
        records.extend(whole.lines().map(parse));
    }
    records
}
