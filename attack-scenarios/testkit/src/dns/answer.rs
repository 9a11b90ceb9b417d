//! From a question to the datagrams that answer it, honest and forged.

use std::time::Duration;

use super::{
    Entry, Kind, Nth, Protocol, Record, State, Zone,
    script::Rcode,
    wire::{Question, encode_name, encode_record, record_head},
};

/// One message to send back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) delay: Duration,
    /// From an address that was never asked.
    pub(super) from_elsewhere: bool,
}

impl State {
    /// Every reply to a question, the forged ones first; none when the script is silent.
    pub(super) fn answer(&mut self, question: &Question, protocol: Protocol) -> Vec<Reply> {
        let (name, kind) = (question.name.as_str(), question.kind);
        let count = self.count(name, kind);
        let script = self.script.clone();
        let mut entries: Vec<&Entry> =
            script.iter().filter(|entry| entry.applies(name, kind, protocol, count)).collect();
        let random: Vec<&Entry> =
            entries.iter().copied().filter(|entry| entry.nth == Nth::Random).collect();
        if !random.is_empty() {
            entries = vec![random[irregular(count) % random.len()]];
        }
        if entries.iter().any(|entry| entry.drop || entry.refuse) {
            return Vec::new();
        }
        let scripted = script
            .iter()
            .any(|entry| entry.q.as_deref().is_some_and(|q| q.eq_ignore_ascii_case(name)));
        if entries.is_empty() {
            let entry = self.zone_entry(name, kind, scripted);
            return self.build(&entry, question).into_iter().collect();
        }
        let forged = entries.iter().filter(|entry| entry.forge.is_some());
        let honest = entries.iter().filter(|entry| entry.forge.is_none()).take(1);
        forged.chain(honest).filter_map(|entry| self.build(entry, question)).collect()
    }

    fn count(&mut self, name: &str, kind: Kind) -> u32 {
        let count = self.counts.entry((name.to_owned(), kind)).or_default();
        *count += 1;
        *count
    }

    /// An entry from the case's zone or, for names that the script does not speak of, the default.
    fn zone_entry(&self, name: &str, kind: Kind, scripted: bool) -> Entry {
        let corpus = Zone::corpus();
        let behind = if scripted { None } else { corpus.find(name) };
        let Some(found) = self.zone.find(name).or(behind) else {
            let rcode = if scripted { None } else { Some(Rcode::Nxdomain) };
            return Entry { rcode, ..Entry::default() };
        };
        let records = |data: &[String]| data.iter().map(|data| Record::new(kind, data)).collect();
        let answers = match (&found.cname, kind) {
            (Some(to), _) => vec![Record::new(Kind::Cname, &to.0)],
            (None, Kind::A) => records(&found.a),
            (None, Kind::Aaaa) => records(&found.aaaa),
            (
                None,
                Kind::Ns
                | Kind::Cname
                | Kind::Soa
                | Kind::Txt
                | Kind::Srv
                | Kind::Dname
                | Kind::Https
                | Kind::Other(_),
            ) => Vec::new(),
        };
        Entry { answers, ..Entry::default() }
    }

    /// Writes the message of an entry; nothing when the entry cannot be written.
    fn build(&mut self, entry: &Entry, question: &Question) -> Option<Reply> {
        let name = question.name.as_str();
        let (mut body, mut count) = self.answer_section(entry, question)?;
        if let Some(hex) = &entry.rdata_hex {
            body = encode_name(name);
            body.extend(record_head(Kind::A, 5, entry.rdlength?));
            body.extend(from_hex(hex)?);
            count = 1;
        } else if let Some(hex) = &entry.raw_hex_suffix {
            body = vec![0xc0, u8::try_from(12 + question.raw.len()).ok()?];
            body.extend(from_hex(hex)?);
            count = 1;
        } else if let Some(length) = entry.answer_name_len {
            body = [&[63][..], &[b'a'; 63]].concat().repeat(length / 64 + 1);
            body.push(0);
            body.extend(record_head(Kind::A, 5, 4));
            body.extend([93, 184, 216, 34]);
            count = 1;
        }
        for record in entry.authority.iter().chain(&entry.additional) {
            body.extend(encode_record(name, record)?);
        }
        let forge = entry.forge.as_deref().unwrap_or_default();
        let id = if forge == "txid" { question.id ^ 0x5500 } else { question.id };
        let asked = match forge.strip_prefix("question:") {
            Some(other) => {
                let tail = question.raw.get(question.raw.len() - 4..)?;
                [&encode_name(other)[..], tail].concat()
            }
            None if forge == "case" => question.raw.iter().map(|byte| swap_case(*byte)).collect(),
            None => question.raw.clone(),
        };
        let rcode = match entry.rcode {
            None => 0,
            Some(Rcode::Servfail) => 2,
            Some(Rcode::Nxdomain) => 3,
            Some(Rcode::Refused) => 5,
        };
        // A response, authoritative, recursion asked for and available.
        let flags = 0x8580 | rcode | if entry.tc { 0x0200 } else { 0 };
        let mut bytes = Vec::new();
        for number in [id, flags, 1, count, size(&entry.authority)?, size(&entry.additional)?] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(asked);
        bytes.extend(body);
        bytes.truncate(65000);
        Some(Reply {
            bytes,
            delay: Duration::from_millis(entry.delay_ms),
            from_elsewhere: forge == "source",
        })
    }

    /// The answer section and its count. An alias is followed, as a recursor would.
    fn answer_section(&mut self, entry: &Entry, question: &Question) -> Option<(Vec<u8>, u16)> {
        let name = question.name.clone();
        let mut answers = entry.answers.clone();
        if let Some(many) = entry.a_count {
            let address = |n: usize| format!("93.184.{}.{}", n >> 8, n & 255);
            answers = (0..many.min(2000)).map(|n| Record::new(Kind::A, &address(n))).collect();
        }
        if let Some(length) = entry.chain {
            let links = std::iter::once(name.clone())
                .chain((0..length).map(|link| format!("c{link}.example.org")))
                .collect::<Vec<_>>();
            answers = links.windows(2).map(|pair| owned(&pair[0], Kind::Cname, &pair[1])).collect();
            answers.push(owned(links.last()?, Kind::A, entry.chain_end.as_deref()?));
        }
        if let Some(many) = entry.labels {
            answers = vec![Record::new(Kind::A, "93.184.216.35"); many];
        }
        let (mut owner, mut body, mut count) = (name.clone(), Vec::new(), 0);
        for (at, record) in answers.iter().enumerate() {
            body.extend(encode_record(&owner, record)?);
            count += 1;
            if record.kind != Kind::Cname || record.name.is_some() {
                continue;
            }
            owner = record.data.to_ascii_lowercase().trim_end_matches('.').to_owned();
            if owner == name || at + 1 != answers.len() {
                continue;
            }
            for record in self.behind_alias(&owner, question.kind) {
                body.extend(encode_record(&owner, &record)?);
                count += 1;
            }
        }
        Some((body, count))
    }

    /// The records of the wanted type at the end of an alias; asking counts as a query there.
    fn behind_alias(&mut self, name: &str, kind: Kind) -> Vec<Record> {
        let count = self.count(name, kind);
        let applies = |entry: &&Entry| {
            entry.applies(name, kind, Protocol::Udp, count)
                || entry.applies(name, kind, Protocol::Tcp, count)
        };
        let answers = match self.script.iter().find(applies) {
            Some(entry) => entry.answers.clone(),
            None => self.zone_entry(name, kind, false).answers,
        };
        answers.into_iter().filter(|record| record.kind == kind).collect()
    }
}

fn owned(owner: &str, kind: Kind, data: &str) -> Record {
    Record { name: Some(owner.to_owned()), ..Record::new(kind, data) }
}

fn size(records: &[Record]) -> Option<u16> {
    u16::try_from(records.len()).ok()
}

fn swap_case(byte: u8) -> u8 {
    if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte }
}

/// A fixed sequence without a pattern that a cache could follow by chance.
fn irregular(count: u32) -> usize {
    const PATTERN: u32 = 0b0110_1001_1100_1010_0010_1101_1001_0110;
    usize::from((PATTERN >> (count % 32)) & 1 == 1)
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    crate::from_hex(text)
}
