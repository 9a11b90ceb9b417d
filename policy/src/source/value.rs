//! A value of a [`Document`](super::Document), read as the type it should have.
//!
//! Each reading returns nothing after it has reported what is wrong, so a caller only says what
//! it wants and goes on with what is there.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use toml::Spanned;
use toml::de::DeValue;
use toml::value::{Datetime, Offset as TomlOffset};

use super::{At, Report, Span, Table, nearest, shown, units};

/// A value with the key it belongs to.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    /// What problems call the table that the key is in.
    within: &'static str,
    key: &'static str,
    role: Role,
    inner: &'d Spanned<DeValue<'d>>,
    report: &'d Report<'d>,
}

/// What a value is to the key that problems name.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// What the key holds.
    Whole,
    /// One entry of the list that the key holds.
    Entry,
    /// The value of a free key in the table of that name.
    Member,
}

impl<'d> Value<'d> {
    pub(super) fn new(
        within: &'static str,
        key: &'static str,
        role: Role,
        inner: &'d Spanned<DeValue<'d>>,
        report: &'d Report<'d>,
    ) -> Self {
        Self { within, key, role, inner, report }
    }

    /// Returns where the value stands.
    pub fn span(&self) -> Span {
        self.inner.span()
    }

    /// Returns where problems with the value go.
    pub fn report(&self) -> &'d Report<'d> {
        self.report
    }

    /// Reports a problem with the value.
    pub fn problem(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.report.problem(&self.span(), message, fix);
    }

    /// Whether a table stands here; says nothing if not.
    pub fn is_table(&self) -> bool {
        matches!(self.inner.get_ref(), DeValue::Table(_))
    }

    /// Whether a text stands here; says nothing if not.
    pub fn is_text(&self) -> bool {
        matches!(self.inner.get_ref(), DeValue::String(_))
    }

    /// Reads a text.
    pub fn text(&self) -> Option<At<&'d str>> {
        match self.inner.get_ref() {
            DeValue::String(text) => Some(self.at(text)),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self.refuse("a text", "put it in quotes"),
        }
    }

    /// Reads one of several words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<At<T>> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text.value);
        if let Some((_, choice)) = found {
            return Some(self.at(*choice));
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let fix = match nearest(text.value, choices.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write {}", words.join(" or ")),
        };
        self.problem(format!("{} cannot be `{}`", self.name(), shown(text.value)), fix);
        None
    }

    /// Reads `true` or `false`.
    pub fn boolean(&self) -> Option<At<bool>> {
        match self.inner.get_ref() {
            DeValue::Boolean(value) => Some(self.at(*value)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self.refuse("true or false", "write it without quotes"),
        }
    }

    /// Reads a whole number within a range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<At<u64>> {
        let DeValue::Integer(integer) = self.inner.get_ref() else {
            return self.refuse("a whole number", "write digits without quotes");
        };
        let read = i128::from_str_radix(integer.as_str(), integer.radix());
        match read.ok().and_then(|value| u64::try_from(value).ok()) {
            Some(value) if range.contains(&value) => Some(self.at(value)),
            Some(_) | None => {
                let (low, high) = (range.start(), range.end());
                let fix = match *high == u64::MAX || *high == u64::from(u32::MAX) {
                    true => format!("write a number of at least {low}"),
                    false => format!("write a number from {low} to {high}"),
                };
                self.problem(format!("{} is out of range", self.name()), fix);
                None
            }
        }
    }

    /// Reads a list.
    pub fn list(&self) -> Option<At<Vec<Value<'d>>>> {
        match self.inner.get_ref() {
            DeValue::Array(entries) => {
                let entry =
                    |inner| Value::new(self.within, self.key, Role::Entry, inner, self.report);
                Some(self.at(entries.iter().map(entry).collect()))
            }
            DeValue::Table(_) => {
                let fix = format!("write it as `[[{}]]`, once for each", self.header());
                self.refuse("a list", &fix)
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => self.refuse("a list", "put it in brackets: `[ … ]`"),
        }
    }

    /// Reads a list of tables; what is no table is reported and left out. `name` is what problems
    /// call each of them.
    pub fn tables(&self, name: &'static str) -> Vec<Table<'d>> {
        let entries = self.list().map(|list| list.value).unwrap_or_default();
        entries.iter().filter_map(|entry| entry.table(name)).collect()
    }

    /// Reads a list of texts; what is no text is reported and left out.
    pub fn texts(&self) -> Option<At<Vec<At<&'d str>>>> {
        Some(self.list()?.map(|list| list.iter().filter_map(Value::text).collect()))
    }

    /// Reads a table; `name` is what problems call it.
    pub fn table(&self, name: &'static str) -> Option<Table<'d>> {
        match self.inner.get_ref() {
            DeValue::Table(entries) => Some(Table::new(name, entries, self.span(), self.report)),
            DeValue::Array(_) => {
                let fix = format!("write `[{}]` or `{{ … }}`, once", self.header());
                self.refuse("a table", &fix)
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => self.refuse("a table", "put it in braces: `{ key = … }`"),
        }
    }

    /// Reads a duration such as `500ms`, `30s`, `5m`, `1h` or `90d`; zero is out of range.
    pub fn duration(&self) -> Option<At<Duration>> {
        if let DeValue::Integer(integer) = self.inner.get_ref() {
            let fix = format!("write `\"{integer}s\"` for seconds");
            self.problem(format!("{} has no unit", self.name()), fix);
            return None;
        }
        let text = self.text()?;
        match units::duration(text.value) {
            Some(duration) => Some(self.at(duration)),
            None => {
                let message = format!("{} is not a duration: `{}`", self.name(), shown(text.value));
                self.problem(message, "write a positive whole number and ms, s, m, h or d: `30s`");
                None
            }
        }
    }

    /// Reads a number of bytes such as `64KiB`, `1GiB` or a plain integer; zero is out of range.
    pub fn bytes(&self) -> Option<At<u64>> {
        if matches!(self.inner.get_ref(), DeValue::Integer(_)) {
            return self.integer(1..=u64::MAX);
        }
        let text = self.text()?;
        match units::bytes(text.value) {
            Some(bytes) => Some(self.at(bytes)),
            None => {
                let message = format!("{} is not a size: `{}`", self.name(), shown(text.value));
                self.problem(
                    message,
                    "write a positive whole number and B, KiB, MiB, GiB or TiB: `64KiB`",
                );
                None
            }
        }
    }

    /// Reads an instant: a date and time with its offset from UTC.
    pub fn instant(&self) -> Option<At<Timestamp>> {
        let DeValue::Datetime(written) = self.inner.get_ref() else {
            return self.refuse("a date and time", "write `2027-01-01T00:00:00Z`, without quotes");
        };
        match timestamp(written) {
            Some(timestamp) => Some(self.at(timestamp)),
            None => {
                let message = format!("{} is not an instant: `{written}`", self.name());
                self.problem(message, "write date, time and offset: `2027-01-01T00:00:00Z`");
                None
            }
        }
    }

    /// Reads an IP address with a port.
    pub fn socket_address(&self) -> Option<At<SocketAddr>> {
        let text = self.text()?;
        match text.value.parse() {
            Ok(address) => Some(self.at(address)),
            Err(_) => {
                let message = format!("{} is not an address: `{}`", self.name(), shown(text.value));
                self.problem(
                    message,
                    "write an IP address and a port: `127.0.0.1:3128`, `[::1]:3128`",
                );
                None
            }
        }
    }

    /// Reads a network in normal form: an address with all bits behind the prefix clear.
    pub fn network(&self) -> Option<At<IpNet>> {
        let text = self.text()?.value;
        let Ok(network) = text.parse::<IpNet>() else {
            let fix = match text.parse::<IpAddr>() {
                Ok(address) => format!("write `{}`", IpNet::from(address)),
                Err(_) => "write a network such as `10.20.0.0/16` or `2001:db8::/32`".to_owned(),
            };
            self.problem(format!("`{}` is not a network", shown(text)), fix);
            return None;
        };
        let normal = network.trunc().to_string();
        if normal != text {
            let message = match network == network.trunc() {
                true => format!("network `{}` is not in normal form", shown(text)),
                false => format!("network `{}` has bits set behind its prefix", shown(text)),
            };
            self.problem(message, format!("write `{normal}`"));
            return None;
        }
        Some(self.at(network))
    }

    /// Returns what problems call the value.
    pub fn name(&self) -> String {
        match self.role {
            Role::Whole => format!("`{}`", self.key),
            Role::Entry => format!("an entry of `{}`", self.key),
            Role::Member => format!("a value of {}", self.key),
        }
    }

    /// The key as a header has it: behind the name of its table, where that has a header.
    fn header(&self) -> String {
        let table = self.within.strip_prefix("`[").and_then(|name| name.strip_suffix("]`"));
        match table.map(|name| name.trim_matches(['[', ']'])) {
            Some(table) => format!("{table}.{}", self.key),
            None => self.key.to_owned(),
        }
    }

    fn at<T>(&self, value: T) -> At<T> {
        At { value, span: self.span() }
    }

    fn refuse<T>(&self, wanted: &str, fix: &str) -> Option<T> {
        let found = match self.inner.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(format!("{} must be {wanted}, not {found}", self.name()), fix);
        None
    }
}

/// Nothing without an offset: a local time is another instant on another machine.
fn timestamp(written: &Datetime) -> Option<Timestamp> {
    let Datetime { date, time, offset } = written;
    let (date, time, offset) = (date.as_ref()?, time.as_ref()?, offset.as_ref()?);
    let minutes = match offset {
        TomlOffset::Z => 0,
        TomlOffset::Custom { minutes } => i32::from(*minutes),
    };
    // A leap second, which no clock here shows, is the second before it.
    let second = time.second.unwrap_or(0).min(59);
    let civil = DateTime::new(
        i16::try_from(date.year).ok()?,
        i8::try_from(date.month).ok()?,
        i8::try_from(date.day).ok()?,
        i8::try_from(time.hour).ok()?,
        i8::try_from(time.minute).ok()?,
        i8::try_from(second).ok()?,
        i32::try_from(time.nanosecond.unwrap_or(0)).ok()?,
    );
    let offset = Offset::from_seconds(minutes.checked_mul(60)?).ok()?;
    // No year of the format is too early; the last hours of 9999 are behind the last instant.
    Some(offset.to_timestamp(civil.ok()?).unwrap_or(Timestamp::MAX))
}
