//! A frozen hash table from names to lists of rules, laid out for cold caches.
//!
//! One byte a slot says whether it is taken and by what kind of hash: these bytes stay in a near
//! cache, so a name that is not there rarely costs a trip to memory. A slot is one cache line and
//! holds the name itself, so a name that is there costs one. Only the policy puts names in; a
//! worker who picks names to collide with them can make a run no longer than they already made it.

use crate::host::HostName;

use super::ListId;

/// The table.
#[derive(Debug)]
pub(super) struct NameTable {
    /// `FREE`, or the top bits of the hash with `TAKEN` set.
    tags: Box<[u8]>,
    slots: Box<[Slot]>,
    /// The names that do not fit in a slot, one behind the other.
    long: Box<str>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Slot {
    list: ListId,
    length: u8,
    /// The name, or the offset in `long` where one that does not fit begins.
    name: [u8; INLINE],
}

impl NameTable {
    pub(super) fn new(names: Vec<(HostName, ListId)>) -> Self {
        // At most four of five slots are taken, so that there is always a free one to stop at.
        let size = (names.len() * 5 / 4 + 1).next_power_of_two();
        let mut table = Self {
            tags: vec![FREE; size].into(),
            slots: vec![Slot { list: ListId(0), length: 0, name: [0; INLINE] }; size].into(),
            long: Box::default(),
        };
        let mut long = String::new();
        for (name, list) in names {
            let name = name.as_str();
            let hash = hash(name.as_bytes());
            let mut at = table.first(hash);
            while table.tags[at] != FREE {
                at = table.after(at);
            }
            table.tags[at] = tag(hash);
            let slot = &mut table.slots[at];
            slot.list = list;
            // A name has at most 253 bytes.
            slot.length = name.len() as u8;
            match slot.name.get_mut(..name.len()) {
                Some(space) => space.copy_from_slice(name.as_bytes()),
                None => {
                    slot.name[..8].copy_from_slice(&long.len().to_le_bytes());
                    long.push_str(name);
                }
            }
        }
        table.long = long.into();
        table
    }

    pub(super) fn find(&self, name: &str) -> Option<&ListId> {
        let hash = hash(name.as_bytes());
        let tag = tag(hash);
        let mut at = self.first(hash);
        loop {
            match self.tags[at] {
                FREE => return None,
                taken if taken == tag && self.name(&self.slots[at]) == name.as_bytes() => {
                    return Some(&self.slots[at].list);
                }
                _ => at = self.after(at),
            }
        }
    }

    /// Calls `seen` with every name.
    pub(super) fn each(&self, mut seen: impl FnMut(&str, ListId)) {
        for (tag, slot) in self.tags.iter().zip(&self.slots) {
            // Names are ASCII, so they are text.
            if *tag != FREE
                && let Ok(name) = std::str::from_utf8(self.name(slot))
            {
                seen(name, slot.list);
            }
        }
    }

    fn name<'t>(&'t self, slot: &'t Slot) -> &'t [u8] {
        let length = usize::from(slot.length);
        match slot.name.get(..length) {
            Some(name) => name,
            None => {
                let mut offset = [0; 8];
                offset.copy_from_slice(&slot.name[..8]);
                let offset = usize::from_le_bytes(offset);
                &self.long.as_bytes()[offset..offset + length]
            }
        }
    }

    fn first(&self, hash: u64) -> usize {
        hash as usize & (self.tags.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.tags.len() - 1)
    }
}

fn tag(hash: u64) -> u8 {
    TAKEN | (hash >> 57) as u8
}

/// Folds eight bytes at a time by a wide multiplication. It need not resist whoever picks the
/// names that are looked up, since those are never put in.
fn hash(name: &[u8]) -> u64 {
    let (words, tail) = name.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let fold = |hash: u64, word: [u8; 8]| {
        let wide = u128::from(hash ^ u64::from_le_bytes(word)) * u128::from(MULTIPLIER);
        wide as u64 ^ (wide >> 64) as u64
    };
    let hash = words.iter().copied().fold(name.len() as u64 ^ SEED, fold);
    fold(hash, last)
}

/// What is left of a cache line.
const INLINE: usize = 59;
const FREE: u8 = 0;
const TAKEN: u8 = 0x80;
/// The fractional digits of pi and of the golden ratio: nothing up the sleeve.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
