//! Reads one line strictly: the fields that egret writes, in the order in which it writes them,
//! each of its kind, and nothing else.
//!
//! Any JSON parser reads a record; this one is for those who doubt it. A second `verdict`, a field
//! that nobody wrote or white space would be read in one way here and in another elsewhere.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::chain::{LineHash, Seals, seals};

/// A line that is well formed, and what of it the chain depends on.
#[derive(Debug)]
pub(super) struct StrictLine<'l> {
    /// What the line's hash is the hash of.
    pub(super) sealed: &'l [u8],
    pub(super) prev: LineHash,
    pub(super) hash: LineHash,
    pub(super) said: Said<'l>,
}

/// What a line says that more depends on than the line itself.
#[derive(Debug, Default)]
pub(super) struct Said<'l> {
    pub(super) seq: u64,
    pub(super) time: Cow<'l, str>,
    pub(super) event: Cow<'l, str>,
    pub(super) segment: Option<Cow<'l, str>>,
    pub(super) begins_at: Option<u64>,
    pub(super) begins_after: Option<Cow<'l, str>>,
    pub(super) key: Option<Cow<'l, str>>,
    pub(super) signature: Option<Cow<'l, str>>,
}

/// Reads a line, without its line feed; says what is wrong with one that egret would not write.
pub(super) fn read(line: &[u8]) -> Result<StrictLine<'_>, String> {
    let Some(Seals { sealed, prev, hash }) = seals(line) else {
        return Err("it does not end in `prev` and `hash`".to_owned());
    };
    // Strings hold these escaped; between fields egret writes none. All of the line is looked at,
    // so that the processor can take many bytes at once.
    if line.iter().fold(false, |found, byte| found | (*byte < b' ')) {
        return Err("it holds a control character".to_owned());
    }
    if !line.starts_with(BEGIN) {
        return Err("it does not begin with `seq`".to_owned());
    }
    let mut reader = serde_json::Deserializer::from_slice(line);
    let said = reader
        .deserialize_map(FieldsInOrder)
        .and_then(|said| reader.end().map(|()| said))
        .map_err(|error| error.to_string())?;
    Ok(StrictLine { sealed, prev, hash, said })
}

/// What a field's value is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Number,
    Text,
    Labels,
    Addresses,
}

/// All fields, in the order in which they are written.
const FIELDS: [(&str, Kind); 37] = [
    ("seq", Kind::Number),
    ("id", Kind::Text),
    ("time", Kind::Text),
    ("event", Kind::Text),
    ("worker", Kind::Text),
    ("labels", Kind::Labels),
    ("listener", Kind::Text),
    ("client", Kind::Text),
    ("method", Kind::Text),
    ("scheme", Kind::Text),
    ("host", Kind::Text),
    ("port", Kind::Number),
    ("path", Kind::Text),
    ("verdict", Kind::Text),
    ("reason", Kind::Text),
    ("rule", Kind::Text),
    ("policy", Kind::Text),
    ("addresses", Kind::Addresses),
    ("pinned", Kind::Text),
    ("sni", Kind::Text),
    ("status", Kind::Number),
    ("bytes_up", Kind::Number),
    ("bytes_down", Kind::Number),
    ("decide_us", Kind::Number),
    ("dns_us", Kind::Number),
    ("connect_us", Kind::Number),
    ("total_ms", Kind::Number),
    ("closed_by", Kind::Text),
    ("count", Kind::Number),
    ("unsigned", Kind::Number),
    ("segment", Kind::Text),
    ("begins_at", Kind::Number),
    ("begins_after", Kind::Text),
    ("key", Kind::Text),
    ("signature", Kind::Text),
    ("prev", Kind::Text),
    ("hash", Kind::Text),
];

const BEGIN: &[u8] = br#"{"seq":"#;

struct FieldsInOrder;

impl<'l> Visitor<'l> for FieldsInOrder {
    type Value = Said<'l>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a record")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut fields: A) -> Result<Said<'l>, A::Error> {
        let mut said = Said::default();
        let mut rest = FIELDS.iter();
        while let Some(name) = fields.next_key_seed(Text)? {
            // Only what comes later is looked through: so none comes twice.
            let Some((name, kind)) = rest.find(|(known, _)| *known == name) else {
                return Err(A::Error::custom("a field that does not belong where it is"));
            };
            match kind {
                Kind::Number => {
                    let number: u64 = fields.next_value()?;
                    match *name {
                        "seq" => said.seq = number,
                        "begins_at" => said.begins_at = Some(number),
                        _ => {}
                    }
                }
                Kind::Text => {
                    let text = fields.next_value_seed(Text)?;
                    match *name {
                        "time" => said.time = text,
                        "event" => said.event = text,
                        "segment" => said.segment = Some(text),
                        "begins_after" => said.begins_after = Some(text),
                        "key" => said.key = Some(text),
                        "signature" => said.signature = Some(text),
                        _ => {}
                    }
                }
                Kind::Labels => fields.next_value_seed(Labels)?,
                Kind::Addresses => fields.next_value_seed(Addresses)?,
            }
        }
        if said.time.is_empty() || said.event.is_empty() {
            return Err(A::Error::custom("no `time` or no `event`"));
        }
        Ok(said)
    }
}

/// A string.
struct Text;

impl<'l> DeserializeSeed<'l> for Text {
    type Value = Cow<'l, str>;

    fn deserialize<D: Deserializer<'l>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_str(self)
    }
}

impl<'l> Visitor<'l> for Text {
    type Value = Cow<'l, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'l str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Strings by name, each name once: they are sorted.
struct Labels;

impl<'l> DeserializeSeed<'l> for Labels {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_map(self)
    }
}

impl<'l> Visitor<'l> for Labels {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut labels: A) -> Result<(), A::Error> {
        let mut last: Option<Cow<'l, str>> = None;
        while let Some(name) = labels.next_key_seed(Text)? {
            labels.next_value_seed(Text)?;
            if last.is_some_and(|last| last >= name) {
                return Err(A::Error::custom("labels that are not sorted"));
            }
            last = Some(name);
        }
        Ok(())
    }
}

/// Strings.
struct Addresses;

impl<'l> DeserializeSeed<'l> for Addresses {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_seq(self)
    }
}

impl<'l> Visitor<'l> for Addresses {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("addresses")
    }

    fn visit_seq<A: SeqAccess<'l>>(self, mut addresses: A) -> Result<(), A::Error> {
        while addresses.next_element_seed(Text)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use serde::Serialize;

    use super::*;
    use crate::record::{
        ClosedBy,
        chain::Chain,
        event::Event,
        line::{HeadLine, Line, MissingLine, RemovedLine},
    };

    fn sealed(record: &impl Serialize) -> String {
        let (mut chain, mut bytes) = (Chain::EMPTY, Vec::new());
        chain.seal(record, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn all_that_is_written_is_read() {
        let text = || Some("text".to_owned());
        // Each field by its name, so that another one does not compile before it is here.
        let line = Line {
            id: text(),
            time: "2026-11-21T12:00:00.000000Z".to_owned(),
            event: Event::Decision,
            worker: text(),
            labels: Some(BTreeMap::from(
                [("a", "b"), ("c", "d")].map(|(k, v)| (k.into(), v.into())),
            )),
            listener: text(),
            client: text(),
            method: text(),
            scheme: Some("https"),
            host: text(),
            port: Some(443),
            path: text(),
            verdict: Some("allow"),
            reason: Some("egress.allowed"),
            rule: text(),
            policy: text(),
            addresses: Some(vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([0; 16])]),
            pinned: text(),
            sni: text(),
            status: Some(200),
            bytes_up: Some(1),
            bytes_down: Some(u64::MAX),
            decide_us: Some(3),
            dns_us: Some(4),
            connect_us: Some(5),
            total_ms: Some(6),
            closed_by: Some(ClosedBy::Client),
            count: Some(7),
            unsigned: Some(8),
        };
        let (time, key, signature, segment) = (&*line.time, "key", "signature", "00000001.jsonl");
        let lines = [
            sealed(&line),
            sealed(&HeadLine { time, event: Event::Head, key, signature }),
            sealed(&MissingLine { time, event: Event::Missing, segment }),
            sealed(&RemovedLine {
                time,
                event: Event::Removed,
                segment,
                begins_at: 9,
                begins_after: "hash",
                key,
                signature,
            }),
        ];
        for line in &lines {
            read(line.trim_end().as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        for (name, _) in FIELDS {
            let field = format!("\"{name}\":");
            assert!(lines.iter().any(|line| line.contains(&field)), "nobody writes {name}");
        }
    }
}
