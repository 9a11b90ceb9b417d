//! Follows the aliases of an answer from the asked name to its addresses.
//!
//! The library returns records of any name a server cares to add; only those that the chain of
//! CNAMEs leads to count. A chain that loops, forks, is too long or names something that is not a
//! host name spoils the whole answer: a resolver that plays such games is not to be believed in
//! part. Nothing is asked for again: the server recurses, and a chain without an end has no address.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

use std::{net::IpAddr, time::Duration};

use egret_policy::{HostError, HostName};
use hickory_resolver::proto::rr::{DNSClass, RData, Record, RecordType};

/// CNAMEs followed for one name. Real chains of content networks have at most five or six.
const MOST_ALIASES: usize = 16;
/// Addresses of one name and family; a megabyte of them is an attack, not an answer.
const MOST_ADDRESSES: usize = 256;

/// What one family's answer says about a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) aliases: Vec<HostName>,
    /// The shortest time to live on the way, or what a negative answer asks for.
    pub(super) ttl: Option<Duration>,
    pub(super) no_such_name: bool,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("more than {MOST_ALIASES} aliases, or a loop of them")]
    TooLong,
    #[error("a name with more than one alias")]
    Forked,
    #[error("an alias that is not a host name")]
    NotAName(#[source] HostError),
    #[error("more than {MOST_ADDRESSES} addresses")]
    TooMany,
}

/// Walks from `asked` through the CNAMEs among `records` to its addresses of `kind`.
pub(super) fn walk(
    asked: &HostName,
    kind: RecordType,
    records: &[Record],
) -> Result<Family, ChainError> {
    let mut family = Family::default();
    let mut owner = asked.clone();
    while let Some((target, ttl)) = alias_of(&owner, records)? {
        if family.aliases.len() == MOST_ALIASES || target == *asked {
            return Err(ChainError::TooLong);
        }
        family.shorten(ttl);
        family.aliases.push(target.clone());
        owner = target;
    }
    let mut records_of_kind = 0;
    for record in records.iter().filter(|record| owns(&owner, record)) {
        let Some(address) = address_of(kind, &record.data) else { continue };
        records_of_kind += 1;
        if records_of_kind > MOST_ADDRESSES {
            return Err(ChainError::TooMany);
        }
        family.shorten(record.ttl);
        // Told twice, it would be dialled twice.
        if !family.addresses.contains(&address) {
            family.addresses.push(address);
        }
    }
    Ok(family)
}

/// The address in a record of the kind that was asked for.
fn address_of(kind: RecordType, data: &RData) -> Option<IpAddr> {
    if let (RecordType::A, RData::A(address)) = (kind, data) {
        return Some(address.0.into());
    }
    if let (RecordType::AAAA, RData::AAAA(address)) = (kind, data) {
        return Some(address.0.into());
    }
    None
}

impl Family {
    fn shorten(&mut self, seconds: u32) {
        let ttl = bounded_ttl(seconds);
        self.ttl = Some(self.ttl.map_or(ttl, |shortest| shortest.min(ttl)));
    }
}

/// A time to live with the highest bit set is none (RFC 2181, section 8).
pub(super) fn bounded_ttl(seconds: u32) -> Duration {
    Duration::from_secs(i32::try_from(seconds).map_or(0, i32::unsigned_abs).into())
}

fn alias_of(owner: &HostName, records: &[Record]) -> Result<Option<(HostName, u32)>, ChainError> {
    let mut alias: Option<(HostName, u32)> = None;
    for record in records.iter().filter(|record| owns(owner, record)) {
        let RData::CNAME(target) = &record.data else { continue };
        let target = HostName::from_wire(&target.0.to_ascii()).map_err(ChainError::NotAName)?;
        match &mut alias {
            None => alias = Some((target, record.ttl)),
            Some((first, ttl)) if *first == target => *ttl = record.ttl.min(*ttl),
            Some(_) => return Err(ChainError::Forked),
        }
    }
    Ok(alias)
}

fn owns(owner: &HostName, record: &Record) -> bool {
    if record.dns_class != DNSClass::IN {
        return false;
    }
    let name = record.name.to_ascii();
    name.strip_suffix('.').unwrap_or(&name).eq_ignore_ascii_case(owner.as_str())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::proto::rr::{
        Name,
        rdata::{A, CNAME},
    };

    use super::*;

    fn name(text: &str) -> HostName {
        HostName::from_wire(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
        let data = RData::A(A(Ipv4Addr::from(address)));
        Record::from_rdata(Name::from_ascii(owner).unwrap(), ttl, data)
    }

    fn cname(owner: &str, ttl: u32, target: &str) -> Record {
        let data = RData::CNAME(CNAME(Name::from_ascii(target).unwrap()));
        Record::from_rdata(Name::from_ascii(owner).unwrap(), ttl, data)
    }

    #[test]
    fn aliases_lead_to_the_addresses_with_the_shortest_time_to_live() {
        let records = [
            cname("www.example.org.", 60, "CDN.example.net."),
            a("cdn.example.net.", 5, [192, 0, 2, 1]),
        ];
        let family = walk(&name("www.example.org"), RecordType::A, &records).unwrap();
        assert_eq!(family.addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(family.aliases, [name("cdn.example.net")]);
        assert_eq!(family.ttl, Some(Duration::from_secs(5)));
    }

    #[test]
    fn records_of_other_names_are_not_believed() {
        let records = [a("other.test.", 60, [127, 0, 0, 1])];
        let family = walk(&name("api.example.com"), RecordType::A, &records).unwrap();
        assert_eq!(family, Family::default());
    }

    #[test]
    fn loops_and_endless_chains_spoil_the_answer() {
        let turn = [cname("a.test.", 1, "b.test."), cname("b.test.", 1, "a.test.")];
        assert_eq!(walk(&name("a.test"), RecordType::A, &turn), Err(ChainError::TooLong));

        let inner = [
            cname("a.test.", 1, "b.test."),
            cname("b.test.", 1, "c.test."),
            cname("c.test.", 1, "b.test."),
        ];
        assert_eq!(walk(&name("a.test"), RecordType::A, &inner), Err(ChainError::TooLong));
    }

    #[test]
    fn an_alias_that_reads_as_an_address_spoils_the_answer() {
        let records = [cname("api.example.com.", 0, "127.0.0.1.")];
        let error = walk(&name("api.example.com"), RecordType::A, &records).unwrap_err();
        assert!(matches!(error, ChainError::NotAName(_)));
    }

    #[test]
    fn addresses_are_capped() {
        let records: Vec<_> =
            (0..=MOST_ADDRESSES).map(|n| a("a.test.", 1, [192, 0, 2, n as u8])).collect();
        assert_eq!(walk(&name("a.test"), RecordType::A, &records), Err(ChainError::TooMany));
        let fewer = &records[..MOST_ADDRESSES];
        assert_eq!(
            walk(&name("a.test"), RecordType::A, fewer).unwrap().addresses.len(),
            MOST_ADDRESSES
        );
    }
}
