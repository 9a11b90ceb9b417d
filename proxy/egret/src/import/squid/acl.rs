//! The lists of a squid.conf: `acl NAME TYPE VALUE…`, and those that are always there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::line::Line;
use crate::{
    config::ANONYMOUS,
    import::{Refused, page::Entry},
};

/// What a list says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Acl {
    All,
    /// Hosts that are asked for.
    Hosts(Vec<Entry>),
    /// Addresses that are connected to.
    Addresses(Vec<IpNet>),
    Ports(Ports),
    Methods(BTreeSet<String>),
    /// Addresses that workers come from, as they are written: a label stands for them.
    Sources(Vec<String>),
    /// Users who have shown a password; `None` stands for whoever has.
    Users(Option<Vec<String>>),
    /// What egret has not, or refuses whatever the policy says.
    Moot(&'static str),
    /// What no rule can say.
    Foreign(String),
}

impl Acl {
    pub(super) fn hosts(&self) -> Option<&[Entry]> {
        let Self::Hosts(hosts) = self else { return None };
        Some(hosts)
    }

    pub(super) fn addresses(&self) -> Option<&[IpNet]> {
        let Self::Addresses(networks) = self else { return None };
        Some(networks)
    }

    pub(super) fn ports(&self) -> Option<&Ports> {
        let Self::Ports(ports) = self else { return None };
        Some(ports)
    }

    /// Returns how many values are gone through where it is used.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Hosts(hosts) => hosts.len(),
            Self::Addresses(networks) => networks.len(),
            Self::Ports(ports) => ports.0.len(),
            Self::Methods(methods) => methods.len(),
            Self::Users(Some(users)) => users.len(),
            Self::All | Self::Sources(_) | Self::Users(None) | Self::Moot(_) | Self::Foreign(_) => {
                1
            }
        }
    }

    /// Returns why it plays no part.
    pub(super) fn moot(&self) -> Option<&'static str> {
        let Self::Moot(why) = self else { return None };
        Some(why)
    }
}

/// Ports, as ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ports(Vec<(u16, u16)>);

impl Ports {
    pub(super) fn contain(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Returns the ports that are named one by one or almost so, and of a wide range the usual.
    pub(super) fn listed(&self) -> BTreeSet<u16> {
        let narrow = self.0.iter().filter(|range| Self::width(range) <= NARROW);
        let usual = USUAL.into_iter().filter(|port| self.contain(*port));
        narrow.flat_map(|(first, last)| *first..=*last).chain(usual).collect()
    }

    pub(super) fn has_wide_range(&self) -> bool {
        self.0.iter().any(|range| Self::width(range) > NARROW)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn width((first, last): &(u16, u16)) -> u32 {
        u32::from(*last) - u32::from(*first) + 1
    }
}

/// A list as all lines of the file make it.
pub(super) struct Known {
    /// The name as it was first written: squid tells no case apart.
    pub(super) name: String,
    /// The first line; a line before it knows no such list.
    since: usize,
    pub(super) acl: Acl,
}

/// The lists of a file, by name in small letters.
pub(super) struct Acls(BTreeMap<String, Known>);

impl Acls {
    /// The lists that squid has before it reads the file.
    pub(super) fn predefined() -> Self {
        let localhost = ["127.0.0.1/32", "::1/128"].map(str::to_owned).to_vec();
        let connect = BTreeSet::from(["CONNECT".to_owned()]);
        let moot = "egret refuses this machine and link-local addresses whatever a rule says";
        let lists = [
            ("all", Acl::All),
            (MANAGER, Acl::Moot("egret has no cache manager")),
            ("localhost", Acl::Sources(localhost)),
            ("to_localhost", Acl::Moot(moot)),
            ("to_linklocal", Acl::Moot(moot)),
            ("CONNECT", Acl::Methods(connect)),
        ];
        let known = |(name, acl): (&str, Acl)| {
            (name.to_ascii_lowercase(), Known { name: name.to_owned(), since: 0, acl })
        };
        Self(lists.into_iter().map(known).collect())
    }

    pub(super) fn find(&self, name: &str) -> Option<&Known> {
        self.0.get(&name.to_ascii_lowercase())
    }

    /// Returns the list that a line means by a name.
    pub(super) fn find_from(&self, line: usize, name: &str) -> Option<&Known> {
        self.find(name).filter(|known| known.since < line)
    }

    /// Takes the words after `acl`; values of one name add up.
    pub(super) fn add(&mut self, line: &Line) -> Result<(), Refused> {
        let [_, name, kind, values @ ..] = &line.words[..] else {
            return Err(Refused::new(line.number, "an `acl` has a name and a type"));
        };
        let (key, new) = (name.to_ascii_lowercase(), read(kind, values));
        let is_stock = key == MANAGER && is_cache_manager(kind, values);
        let Some(Known { name, since, acl }) = self.0.remove(&key) else {
            let known = Known { name: name.clone(), since: line.number, acl: new };
            self.0.insert(key, known);
            return Ok(());
        };
        let acl = match (acl, new) {
            // Files of older releases say themselves what is predefined now.
            (Acl::All, Acl::Sources(sources))
                if sources.iter().any(|source| is_everything(source)) =>
            {
                Acl::All
            }
            (Acl::Moot(why), _) if is_stock => Acl::Moot(why),
            (Acl::Moot(_), new) => new,
            (known, new) => together(known, new),
        };
        self.0.insert(key, Known { name, since, acl });
        Ok(())
    }
}

/// Whether values are those that squid has, or had, for its own pages, and nothing besides.
fn is_cache_manager(kind: &str, values: &[String]) -> bool {
    let is_stock = |value: &String| MANAGER_VALUES.contains(&value.as_str());
    match kind {
        "proto" => values == ["cache_object"],
        "url_regex" => values.iter().all(is_stock),
        _ => false,
    }
}

/// What was said of a list, and what is said in addition.
fn together(known: Acl, new: Acl) -> Acl {
    match (known, new) {
        (Acl::Hosts(mut known), Acl::Hosts(new)) => {
            known.extend(new);
            Acl::Hosts(known)
        }
        (Acl::Addresses(mut known), Acl::Addresses(new)) => {
            known.extend(new);
            Acl::Addresses(known)
        }
        (Acl::Sources(mut known), Acl::Sources(new)) => {
            known.extend(new);
            Acl::Sources(known)
        }
        (Acl::Ports(mut known), Acl::Ports(new)) => {
            known.0.extend(new.0);
            Acl::Ports(known)
        }
        (Acl::Methods(mut known), Acl::Methods(new)) => {
            known.extend(new);
            Acl::Methods(known)
        }
        (Acl::Users(Some(mut known)), Acl::Users(Some(new))) => {
            known.extend(new);
            Acl::Users(Some(known))
        }
        (Acl::All, Acl::All) => Acl::All,
        (Acl::Users(_), Acl::Users(_)) => Acl::Users(None),
        (Acl::Foreign(why), _) | (_, Acl::Foreign(why)) => Acl::Foreign(why),
        (_, _) => Acl::Foreign("a list of two types".to_owned()),
    }
}

/// Whether a network is all of IPv4, which once was all there is.
fn is_everything(source: &str) -> bool {
    network(source).is_ok_and(|network| network.prefix_len() == 0)
}

/// Reads values; one that is not understood makes the whole list one that no rule can say.
fn read(kind: &str, values: &[String]) -> Acl {
    let values: Vec<_> = match values {
        // No look-ups, and no case: neither makes a difference to what is read here.
        [flag, rest @ ..] if kind == "dstdomain" && flag == "-n" => rest.iter().collect(),
        values => values.iter().collect(),
    };
    if let Some(value) = values.iter().find(|value| value.starts_with(['"', '\'', '-'])) {
        return Acl::Foreign(format!("`{value}` names a file or an option"));
    }
    if values.is_empty() {
        return Acl::Foreign("a list without a value".to_owned());
    }
    let read = match kind {
        "dstdomain" => collect(&values, host).map(Acl::Hosts),
        "dst" => collect(&values, network).map(Acl::Addresses),
        "src" if values == ["all"] => Ok(Acl::All),
        "src" => Ok(Acl::Sources(values.into_iter().cloned().collect())),
        "port" => collect(&values, ports).map(|ports| Acl::Ports(Ports(ports))),
        "method" => Ok(Acl::Methods(values.iter().map(|method| method.to_uppercase()).collect())),
        "proxy_auth" if values.iter().any(|value| *value == "REQUIRED") => Ok(Acl::Users(None)),
        "proxy_auth" if values.iter().any(|value| *value == ANONYMOUS) => {
            Err(format!("here `{ANONYMOUS}` is whoever shows no proof"))
        }
        "proxy_auth" => Ok(Acl::Users(Some(values.into_iter().cloned().collect()))),
        _ => Err(format!("no rule can say `{kind}`")),
    };
    read.unwrap_or_else(Acl::Foreign)
}

fn collect<T>(
    values: &[&String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    values.iter().map(|value| read(value)).collect()
}

/// `.example.com` is that name and all below it.
fn host(text: &str) -> Result<Entry, String> {
    let read = match text.strip_prefix('.') {
        Some(name) => Entry::at_or_below(name),
        None => Entry::exact(text),
    };
    read.map_err(|problem| format!("`{text}` is not a host: {problem}"))
}

/// An address, a network by length or by mask; ranges of addresses are not read.
fn network(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("`{text}` is not a network");
    let network = match text.split_once('/') {
        None => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| wrong())?,
        Some((address, mask)) => match mask.parse::<u8>() {
            Ok(length) => {
                let address = address.parse().map_err(|_| wrong())?;
                IpNet::new(address, length).map_err(|_| wrong())?
            }
            Err(_) => {
                let address = address.parse().map_err(|_| wrong())?;
                IpNet::with_netmask(address, mask.parse().map_err(|_| wrong())?)
                    .map_err(|_| wrong())?
            }
        },
    };
    Ok(network.trunc())
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
        (_, _) => Err(format!("`{text}` is not a port")),
    }
}

/// Ranges up to this width are written port by port.
const NARROW: u32 = 16;
/// What is meant most often by a range.
const USUAL: [u16; 2] = [80, 443];
/// The list that stands for squid's own pages, and the values that it has in some release.
const MANAGER: &str = "manager";
const MANAGER_VALUES: [&str; 5] = [
    "-i",
    "+i",
    "^cache_object://",
    "^https?://[^/]+/squid-internal-mgr/",
    "^[^:]+://[^/]+(:[0-9]+)?/squid-internal-mgr/",
];
