//! Generates `src/address/table.rs` from `data/*.csv` and demands that the committed file is it.
//!
//! `EGRET_BLESS=1 cargo test -p egret-policy --test tables` writes the file. Every row of the four
//! tables has a place here: a row that is neither turned into an entry nor named as one that needs
//! none fails the generator, so that a new kind of address is thought about.

#![expect(clippy::disallowed_methods, reason = "a generator reads the environment and writes")]
#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

#[test]
fn the_committed_table_is_what_the_data_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/address/table.rs");
    let generated = generate();
    if std::env::var_os("EGRET_BLESS").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == generated, "table.rs is stale: run this test with EGRET_BLESS=1");
}

fn generate() -> String {
    let blocks = special_blocks();
    let metadata = metadata();
    let mut out = String::from(HEADER);
    writeln!(out, "pub(super) static BLOCKS: [SpecialBlock; {}] = [", blocks.len()).unwrap();
    for Block { prefix, name, source } in &blocks {
        writeln!(out, "    block({:?}, {name:?}, {source:?}),", prefix.to_string()).unwrap();
    }
    out.push_str("];\n");
    let v4: Vec<_> = blocks.iter().map(|block| bounds_v4(&block.prefix)).collect();
    let v6: Vec<_> = blocks.iter().map(|block| bounds_v6(&block.prefix)).collect();
    ranges(&mut out, "SPECIAL_V4", "u32", &flatten(&v4), hex32);
    ranges(&mut out, "SPECIAL_V6", "u128", &flatten(&v6), hex128);

    let v4: Vec<_> = metadata.networks.iter().filter_map(bounds_v4).collect();
    let v6: Vec<_> = metadata.networks.iter().filter_map(bounds_v6).collect();
    spans(&mut out, "METADATA_V4", "u32", &v4, hex32);
    spans(&mut out, "METADATA_V6", "u128", &v6, hex128);
    writeln!(out, "\npub(super) static METADATA_NAMES: [&str; {}] = [", metadata.names.len())
        .unwrap();
    for name in &metadata.names {
        writeln!(out, "    {name:?},").unwrap();
    }
    out.push_str("];\n");

    let forms = embedding_forms();
    writeln!(out, "\npub(super) static FORMS: [(u128, u8, EmbeddedForm); {}] = [", forms.len())
        .unwrap();
    for (network, form) in &forms {
        let (first, length) = (hex128(network.network().to_bits()), network.prefix_len());
        writeln!(out, "    ({first}, {length}, EmbeddedForm::{form}),").unwrap();
    }
    out.push_str("];\n");
    out
}

struct Block {
    prefix: IpNet,
    name: String,
    source: String,
}

fn special_blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for row in rows(include_str!("../data/iana-special.csv")) {
        let [prefix, name, rfc, _reachable] = row.try_into().unwrap();
        let name = name.trim_matches('"').to_owned();
        blocks.push(Block { prefix: prefix.parse().unwrap(), name, source: rfc });
    }
    let mut ruled = 0;
    for row in rows(include_str!("../data/special-not-in-iana.csv")) {
        let [prefix, name, source, _status, _note] = row.try_into().unwrap();
        match prefix.as_str() {
            // A rule in the code: what is outside 2000::/3 and in no block is unallocated.
            "everything outside 2000::/3" => ruled += 1,
            // Known to the operator alone: `[network] nat64`.
            prefix if prefix.starts_with("operator NAT64 prefixes") => ruled += 1,
            prefix => blocks.push(Block { prefix: prefix.parse().unwrap(), name, source }),
        }
    }
    assert_eq!(ruled, 2, "both rows that are rules in the code are there");
    blocks.sort_by_key(|block| (block.prefix.network(), block.prefix.prefix_len()));
    blocks
}

#[derive(Default)]
struct Metadata {
    networks: BTreeSet<IpNet>,
    names: BTreeSet<String>,
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    for row in rows(include_str!("../data/metadata-endpoints.csv")) {
        let [provider, service, places, _path, class] = row.try_into().unwrap();
        match (provider.as_str(), service.as_str()) {
            // Metadata by habit only: loopback, bridge, cluster and host addresses and their
            // names are an operator's own and fall under their private block.
            ("Azure Arc", "HIMDS")
            | ("Kubernetes", "API server" | "kubelet")
            | ("Docker", "host alias" | "embedded DNS")
            | ("Podman / Lima / Colima", "host alias")
            | ("Docker/containerd", "API sockets") => continue,
            ("Azure App Service / Functions", "MSI endpoint") => {
                assert_eq!(places, "169.254.129.x or 127.0.0.1 via IDENTITY_ENDPOINT");
                metadata.networks.insert("169.254.129.0/24".parse().unwrap());
                continue;
            }
            ("GCP", "metadata server name") => {
                assert_eq!(class, "name; also short form metadata");
                metadata.names.insert("metadata".to_owned());
            }
            _ => {}
        }
        for place in places.split(" ; ") {
            match place.parse::<IpAddr>() {
                Ok(address) => drop(metadata.networks.insert(address.into())),
                Err(_) => drop(metadata.names.insert(checked_name(place))),
            }
        }
    }
    metadata
}

fn checked_name(text: &str) -> String {
    let name = egret_policy::HostName::from_wire(text).unwrap();
    assert_eq!(name.as_str(), text);
    text.to_owned()
}

/// The encodings by the place of the IPv4 address, which is code (`address/embedded.rs`).
fn embedding_forms() -> Vec<(Ipv6Net, &'static str)> {
    let mut forms = Vec::new();
    for row in rows(include_str!("../data/ipv6-transition.csv")) {
        let layout = match row[0].as_str() {
            "IPv4-mapped" => "Mapped",
            "IPv4-compatible" => "Compatible",
            "IPv4-translated (SIIT)" => "Translated",
            "NAT64 well-known" => "Nat64",
            "NAT64 local-use, /96 style" | "NAT64 local-use, RFC 6052 /48 layout" => "Nat64Local",
            "6to4" => "SixToFour",
            "Teredo" => "Teredo",
            // An interface identifier below any prefix: code.
            "ISATAP" | "ISATAP link-local" => continue,
            // Known to the operator alone: `[network] nat64`.
            "NAT64 network-specific" => continue,
            // Nothing is embedded; special blocks like others.
            "6to4 relay anycast" | "Site-local" | "Dummy prefix" | "SRv6 SIDs"
            | "Documentation" => continue,
            // Never a host (`host.rs`).
            "Scoped literal" => continue,
            unknown => panic!("{unknown}: no layout is known for this encoding"),
        };
        let prefix = row[1].split(' ').next().unwrap().parse().unwrap();
        if !forms.contains(&(prefix, layout)) {
            forms.push((prefix, layout));
        }
    }
    forms.sort();
    forms
}

/// Cuts nested blocks into ranges that do not overlap; the narrowest block names each.
fn flatten<N: Number>(blocks: &[Option<(N, N)>]) -> Vec<(N, N, usize)> {
    let mut starts = BTreeSet::new();
    for (first, last) in blocks.iter().flatten() {
        starts.insert(*first);
        starts.extend(last.next());
    }
    let starts: Vec<N> = starts.into_iter().collect();
    let mut ranges: Vec<(N, N, usize)> = Vec::new();
    for (at, &first) in starts.iter().enumerate() {
        let last = starts.get(at + 1).map_or(N::MAX, |next| next.before());
        // Blocks are sorted by length within a network, so the last that holds is the narrowest.
        let holds = |block: &Option<(N, N)>| block.is_some_and(|(a, b)| a <= first && last <= b);
        let Some(block) = blocks.iter().rposition(holds) else { continue };
        match ranges.last_mut() {
            Some((_, end, before)) if *before == block && end.next() == Some(first) => *end = last,
            _ => ranges.push((first, last, block)),
        }
    }
    ranges
}

trait Number: Copy + Ord {
    const MAX: Self;
    fn next(self) -> Option<Self>;
    fn before(self) -> Self;
}

impl Number for u32 {
    const MAX: Self = u32::MAX;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn before(self) -> Self {
        self - 1
    }
}

impl Number for u128 {
    const MAX: Self = u128::MAX;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn before(self) -> Self {
        self - 1
    }
}

fn bounds_v4(network: &IpNet) -> Option<(u32, u32)> {
    match network {
        IpNet::V4(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
        IpNet::V6(_) => None,
    }
}

fn bounds_v6(network: &IpNet) -> Option<(u128, u128)> {
    match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
    }
}

fn ranges<N: Number>(
    out: &mut String,
    name: &str,
    number: &str,
    ranges: &[(N, N, usize)],
    hex: fn(N) -> String,
) {
    let count = ranges.len();
    writeln!(out, "\npub(super) static {name}: [({number}, {number}, u8); {count}] = [").unwrap();
    for (first, last, block) in ranges {
        writeln!(out, "    ({}, {}, {block}),", hex(*first), hex(*last)).unwrap();
    }
    out.push_str("];\n");
}

fn spans<N: Number>(
    out: &mut String,
    name: &str,
    number: &str,
    spans: &[(N, N)],
    hex: fn(N) -> String,
) {
    let count = spans.len();
    writeln!(out, "\npub(super) static {name}: [({number}, {number}); {count}] = [").unwrap();
    for (first, last) in spans {
        writeln!(out, "    ({}, {}),", hex(*first), hex(*last)).unwrap();
    }
    out.push_str("];\n");
}

fn hex32(number: u32) -> String {
    format!("0x{:04x}_{:04x}", number >> 16, number & 0xffff)
}

fn hex128(number: u128) -> String {
    let groups = Ipv6Addr::from_bits(number).segments().map(|group| format!("{group:04x}"));
    format!("0x{}", groups.join("_"))
}

/// The rows below the heading; a field may be quoted, with doubled quotes inside.
fn rows(csv: &str) -> Vec<Vec<String>> {
    csv.lines().skip(1).map(row).collect()
}

fn row(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut bytes = line.chars().peekable();
    while let Some(byte) = bytes.next() {
        let field = fields.last_mut().unwrap();
        match byte {
            '"' if quoted && bytes.peek() == Some(&'"') => field.push(bytes.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            byte => field.push(byte),
        }
    }
    assert!(!quoted, "a quoted field ends on its line: {line}");
    fields
}

const HEADER: &str = "\
//! Generated from `data/*.csv` by `tests/tables.rs`; `EGRET_BLESS=1` writes it anew.
//!
//! Ranges are sorted and do not overlap; the number in a range is the place of its block, the
//! narrowest one that holds the range, in `BLOCKS`.

use super::SpecialBlock;
use super::embedded::EmbeddedForm;

const fn block(prefix: &'static str, name: &'static str, source: &'static str) -> SpecialBlock {
    SpecialBlock { prefix, name, source }
}

";
