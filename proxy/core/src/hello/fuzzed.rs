//! What must hold for the first bytes of a tunnel, for the fuzz target and for the bounded test.

#[cfg(test)]
mod tests;

use super::{
    CLIENT_HELLO, ClaimedName, FirstBytes, HELLO_BYTES, MESSAGE_HEADER, RECORD_BYTES,
    RECORD_HEADER, classify,
};

/// Beginnings of long input that are tried, and the length up to which all are.
const BEGINNINGS: usize = 1024;

/// Panics when more bytes change a verdict, when the cut into records matters, or when a name is
/// told that is not in the bytes.
pub fn first_bytes_are_told_once_and_for_all(bytes: &[u8]) {
    let told = classify(bytes);
    let step = bytes.len() / BEGINNINGS + 1;
    for end in (0..bytes.len()).step_by(step) {
        let early = classify(&bytes[..end]);
        assert!(early == FirstBytes::NeedMore || early == told, "{early:?}, then {told:?}");
    }
    let FirstBytes::Tls(hello) = &told else { return };
    let message = message(bytes);
    if let ClaimedName::Name(name) = &hello.sni {
        let named = message.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(named && !name.is_empty() && name.is_ascii(), "the name {name:?}");
    }
    for size in [1 + bytes.len() % 61, 1 + bytes.len() % 1021, RECORD_BYTES] {
        let pieces = message.chunks(size);
        if message.len() + pieces.len() * RECORD_HEADER <= HELLO_BYTES {
            let again: Vec<_> = pieces.flat_map(record).collect();
            assert_eq!(classify(&again), told, "in records of {size}");
        }
    }
}

/// The first handshake message of bytes that were told to hold one.
fn message(bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = bytes;
    while let [_, _, _, high, low, after @ ..] = rest {
        let (content, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(content);
        rest = next;
        if let Some(&[CLIENT_HELLO, top, high, low]) = message.first_chunk()
            && message.len() >= MESSAGE_HEADER + u32::from_be_bytes([0, top, high, low]) as usize
        {
            break;
        }
    }
    message
}

fn record(content: &[u8]) -> Vec<u8> {
    // No piece is longer than a record may be.
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[22, 3, 1], &length[..], content].concat()
}
