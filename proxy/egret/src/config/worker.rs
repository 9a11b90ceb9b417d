//! `[[worker]]`: workers that are known by name, and what they prove it with.

use std::sync::Arc;

use egret_policy::{
    Labels, Worker, WorkerId,
    source::{At, Table, Value, shown},
};
use egret_proxy::{KnownWorker, Proofs};
use ipnet::{IpNet, Ipv6Net};

use super::ANONYMOUS;

/// A worker as it was read; what could not be read is missing and has been reported.
pub(super) struct Known {
    pub(super) id: Option<At<WorkerId>>,
    pub(super) labels: Labels,
    pub(super) token_sha256: Listed<At<[u8; 32]>>,
    pub(super) source: Listed<Vec<At<IpNet>>>,
    pub(super) uid: Listed<At<u32>>,
}

/// A proof that a worker may have to give.
pub(super) enum Listed<T> {
    /// It need not be given.
    No,
    /// It must be given, and could not be read.
    Unread,
    /// It must be given.
    As(T),
}

impl<T> Listed<T> {
    fn of(value: Option<Value<'_>>, read: impl FnOnce(&Value<'_>) -> Option<T>) -> Self {
        match value {
            None => Self::No,
            Some(value) => read(&value).map_or(Self::Unread, Self::As),
        }
    }

    /// Whether the proof must be given.
    pub(super) fn is_required(&self) -> bool {
        match self {
            Self::No => false,
            Self::Unread | Self::As(_) => true,
        }
    }

    /// Returns the proof, if it was read.
    pub(super) fn read(&self) -> Option<&T> {
        match self {
            Self::No | Self::Unread => None,
            Self::As(proof) => Some(proof),
        }
    }

    /// Returns the proof as it is required; `None` when it could not be read.
    fn built(self) -> Option<Option<T>> {
        match self {
            Self::No => Some(None),
            Self::Unread => None,
            Self::As(proof) => Some(Some(proof)),
        }
    }
}

impl Known {
    pub(super) fn built(self) -> Option<KnownWorker> {
        let source = self.source.built()?.unwrap_or_default();
        Some(KnownWorker {
            worker: Arc::new(Worker { id: self.id?.value, labels: self.labels }),
            proofs: Proofs {
                token_sha256: self.token_sha256.built()?.map(|token| token.value),
                source: source.into_iter().map(|network| network.value).collect(),
                uid: self.uid.built()?.map(|uid| uid.value),
            },
        })
    }
}

pub(super) fn read(value: &Value<'_>) -> Vec<Known> {
    value.tables("[[worker]]").iter().map(known).collect()
}

fn known(table: &Table<'_>) -> Known {
    let known = Known {
        id: id(table),
        labels: labels(table),
        token_sha256: Listed::of(table.find("token_sha256"), token),
        source: Listed::of(table.find("source"), source),
        uid: Listed::of(table.find("uid"), uid),
    };
    let proofs =
        [known.token_sha256.is_required(), known.source.is_required(), known.uid.is_required()];
    if proofs == [false; 3] {
        table.report().missing(
            table.span(),
            "[[worker]] has no proof: it would never be identified",
            "write the `token_sha256` that `egret worker token ID` prints, or `source = [\"10.1.0.0/16\"]`, or `uid = 1000`",
        );
    }
    if let (Some(id), true) = (&known.id, known.token_sha256.is_required())
        && id.value.as_str().contains(':')
    {
        table.report().problem(
            &id.span,
            "the id of a worker with a token cannot hold a colon: it ends the user name there",
            "write a dot or a hyphen instead",
        );
    }
    if let (Some(span), true) = (table.key_span("uid"), known.source.is_required()) {
        table.report().problem(
            &span,
            "`source` and `uid` on one worker: a connection has an address or a user, never both",
            "leave one out, or write a worker for each",
        );
    }
    known
}

fn id(table: &Table<'_>) -> Option<At<WorkerId>> {
    let value =
        table.require("id", "write `id = \"…\"`, the user name of its proxy credentials")?;
    let text = value.text()?;
    if text.value == ANONYMOUS {
        value.problem(
            format!("the id `{ANONYMOUS}` is reserved for who comes without a proof"),
            "give the worker another id",
        );
        return None;
    }
    match WorkerId::parse(text.value) {
        Ok(id) => Some(At { value: id, span: text.span }),
        Err(error) => {
            let message = format!("`{}` is not an id: {error}", shown(text.value));
            value.problem(message, "write 1 to 128 letters, digits and `.` `_` `@` `-`");
            None
        }
    }
}

fn labels(table: &Table<'_>) -> Labels {
    let Some(labels) = table.find("labels").and_then(|value| value.table("`labels`")) else {
        return Labels::default();
    };
    let read = labels.free_keys().into_iter().filter_map(|(name, value)| {
        if name.value.is_empty() {
            labels.report().problem(&name.span, "a label has no name", "write `name = \"value\"`");
        }
        Some((name.value, value.text()?.value))
    });
    read.collect()
}

fn token(value: &Value<'_>) -> Option<At<[u8; 32]>> {
    let text = value.text()?;
    let Some(digest) = digest(text.value) else {
        value.problem(
            "`token_sha256` is not a SHA-256 in hex: 64 digits",
            "write the one that `egret worker token ID` prints beside the token, never the token",
        );
        return None;
    };
    if digest == OF_NOTHING {
        value.problem(
            "`token_sha256` is the SHA-256 of nothing: there was no token when it was made",
            "make another token with `egret worker token ID`",
        );
        return None;
    }
    Some(At { value: digest, span: text.span })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn source(value: &Value<'_>) -> Option<Vec<At<IpNet>>> {
    let entries = value.list()?.value;
    if entries.is_empty() {
        value.problem(
            "`source` is empty: no address would ever be the worker's",
            "write `source = [\"10.1.0.0/16\"]`, or leave it out",
        );
    }
    let read: Vec<_> = entries.iter().filter_map(network).collect();
    (read.len() == entries.len() && !entries.is_empty()).then_some(read)
}

fn network(entry: &Value<'_>) -> Option<At<IpNet>> {
    let network = entry.network()?;
    if network.value.prefix_len() == 0 {
        entry.problem(
            format!("`{}` is every address there is, which proves nothing", network.value),
            "name the worker's networks, or leave `source` out",
        );
        return None;
    }
    if let IpNet::V6(mapped) = network.value
        && MAPPED.contains(&mapped)
    {
        let v4 = mapped.addr().to_ipv4_mapped().map(|addr| (addr, mapped.prefix_len() - 96));
        let fix = v4.map(|(addr, length)| format!("write `{addr}/{length}`"));
        entry.problem(
            format!("`{mapped}` is a way to write IPv4 networks; clients are compared as IPv4"),
            fix.unwrap_or_default(),
        );
        return None;
    }
    Some(network)
}

fn uid(value: &Value<'_>) -> Option<At<u32>> {
    let uid = value.integer(0..=u64::from(u32::MAX) - 1)?;
    let uid = At { value: u32::try_from(uid.value).ok()?, span: uid.span };
    if uid.value == OVERFLOW {
        value.problem(
            format!("uid {OVERFLOW} also stands for every user that has no number here"),
            "run the worker as a user of its own, and write that one's number",
        );
        return None;
    }
    Some(uid)
}

/// SHA-256 of no bytes at all.
const OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What the kernel shows of a user of another user namespace.
const OVERFLOW: u32 = 65534;

/// IPv4 addresses in IPv6 form (RFC 4291, section 2.5.5.2).
const MAPPED: Ipv6Net =
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
