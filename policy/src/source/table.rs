//! A table of a [`Document`](super::Document), read key by key.
//!
//! The keys that were asked for are the keys that are known; every other key is reported when the
//! table is dropped, with the known one it resembles.

use std::cell::RefCell;

use toml::de::DeTable;

use super::value::Role;
use super::{At, Report, Span, Value, nearest, shown};

/// A table being read.
pub struct Table<'d> {
    name: &'static str,
    entries: &'d DeTable<'d>,
    span: Span,
    known: RefCell<Vec<&'d str>>,
    report: &'d Report<'d>,
}

impl<'d> Table<'d> {
    pub(super) fn new(
        name: &'static str,
        entries: &'d DeTable<'d>,
        span: Span,
        report: &'d Report<'d>,
    ) -> Self {
        Self { name, entries, span, known: RefCell::default(), report }
    }

    /// Returns the value of a key, which is known from now on.
    pub fn find(&self, key: &'static str) -> Option<Value<'d>> {
        self.known.borrow_mut().push(key);
        self.entries
            .get(key)
            .map(|value| Value::new(self.name, key, Role::Whole, value, self.report))
    }

    /// Makes a key known whose value is of no interest.
    pub fn ignore(&self, key: &'static str) {
        self.known.borrow_mut().push(key);
    }

    /// Returns the value of a key that must be there.
    pub fn require(&self, key: &'static str, fix: &str) -> Option<Value<'d>> {
        let found = self.find(key);
        if found.is_none() {
            self.report.missing(&self.span, format!("{} has no `{key}`", self.name), fix);
        }
        found
    }

    /// Returns every key that is written, with its place, for tables whose keys are free.
    pub fn free_keys(&self) -> Vec<(At<&'d str>, Value<'d>)> {
        let entries = self.entries.iter().map(|(key, value)| {
            let at = At { value: &**key.get_ref(), span: key.span() };
            (at, Value::new(self.name, self.name, Role::Member, value, self.report))
        });
        let entries: Vec<_> = entries.collect();
        self.known.borrow_mut().extend(entries.iter().map(|(key, _)| key.value));
        entries
    }

    /// Returns where a key is written.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.get_key_value(key).map(|(key, _)| key.span())
    }

    /// Returns where the table is written: its header, or its braces.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Returns where problems with the table go.
    pub fn report(&self) -> &'d Report<'d> {
        self.report
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let known = self.known.get_mut();
        let strays = self.entries.keys().filter(|key| !known.contains(&&**key.get_ref()));
        for stray in strays {
            let fix = match nearest(stray.get_ref(), known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("keys of {}: {}", self.name, known.join(", ")),
            };
            let message = format!("unknown key `{}` in {}", shown(stray.get_ref()), self.name);
            self.report.problem(&stray.span(), message, fix);
        }
    }
}
