//! A thousand corruptions of a record, each of which is found or is none that can be found.
//!
//! What cannot be found is named exactly: a cut at the end of a line, after the head that was kept
//! or, without one, anywhere after the first line.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Extent, Written, faults};

const CORRUPTIONS: usize = 1000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let given = std::env::var("EGRET_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        });
        println!("EGRET_SEED={seed} plays this again");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

type Segments = Vec<Vec<u8>>;

/// What is done to a record, by its name.
type Deed = (&'static str, fn(&mut Random, &mut Segments));

const DEEDS: [Deed; 18] = [
    ("flip a bit", |random, all| {
        let (segment, at) = place(random, all);
        all[segment][at] ^= 1 << random.below(8);
    }),
    ("change a byte", |random, all| {
        let (segment, at) = place(random, all);
        all[segment][at] = random.below(256) as u8;
    }),
    ("change a byte to one of JSON", |random, all| {
        let (segment, at) = place(random, all);
        all[segment][at] = b" \"{},:0a\n\r\t\\\0"[random.below(13)];
    }),
    ("remove bytes", |random, all| {
        let (segment, at) = place(random, all);
        let end = (at + 1 + random.below(40)).min(all[segment].len());
        all[segment].drain(at..end);
    }),
    ("insert a byte", |random, all| {
        let (segment, at) = place(random, all);
        all[segment].insert(at, random.below(256) as u8);
    }),
    ("swap two bytes", |random, all| {
        let (segment, one) = place(random, all);
        let other = random.below(all[segment].len());
        all[segment].swap(one, other);
    }),
    ("cut a segment anywhere", |random, all| {
        let (segment, at) = place(random, all);
        all[segment].truncate(at);
    }),
    ("cut the end anywhere", |random, all| {
        let (segment, at) = place(random, all);
        all.truncate(segment + 1);
        all[segment].truncate(at);
    }),
    ("cut the end after a line", |random, all| {
        let (segment, at) = line_in(random, all);
        all.truncate(segment + 1);
        let mut lines = split(&all[segment]);
        lines.truncate(at);
        all[segment] = lines.concat();
    }),
    ("cut the beginning after a line", |random, all| {
        let (segment, at) = line_in(random, all);
        all.drain(..segment);
        all[0] = split(&all[0])[at..].concat();
    }),
    ("remove a line", |random, all| {
        with_lines(random, all, |_, lines, at| {
            lines.remove(at);
        });
    }),
    ("repeat a line", |random, all| {
        with_lines(random, all, |_, lines, at| lines.insert(at, lines[at].clone()));
    }),
    ("swap two lines", |random, all| {
        with_lines(random, all, |random, lines, at| {
            let other = random.below(lines.len());
            lines.swap(at, other);
        });
    }),
    ("insert a line of another place", |random, all| {
        let (segment, at) = line_in(random, all);
        let line = split(&all[segment])[at].clone();
        with_lines(random, all, |_, lines, at| lines.insert(at, line.clone()));
    }),
    ("append what is no line", |random, all| {
        let more: &[u8] = [&b"\n"[..], b"\0", b"\r\n", b" ", b"{}\n", b"null\n"][random.below(6)];
        let segment = random.below(all.len());
        all[segment].extend(more);
    }),
    ("remove a segment", |random, all| {
        all.remove(random.below(all.len()));
    }),
    ("repeat a segment", |random, all| {
        let at = random.below(all.len());
        all.insert(at, all[at].clone());
    }),
    ("swap two segments", |random, all| {
        let (one, other) = (random.below(all.len()), random.below(all.len()));
        all.swap(one, other);
    }),
];

fn place(random: &mut Random, all: &Segments) -> (usize, usize) {
    let segment = random.below(all.len());
    (segment, random.below(all[segment].len()))
}

fn line_in(random: &mut Random, all: &Segments) -> (usize, usize) {
    let segment = random.below(all.len());
    (segment, random.below(split(&all[segment]).len()))
}

fn split(segment: &[u8]) -> Vec<Vec<u8>> {
    segment.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn with_lines(
    random: &mut Random,
    all: &mut Segments,
    deed: impl FnOnce(&mut Random, &mut Vec<Vec<u8>>, usize),
) {
    let (segment, at) = line_in(random, all);
    let mut lines = split(&all[segment]);
    deed(random, &mut lines, at);
    all[segment] = lines.concat();
}

#[test]
fn every_corruption_is_found_that_can_be() {
    let written = Written::new().lines(9).head().lines(4).head().segment().lines(8).head();
    let written = written.segment().lines(1).head().segment().lines(6).head().lines(3);
    let kept = written.kept();
    let sound = written.segments.concat();
    let until_head = sound.len() - after(&sound, &written.head);
    assert_eq!(faults(&written.segments, Some(kept.clone()), Extent::Whole), []);

    let mut random = Random::seeded();
    let (mut played, mut hidden) = (0, 0);
    while played < CORRUPTIONS {
        let (name, deed) = DEEDS[random.below(DEEDS.len())];
        let mut corrupt = written.segments.clone();
        deed(&mut random, &mut corrupt);
        let bytes = corrupt.concat();
        if bytes == sound {
            continue;
        }
        played += 1;
        // All that is left is as it was, up to the end of a line.
        let is_cut = sound.starts_with(&bytes) && bytes.ends_with(b"\n");
        let with_head = faults(&corrupt, Some(kept.clone()), Extent::Whole);
        let cannot_be_seen = is_cut && bytes.len() >= until_head;
        assert_eq!(with_head.is_empty(), cannot_be_seen, "{name}: {with_head:?}");
        let without = faults(&corrupt, None, Extent::Whole);
        assert_eq!(without.is_empty(), is_cut, "{name}: {without:?}");
        hidden += usize::from(is_cut && !cannot_be_seen);
    }
    println!("{played} corruptions; {hidden} cuts that only the kept head shows");
    assert!(hidden > 0);
}

/// Bytes after the last place where `line` stands.
fn after(all: &[u8], line: &[u8]) -> usize {
    let at = all.windows(line.len()).rposition(|window| window == line).unwrap();
    all.len() - at - line.len()
}
