//! Questions and records on the wire. What a script asks for is written even where it is wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::script::{Params, Record};

/// A record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// A name server.
    Ns,
    /// An alias.
    Cname,
    /// The start of a zone.
    Soa,
    /// Text.
    Txt,
    /// An IPv6 address.
    Aaaa,
    /// A service.
    Srv,
    /// An alias of a whole subtree.
    Dname,
    /// A service binding.
    Https,
    /// A type that no script speaks of.
    #[serde(skip)]
    Other(u16),
}

impl Kind {
    /// Returns the number of the type.
    pub fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Dname => 39,
            Self::Https => 65,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u16) -> Self {
        let known = [
            Self::A,
            Self::Ns,
            Self::Cname,
            Self::Soa,
            Self::Txt,
            Self::Aaaa,
            Self::Srv,
            Self::Dname,
            Self::Https,
        ];
        known.into_iter().find(|kind| kind.number() == number).unwrap_or(Self::Other(number))
    }
}

/// What a query asks.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) id: u16,
    /// In lower case, without the root dot; bytes are taken as Latin-1.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The question section as it came, letter case and all.
    pub(super) raw: Vec<u8>,
}

impl Question {
    /// Reads the first question of a query; `None` when it is not one.
    pub(super) fn read(query: &[u8]) -> Option<Self> {
        let (mut labels, mut at) = (Vec::new(), 12);
        loop {
            let length = usize::from(*query.get(at)?);
            if length == 0 {
                break;
            }
            let label = query.get(at + 1..at + 1 + length)?;
            labels.push(label.iter().map(|byte| char::from(*byte)).collect::<String>());
            at += 1 + length;
        }
        let kind = u16::from_be_bytes(query.get(at + 1..at + 3)?.try_into().ok()?);
        Some(Self {
            id: u16::from_be_bytes(query[..2].try_into().ok()?),
            name: labels.join(".").to_lowercase(),
            kind: Kind::from_number(kind),
            raw: query.get(12..at + 5)?.to_vec(),
        })
    }
}

/// A name as labels, uncompressed. A label that is too long is cut.
pub(super) fn encode_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.trim_matches('.').split('.').filter(|label| !label.is_empty()) {
        let bytes: Vec<u8> =
            label.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).take(63).collect();
        out.push(u8::try_from(bytes.len()).unwrap_or(63));
        out.extend(bytes);
    }
    out.push(0);
    out
}

/// One record; `None` when its data does not fit its type.
pub(super) fn encode_record(owner: &str, record: &Record) -> Option<Vec<u8>> {
    let data = match record.kind {
        Kind::A => record.data.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        Kind::Aaaa => record.data.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        Kind::Cname | Kind::Ns | Kind::Dname => encode_name(&record.data),
        Kind::Txt => {
            let text = [&[255][..], &[b'x'; 255]].concat();
            text.repeat(record.size.unwrap_or(256) / 256)
        }
        Kind::Srv => {
            let mut data = vec![0, 1, 0, 1];
            data.extend(record.port?.to_be_bytes());
            data.extend(encode_name(record.target.as_deref()?));
            data
        }
        Kind::Https => {
            let mut data = record.priority?.to_be_bytes().to_vec();
            data.extend(encode_name(record.target.as_deref()?));
            data.extend(encode_params(&record.params.clone().unwrap_or_default())?);
            data
        }
        Kind::Soa | Kind::Other(_) => return None,
    };
    let ttl = record.ttl.unwrap_or(5);
    let mut out = encode_name(record.name.as_deref().unwrap_or(owner));
    out.extend(record_head(record.kind, ttl, u16::try_from(data.len()).ok()?));
    out.extend(data);
    Some(out)
}

/// Type, class, time to live and data length.
pub(super) fn record_head(kind: Kind, ttl: i64, length: u16) -> Vec<u8> {
    // A negative TTL of a script is meant as its bits.
    let ttl = u32::try_from(ttl & 0xffff_ffff).unwrap_or(0);
    let mut out = kind.number().to_be_bytes().to_vec();
    out.extend(1_u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend(length.to_be_bytes());
    out
}

fn encode_params(params: &Params) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut put = |key: u16, value: Vec<u8>| -> Option<()> {
        out.extend(key.to_be_bytes());
        out.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        out.extend(value);
        Some(())
    };
    if !params.alpn.is_empty() {
        let mut value = Vec::new();
        for protocol in &params.alpn {
            value.push(u8::try_from(protocol.len()).ok()?);
            value.extend(protocol.bytes());
        }
        put(1, value)?;
    }
    if let Some(port) = params.port {
        put(3, port.to_be_bytes().to_vec())?;
    }
    if !params.ipv4hint.is_empty() {
        let mut value = Vec::new();
        for address in &params.ipv4hint {
            value.extend(address.parse::<Ipv4Addr>().ok()?.octets());
        }
        put(4, value)?;
    }
    Some(out)
}
