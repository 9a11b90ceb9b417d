//! Finds the rules that name a host, at the same cost for ten hosts and a hundred thousand.
//!
//! A name is looked up once as itself and once for each of its parents that can have a suffix at
//! all; nothing is scanned and nothing allocated. Lists of rules are shared, since a rule with a
//! thousand hosts gives a thousand equal lists. What the rules say beyond hosts is not known here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::host::{Host, HostName};

use self::table::NameTable;

mod table;

/// The place of a rule in the file; lists hold them in that order.
pub(crate) type RuleAt = u32;

/// Which hosts an entry of a rule stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// This name, or this address.
    Exact(Host),
    /// The name and every name below it.
    AtOrBelow(HostName),
    /// Every name below it, but not the name.
    Below(HostName),
    /// Every name, but no address.
    AnyName,
    /// Every name and every address.
    Anything,
}

/// The rules by host.
#[derive(Debug)]
pub(crate) struct Index {
    /// Rules that name exactly this.
    at: NameTable,
    /// Rules that name what is below this.
    below: NameTable,
    /// Bit N: some name in `below` has N labels.
    depths: u128,
    addresses: Box<[(IpAddr, ListId)]>,
    any_name: ListId,
    anything: ListId,
    lists: Lists,
}

impl Index {
    /// Calls `seen` with each list of rules that name the host; a rule may be in several.
    pub(crate) fn visit<'i>(&'i self, host: &Host, mut seen: impl FnMut(&'i [RuleAt])) {
        match host {
            Host::Name(name) => {
                self.visit_ids(name.as_str(), |id| seen(self.lists.list(id)));
                seen(self.lists.list(&self.any_name));
            }
            Host::Address(address) => {
                let found = self.addresses.binary_search_by_key(address, |(address, _)| *address);
                if let Ok(at) = found {
                    seen(self.lists.list(&self.addresses[at].1));
                }
            }
        }
        seen(self.lists.list(&self.anything));
    }

    fn visit_ids<'i>(&'i self, name: &str, mut seen: impl FnMut(&'i ListId)) {
        if let Some(id) = self.at.find(name) {
            seen(id);
        }
        if self.depths != 0 {
            self.visit_above(name, seen);
        }
    }

    /// Visits what covers everything below the parents of `name`.
    fn visit_above<'i>(&'i self, name: &str, mut seen: impl FnMut(&'i ListId)) {
        let mut depth = name.bytes().filter(|byte| *byte == b'.').count();
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if self.depths & 1 << depth != 0
                && let Some(id) = self.below.find(parent)
            {
                seen(id);
            }
            rest = parent;
            depth -= 1;
        }
    }

    /// Calls `seen` with the lists that together cover some host, and with one such host, for
    /// every combination of patterns that any host can meet.
    pub(crate) fn combinations(&self, mut seen: impl FnMut(&[ListId], &dyn Fn() -> String)) {
        let mut met = Vec::new();
        let mut meet = |name: &str, own: ListId, host: fn(&str) -> String| {
            met.clear();
            met.push(own);
            self.visit_above(name, |id| met.push(*id));
            met.extend([self.any_name, self.anything]);
            seen(&met, &|| host(name));
        };
        self.at.each(|name, id| meet(name, id, str::to_owned));
        self.below.each(|name, id| meet(name, id, |name| format!("*.{name}")));
        for (address, id) in &self.addresses {
            seen(&[*id, self.anything], &|| address.to_string());
        }
        seen(&[self.any_name, self.anything], &|| "*".to_owned());
    }

    /// Returns the rules of a list, in the order of the file.
    pub(crate) fn list<'i>(&'i self, id: &'i ListId) -> &'i [RuleAt] {
        self.lists.list(id)
    }
}

/// A list of rules: most have one rule, which is the list; others are kept apart, equal ones once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListId(u32);

/// All lists that do not have just one rule, one behind the other.
#[derive(Debug, Default)]
struct Lists {
    /// Where list N ends; it begins where the one before it ends.
    ends: Vec<u32>,
    rules: Vec<RuleAt>,
}

impl Lists {
    fn list<'l>(&'l self, id: &'l ListId) -> &'l [RuleAt] {
        let Some(id) = id.0.checked_sub(SEVERAL) else { return std::slice::from_ref(&id.0) };
        let end = |id: u32| self.ends[id as usize] as usize;
        let start = id.checked_sub(1).map_or(0, end);
        &self.rules[start..end(id)]
    }

    fn add(&mut self, list: &[RuleAt]) -> ListId {
        if let [rule] = list {
            return ListId(*rule);
        }
        self.rules.extend(list);
        self.ends.push(position(self.rules.len()));
        ListId(SEVERAL + position(self.ends.len() - 1))
    }
}

/// Above this, the number of a list; below, the one rule that the list has.
const SEVERAL: u32 = 1 << 31;

/// Collects patterns, rule by rule in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    at: BTreeMap<HostName, Vec<RuleAt>>,
    below: BTreeMap<HostName, Vec<RuleAt>>,
    addresses: BTreeMap<IpAddr, Vec<RuleAt>>,
    any_name: Vec<RuleAt>,
    anything: Vec<RuleAt>,
}

impl IndexBuilder {
    /// Adds a pattern of a rule that stands at or after all rules added before.
    pub(crate) fn add(&mut self, pattern: &HostPattern, rule: RuleAt) {
        let note = |list: &mut Vec<RuleAt>| {
            if list.last() != Some(&rule) {
                list.push(rule);
            }
        };
        match pattern {
            HostPattern::Exact(Host::Name(name)) => note(self.at.entry(name.clone()).or_default()),
            HostPattern::Exact(Host::Address(address)) => {
                note(self.addresses.entry(*address).or_default());
            }
            HostPattern::AtOrBelow(name) => {
                note(self.at.entry(name.clone()).or_default());
                note(self.below.entry(name.clone()).or_default());
            }
            HostPattern::Below(name) => note(self.below.entry(name.clone()).or_default()),
            HostPattern::AnyName => note(&mut self.any_name),
            HostPattern::Anything => note(&mut self.anything),
        }
    }

    /// Freezes what was collected.
    pub(crate) fn build(self) -> Index {
        let mut lists = Lists::default();
        let mut shared: BTreeMap<Vec<RuleAt>, ListId> = BTreeMap::new();
        let mut share =
            |list: Vec<RuleAt>| *shared.entry(list).or_insert_with_key(|list| lists.add(list));
        let depth = |name: &HostName| name.as_str().bytes().filter(|b| *b == b'.').count() + 1;
        let depths = self.below.keys().fold(0, |depths, name| depths | 1 << depth(name));
        let mut table = |names: BTreeMap<HostName, Vec<RuleAt>>| {
            let entries = names.into_iter().map(|(name, list)| (name, share(list))).collect();
            NameTable::new(entries)
        };
        let (at, below) = (table(self.at), table(self.below));
        let addresses =
            self.addresses.into_iter().map(|(address, list)| (address, share(list))).collect();
        let (any_name, anything) = (share(self.any_name), share(self.anything));
        Index { at, below, depths, addresses, any_name, anything, lists }
    }
}

/// A policy has fewer rules and hosts than four thousand million: its text would not fit.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
