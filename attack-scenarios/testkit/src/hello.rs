//! A ClientHello by hand: written as crooked as a case asks for, and read from raw bytes.
//!
//! No TLS library would send these, and none reports an SNI that is an address or ends in a dot.

/// How a ClientHello is to look.
#[derive(Debug, Clone, Default)]
pub struct HelloShape {
    /// The entries of the server_name extension, as bytes; none leaves the extension out.
    pub names: Vec<Vec<u8>>,
    /// An encrypted_client_hello extension of random content: real and GREASE look the same.
    pub ech: bool,
    /// The ALPN list; empty means `http/1.1`.
    pub protocols: Vec<String>,
    /// Sizes after which a new TLS record begins.
    pub record_split: Vec<usize>,
}

impl HelloShape {
    /// Returns an ordinary hello for a name.
    pub fn named(name: &str) -> Self {
        Self { names: vec![name.as_bytes().to_vec()], ..Self::default() }
    }

    /// Writes the hello as TLS records.
    pub fn write(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut put = |number: u16, data: Vec<u8>| {
            extensions.extend(number.to_be_bytes());
            extensions.extend(block(2, &data));
        };
        if !self.names.is_empty() {
            let entry = |name: &Vec<u8>| [vec![0], block(2, name)].concat();
            let list: Vec<u8> = self.names.iter().flat_map(entry).collect();
            put(SERVER_NAME, block(2, &list));
        }
        put(10, block(2, &[0, 0x1d])); // groups: x25519
        put(13, block(2, &[4, 3, 8, 4, 4, 1, 5, 3])); // signature algorithms
        put(43, block(1, &[3, 4, 3, 3])); // versions 1.3 and 1.2
        let mut share = vec![9];
        share.extend(noise(30, 1));
        share.push(0x40);
        put(51, block(2, &[&[0, 0x1d][..], &block(2, &share)].concat()));
        let standard = ["http/1.1".to_owned()];
        let protocols = if self.protocols.is_empty() { &standard[..] } else { &self.protocols };
        let list: Vec<u8> = protocols.iter().flat_map(|name| block(1, name.as_bytes())).collect();
        put(ALPN, block(2, &list));
        if self.ech {
            let mut data = vec![0, 0, 1, 0, 1, 7];
            data.extend(block(2, &noise(32, 2)));
            data.extend(block(2, &noise(144, 3)));
            put(ECH, data);
        }
        let mut body = vec![3, 3];
        body.extend(noise(32, 4));
        body.extend(block(1, &noise(32, 5)));
        let suites = [0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30];
        body.extend(block(2, &suites));
        body.extend([1, 0]); // no compression
        body.extend(block(2, &extensions));
        let hello = [vec![1], block(3, &body)].concat();
        let record = |piece: &[u8]| [&[0x16, 3, 1][..], &block(2, piece)].concat();
        pieces(&hello, &self.record_split).iter().flat_map(|piece| record(piece)).collect()
    }
}

/// What a ClientHello said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// The entries of the server_name extension.
    pub names: Vec<Vec<u8>>,
    /// The numbers of all extensions.
    pub extensions: Vec<u16>,
    /// The ALPN list.
    pub protocols: Vec<String>,
}

impl Hello {
    /// Reads the ClientHello at the start of raw bytes; `None` when there is no whole one.
    pub fn read(wire: &[u8]) -> Option<Self> {
        let (mut handshake, mut at) = (Vec::new(), 0);
        while wire.get(at) == Some(&0x16) {
            let size = number(wire.get(at + 3..at + 5)?);
            let Some(part) = wire.get(at + 5..at + 5 + size) else { break };
            handshake.extend(part);
            at += 5 + size;
            if handshake.len() >= 4 && handshake.len() >= 4 + number(&handshake[1..4]) {
                break;
            }
        }
        let mut rest = Reader(handshake.get(4..4 + number(handshake.get(1..4)?))?);
        rest.take(34)?;
        rest.block(1)?;
        rest.block(2)?;
        rest.block(1)?;
        let mut hello = Self::default();
        let Some(list) = rest.block(2) else { return Some(hello) };
        let mut list = Reader(list);
        while !list.0.is_empty() {
            let kind = u16::try_from(number(list.take(2)?)).ok()?;
            let mut data = Reader(list.block(2)?);
            hello.extensions.push(kind);
            if kind == SERVER_NAME {
                let mut names = Reader(data.block(2)?);
                while names.take(1).is_some() {
                    hello.names.push(names.block(2)?.to_vec());
                }
            } else if kind == ALPN {
                let mut names = Reader(data.block(2)?);
                while let Some(name) = names.block(1) {
                    hello.protocols.push(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        Some(hello)
    }

    /// Whether an encrypted_client_hello extension, real or not, is there.
    pub fn has_ech(&self) -> bool {
        self.extensions.contains(&ECH)
    }
}

/// Cuts bytes after the given sizes; the rest is the last piece.
pub fn pieces<'a>(data: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut out, mut rest) = (Vec::new(), data);
    for size in sizes {
        let (piece, tail) = rest.split_at((*size).min(rest.len()));
        out.push(piece);
        rest = tail;
    }
    out.push(rest);
    out
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn block(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = number(self.take(width)?);
        self.take(length)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// Data behind its length of `width` bytes.
fn block(width: usize, data: &[u8]) -> Vec<u8> {
    [&data.len().to_be_bytes()[size_of::<usize>() - width..], data].concat()
}

/// Bytes that look random enough and are the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ECH: u16 = 0xfe0d;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut shape = HelloShape::named("api.example.com");
        shape.names.push(b"evil.test".to_vec());
        shape.ech = true;
        let hello = Hello::read(&shape.write()).expect("a hello");
        assert_eq!(hello.names, [b"api.example.com".to_vec(), b"evil.test".to_vec()]);
        assert!(hello.has_ech());
        assert_eq!(hello.protocols, ["http/1.1"]);
    }

    #[test]
    fn a_hello_over_several_records_is_put_together() {
        let mut shape = HelloShape::named("evil.test");
        shape.record_split = vec![1, 5, 60];
        let wire = shape.write();
        assert_eq!(wire.windows(3).filter(|bytes| *bytes == [0x16, 3, 1]).count(), 4);
        assert_eq!(Hello::read(&wire).expect("a hello").names, [b"evil.test".to_vec()]);
        assert_eq!(Hello::read(&wire[..wire.len() - 1]), None);
    }

    #[test]
    fn a_hello_without_names_is_not_given_any() {
        let hello = Hello::read(&HelloShape::default().write()).expect("a hello");
        assert!(hello.names.is_empty() && !hello.has_ech());
        assert_eq!(Hello::read(b"GET / HTTP/1.1\r\n\r\n"), None);
    }
}
