//! What stands around egret in a test.
//!
//! [`namespace`] gives the test a network in which every address is its own; [`dns`], [`origin`] and
//! [`packets`] are what lives there and what watches; [`client`] speaks to the proxy, [`proxy`] starts
//! it; [`crowd`] is many clients at once, [`meter`] a few that are well-behaved and timed, [`workers`]
//! a few that note what became of each request. Threads block and nothing is asynchronous: a test
//! reads from top to bottom. No code of egret's own is used, so that the judge and the judged cannot
//! share a mistake.

pub mod client;
pub mod crowd;
pub mod dns;
pub mod hello;
pub mod http1;
pub mod meter;
pub mod namespace;
pub mod origin;
pub mod packets;
pub mod pki;
pub mod proxy;
pub mod workers;

/// A public address that belongs to nobody in a test: a canary, dialled by mistake only.
pub const EVIL: &str = "203.0.114.66";

/// Bytes of a hexadecimal text; `None` when it is not one.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
