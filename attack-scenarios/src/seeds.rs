//! Where a search for bad bytes begins: what the cases of the corpus send, and small changes of it.
//!
//! The fuzz targets and the bounded tests start from the same seeds. Changes are drawn from a
//! sequence that is the same in every run, so that what fails once fails again.

use crate::{
    case::{Case, Input, Malformed},
    corpus,
};

/// What the cases send, by what reads it first.
#[derive(Debug, Default)]
pub struct Seeds {
    /// Whole connections to the cleartext port.
    pub connections: Vec<Vec<u8>>,
    /// Targets in any form, and authorities.
    pub targets: Vec<Vec<u8>>,
    /// First bytes inside a tunnel.
    pub hellos: Vec<Vec<u8>>,
}

impl Seeds {
    /// Collects what the cases send that are built in.
    pub fn corpus() -> Result<Self, Malformed> {
        corpus::embedded().map(|cases| Self::of(&cases))
    }

    /// Collects what these cases send.
    pub fn of(cases: &[Case]) -> Self {
        let mut seeds = Self::default();
        for case in cases {
            match &case.input {
                Input::Connect { authority } => seeds.connect(authority),
                Input::Absolute { method, url, host } => {
                    seeds.targets.push(url.clone().into());
                    let head = format!("{method} {url} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                    seeds.connections.push(head.into());
                }
                Input::Raw { segments, .. } => {
                    let pieces: Vec<_> = segments.iter().map(|piece| &piece.bytes[..]).collect();
                    let bytes = pieces.concat();
                    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                    if let Some(target) = line.split(|byte| *byte == b' ').nth(1) {
                        seeds.targets.push(target.to_vec());
                    }
                    seeds.connections.push(bytes);
                }
                Input::Tls(input) => {
                    seeds.connect(&input.connect);
                    seeds.hellos.extend(input.hello().map(|hello| hello.write()));
                    seeds.hellos.extend(input.raw_after_200.clone().map(Into::into));
                }
                Input::Dns { .. }
                | Input::Response(_)
                | Input::Load(_)
                | Input::Config(_)
                | Input::Undriven(_) => {}
            }
        }
        seeds
    }

    fn connect(&mut self, authority: &str) {
        self.targets.push(authority.into());
        let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        self.connections.push(head.into());
    }
}

/// A sequence of changes.
#[derive(Debug)]
pub struct Changes(u64);

impl Changes {
    /// Begins the sequence with this number.
    pub fn numbered(number: u64) -> Self {
        // Zero would stay zero.
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Draws a number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// Draws one of `these`, if there are any.
    pub fn pick<'a, T>(&mut self, these: &'a [T]) -> Option<&'a T> {
        (!these.is_empty()).then(|| self.below(these.len())).and_then(|at| these.get(at))
    }

    /// Draws a seed and changes it in up to four places.
    pub fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(seeds).cloned().unwrap_or_default();
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len() + 1);
            let to = at + self.below((bytes.len() - at).min(12) + 1);
            match self.below(6) {
                0 => bytes.insert(at, ODD[self.below(ODD.len())]),
                1 => drop(bytes.drain(at..to)),
                2 => bytes.extend_from_within(at..to),
                3 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                4 if at < bytes.len() => bytes[at] = ODD[self.below(ODD.len())],
                _ => {
                    let other = self.pick(seeds).cloned().unwrap_or_default();
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend(&other[from..]);
                }
            }
        }
        bytes
    }
}

/// Bytes on which readers differ.
const ODD: &[u8] = b"\r\n\t\0 :;,.@#?%/\\[]-_+*\"<|0129aAfFxX\x16\x01\x03\x7f\x80\xc3\xff";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_has_seeds_for_every_reader() {
        let seeds = Seeds::corpus().unwrap();
        assert!(seeds.connections.len() > 400, "{}", seeds.connections.len());
        assert!(seeds.targets.len() > 400, "{}", seeds.targets.len());
        assert!(seeds.hellos.len() > 8, "{}", seeds.hellos.len());
    }

    #[test]
    fn changes_are_the_same_in_every_run_and_differ_by_number() {
        let seeds = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"second".to_vec()];
        let draw = |number| {
            let mut changes = Changes::numbered(number);
            (0..50).map(|_| changes.change(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().any(|bytes| !seeds.contains(bytes)));
    }
}
