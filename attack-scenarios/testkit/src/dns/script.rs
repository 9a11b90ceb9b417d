//! The script language of the corpus, and the zone that stands behind it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Protocol};

/// One line of a script: which queries it speaks to, and what it says or does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name, or `*.suffix`; absent in entries that speak of something else than a query.
    pub q: Option<String>,
    /// The type; absent means A.
    pub qtype: Option<Kind>,
    /// Which of the queries for that name and type; absent means any.
    #[serde(default)]
    pub nth: Nth,
    /// Only queries over `udp` or `tcp`.
    pub proto: Option<Proto>,
    /// The answer section.
    #[serde(default)]
    pub answers: Vec<Record>,
    /// The authority section.
    #[serde(default)]
    pub authority: Vec<Record>,
    /// The additional section.
    #[serde(default)]
    pub additional: Vec<Record>,
    /// SERVFAIL, NXDOMAIN or REFUSED.
    pub rcode: Option<Rcode>,
    /// Sets the truncation bit.
    #[serde(default)]
    pub tc: bool,
    /// Gives no answer, whatever the type asked for.
    #[serde(default)]
    pub refuse: bool,
    /// Gives no answer.
    #[serde(default)]
    pub drop: bool,
    /// Answers this much later.
    #[serde(default)]
    pub delay_ms: u64,
    /// `txid`, `source`, `case` or `question:NAME`: an answer that must not be believed, sent first.
    pub forge: Option<String>,
    /// A chain of this many aliases, which ends at `final`.
    pub chain: Option<usize>,
    /// The address at the end of the chain.
    #[serde(rename = "final")]
    pub chain_end: Option<String>,
    /// This many A records.
    pub a_count: Option<usize>,
    /// This many equal A records, so that an encoder has names to compress.
    pub labels: Option<usize>,
    /// An A record with these bytes as its data, and `rdlength`.
    pub rdata_hex: Option<String>,
    /// The length that such a record claims.
    pub rdlength: Option<u16>,
    /// Bytes in place of the answer section.
    pub raw_hex_suffix: Option<String>,
    /// An A record whose owner name is this long.
    pub answer_name_len: Option<usize>,
    /// Not about a query: something happens to the server (`kill resolver after query`).
    pub event: Option<String>,
    /// Not about a query: `rst:ADDRESS`, an origin that refuses connections.
    pub upstream: Option<String>,
    /// Not about a query: extra lines of `resolv.conf`.
    pub resolv_conf: Option<String>,
    /// Not about a query: extra lines of `hosts`.
    pub hosts_file: Option<String>,
    /// For readers.
    pub note: Option<String>,
}

impl Entry {
    /// Whether this entry speaks to the query that is the `count`th for its name and type.
    pub(super) fn applies(&self, name: &str, kind: Kind, protocol: Protocol, count: u32) -> bool {
        let Some(pattern) = self.q.as_deref().map(str::to_ascii_lowercase) else { return false };
        let named = name == pattern
            || pattern.strip_prefix('*').is_some_and(|suffix| {
                suffix.starts_with('.') && name.len() > suffix.len() && name.ends_with(suffix)
            });
        let carried = match self.proto {
            // A long answer cannot come by datagram; asked by UDP it comes cut, with the bit set.
            Some(proto) => self.a_count.is_some() || proto.is(protocol),
            None => true,
        };
        let typed = self.refuse || self.qtype.unwrap_or(Kind::A) == kind;
        named && carried && typed && self.nth.covers(count)
    }
}

/// Which of several equal queries an entry speaks to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Nth {
    /// All of them.
    #[default]
    Any,
    /// This one, counted from 1.
    Exactly(u32),
    /// This one and all later ones (`"2+"`).
    From(u32),
    /// The first, third, fifth …
    Odd,
    /// The second, fourth …
    Even,
    /// One entry of those that say so, by a fixed irregular pattern: a run can be repeated.
    Random,
}

impl Nth {
    fn covers(self, count: u32) -> bool {
        match self {
            Self::Any | Self::Random => true,
            Self::Exactly(nth) => count == nth,
            Self::From(nth) => count >= nth,
            Self::Odd => !count.is_multiple_of(2),
            Self::Even => count.is_multiple_of(2),
        }
    }
}

impl TryFrom<Value> for Nth {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let unknown = format!("unknown `nth` {value}");
        if let Some(number) = value.as_u64() {
            return u32::try_from(number).map(Self::Exactly).map_err(|_| unknown);
        }
        match value.as_str() {
            Some("any") => Ok(Self::Any),
            Some("odd") => Ok(Self::Odd),
            Some("even") => Ok(Self::Even),
            Some("random50") => Ok(Self::Random),
            Some(text) => {
                let number = text.strip_suffix('+').and_then(|digits| digits.parse().ok());
                number.map(Self::From).ok_or(unknown)
            }
            None => Err(unknown),
        }
    }
}

/// The protocol an entry is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl Proto {
    fn is(self, protocol: Protocol) -> bool {
        match (self, protocol) {
            (Self::Udp, Protocol::Udp) | (Self::Tcp, Protocol::Tcp) => true,
            (Self::Udp, Protocol::Tcp | Protocol::Tls | Protocol::Https)
            | (Self::Tcp, Protocol::Udp | Protocol::Tls | Protocol::Https) => false,
        }
    }
}

/// An error that an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Rcode {
    /// 2.
    Servfail,
    /// 3.
    Nxdomain,
    /// 5.
    Refused,
}

/// One resource record of a script.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its owner; absent means the name asked for, or where the alias before it leads.
    #[serde(alias = "owner")]
    pub name: Option<String>,
    /// An address or a name, by type.
    #[serde(default)]
    pub data: String,
    /// Seconds; 5 unless told.
    pub ttl: Option<i64>,
    /// SRV, HTTPS.
    pub target: Option<String>,
    /// SRV.
    pub port: Option<u16>,
    /// HTTPS.
    pub priority: Option<u16>,
    /// HTTPS: `alpn`, `port`, `ipv4hint`.
    pub params: Option<Params>,
    /// TXT: how many bytes of text.
    pub size: Option<usize>,
}

impl Record {
    /// Returns a record of a type with its data, owned by the name asked for.
    pub fn new(kind: Kind, data: &str) -> Self {
        Self {
            kind,
            name: None,
            data: data.to_owned(),
            ttl: None,
            target: None,
            port: None,
            priority: None,
            params: None,
            size: None,
        }
    }
}

/// The parameters of an HTTPS record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Protocols.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Another port.
    pub port: Option<u16>,
    /// Address hints.
    #[serde(default)]
    pub ipv4hint: Vec<String>,
}

/// Names and what they resolve to; a name may be `*.suffix`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone(BTreeMap<String, Addresses>);

/// What one name of a zone has.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// IPv4 addresses.
    #[serde(default, rename = "A")]
    pub a: Vec<String>,
    /// IPv6 addresses.
    #[serde(default, rename = "AAAA")]
    pub aaaa: Vec<String>,
    /// Where the name leads instead.
    #[serde(default, rename = "CNAME")]
    pub cname: Option<OneOrMany>,
}

/// `"x"` or `["x"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Value")]
pub struct OneOrMany(pub String);

impl TryFrom<Value> for OneOrMany {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let first = value.as_array().and_then(|all| all.first()).unwrap_or(&value);
        let name = first.as_str().ok_or_else(|| format!("not a name: {value}"))?;
        Ok(Self(name.to_owned()))
    }
}

impl Zone {
    /// The zone of the corpus, which answers what nothing else does.
    pub fn corpus() -> Self {
        let mut zone = Self::default();
        zone.add("api.example.com", "93.184.216.34");
        zone.add("*.example.org", "93.184.216.35");
        zone.add("evil.test", crate::EVIL);
        zone
    }

    /// Builds a zone from names and their records.
    pub fn new(names: BTreeMap<String, Addresses>) -> Self {
        let normal = |name: String| name.to_ascii_lowercase().trim_end_matches('.').to_owned();
        Self(names.into_iter().map(|(name, found)| (normal(name), found)).collect())
    }

    /// Adds one address, of either family, to a name.
    pub fn add(&mut self, name: &str, address: &str) {
        let found = self.0.entry(name.to_ascii_lowercase()).or_default();
        let family = if address.contains(':') { &mut found.aaaa } else { &mut found.a };
        family.push(address.to_owned());
    }

    /// Returns the names and what they have.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Addresses)> {
        self.0.iter()
    }

    /// Returns what a name has, by itself or by the wildcard of its last two labels.
    pub fn find(&self, name: &str) -> Option<&Addresses> {
        self.0.get(name).or_else(|| {
            let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
            let second = dots.nth(1)?;
            self.0.get(&format!("*{}", &name[second..]))
        })
    }
}
