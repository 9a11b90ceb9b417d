//! What must hold for every answer of a name server, for the fuzz target and for the bounded test.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    slice,
};

use egret_policy::HostName;
use hickory_resolver::proto::{
    op::Message,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, PTR},
    },
};

use super::{MOST_ADDRESSES, MOST_ALIASES, owns, walk};

/// Panics when an address is believed that the chain from the asked name does not lead to. Bytes
/// that are a message are one; any others spell records of a few names, three bytes each.
pub fn only_the_chain_is_believed(bytes: &[u8]) {
    let Ok(asked) = HostName::from_wire("www.example.org") else { return };
    let records = match Message::from_vec(bytes) {
        Ok(message) => message.answers,
        Err(_) => bytes.chunks_exact(3).map(|spelt| record(spelt[0], spelt[1], spelt[2])).collect(),
    };
    for kind in [RecordType::A, RecordType::AAAA] {
        check(&asked, kind, &records);
    }
}

fn check(asked: &HostName, kind: RecordType, records: &[Record]) {
    let believed = walk(asked, kind, records);

    // What other names have is nobody's business, wherever it stands.
    let strange = record_of("elsewhere.test.", RData::A(A(Ipv4Addr::LOCALHOST)));
    let more = [slice::from_ref(&strange), records, slice::from_ref(&strange)].concat();
    assert_eq!(walk(asked, kind, &more), believed);

    let Ok(family) = believed else { return };
    assert!(family.aliases.len() <= MOST_ALIASES && family.addresses.len() <= MOST_ADDRESSES);
    let mut owner = asked.clone();
    for alias in &family.aliases {
        let mut targets =
            records.iter().filter(|record| owns(&owner, record)).filter_map(|record| {
                let RData::CNAME(to) = &record.data else { return None };
                Some(to.0.to_ascii().trim_end_matches('.').eq_ignore_ascii_case(alias.as_str()))
            });
        assert!(targets.next() == Some(true) && alias != asked, "{owner} does not lead to {alias}");
        assert!(targets.all(|same| same), "{owner} does not lead to {alias} alone");
        owner = alias.clone();
    }
    let at_the_end = |record: &&Record| owns(&owner, record);
    let there: BTreeSet<_> =
        records.iter().filter(at_the_end).filter_map(|record| address_of(kind, record)).collect();
    let told: BTreeSet<_> = family.addresses.iter().copied().collect();
    assert_eq!(told, there, "what {owner} has is told, and nothing else");
    assert_eq!(told.len(), family.addresses.len(), "an address is told twice");
    let aliased =
        records.iter().filter(at_the_end).any(|record| record.record_type() == RecordType::CNAME);
    assert!(!aliased, "the chain goes on behind {owner}");
}

/// Written apart from the one that is tested.
fn address_of(kind: RecordType, record: &Record) -> Option<IpAddr> {
    if record.record_type() != kind {
        return None;
    }
    if let RData::A(found) = record.data {
        return Some(found.0.into());
    }
    if let RData::AAAA(found) = record.data {
        return Some(found.0.into());
    }
    None
}

fn record(owner: u8, kind: u8, value: u8) -> Record {
    let name = |number: u8| NAMES[usize::from(number) % NAMES.len()];
    let data = match kind % 8 {
        0 => RData::A(A(Ipv4Addr::new(192, 0, 2, value))),
        1 => RData::AAAA(AAAA(Ipv6Addr::from(u128::from(value)))),
        2 => RData::PTR(PTR(parsed(name(value)))),
        _ => RData::CNAME(CNAME(parsed(name(value)))),
    };
    record_of(name(owner), data)
}

fn record_of(owner: &str, data: RData) -> Record {
    Record::from_rdata(parsed(owner), 60, data)
}

fn parsed(name: &str) -> Name {
    Name::from_ascii(name).unwrap_or_default()
}

/// The asked name in another case, some for a chain, and two that spoil one.
const NAMES: [&str; 12] = [
    "WWW.example.org.",
    "b.test.",
    "c.test.",
    "d.test.",
    "e.test.",
    "f.test.",
    "g.test.",
    "h.test.",
    "i.test.",
    "127.0.0.1.",
    "*.b.test.",
    "xn--bcher-kva.test.",
];
