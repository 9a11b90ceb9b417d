//! Signed heads: who holds the key says how far the chain had got, and when.
//!
//! A head is a line like any other, signed with Ed25519 over the number and the hash of the line
//! before it and over its own time. Since that hash depends on every line before, a head that is
//! kept elsewhere shows whether one of them was changed, removed or added since. It cannot show
//! what was done to lines after it, nor that the holder of the key told the truth. The removal of
//! a segment is signed by itself: where a chain begins is for the holder of the key to say, and
//! not for whoever can append a line.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{chain::LineHash, hex};

/// The key that signs heads. Nothing prints it.
pub struct HeadKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum HeadKeyError {
    /// The bytes are not a key.
    #[error("not an Ed25519 key in PKCS#8")]
    Form,
    /// The system gave no randomness.
    #[error("make an Ed25519 key")]
    Make,
}

impl HeadKey {
    /// Makes a key.
    pub fn generate() -> Result<Self, HeadKeyError> {
        Ed25519KeyPair::generate().map(Self::of).map_err(|_| HeadKeyError::Make)
    }

    /// Reads a key from PKCS#8.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, HeadKeyError> {
        Ed25519KeyPair::from_pkcs8(bytes).map(Self::of).map_err(|_| HeadKeyError::Form)
    }

    /// Returns the key as PKCS#8, version 1, which every other program reads.
    pub fn to_pkcs8(&self) -> Result<impl AsRef<[u8]>, HeadKeyError> {
        self.pair.to_pkcs8v1().map_err(|_| HeadKeyError::Make)
    }

    /// Returns the half that everybody may know.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let mut public = [0; PublicKey::BYTES];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { pair, public: PublicKey(public) }
    }

    /// Signs that line `seq` has this hash; the signature in hex.
    pub(super) fn sign(&self, seq: u64, hash: &LineHash, time: &str) -> String {
        self.signature(&statement(seq, hash, time))
    }

    /// Signs that a segment was removed; the signature in hex.
    pub(super) fn sign_removal(&self, removal: &Removal<'_>) -> String {
        self.signature(&removal.statement())
    }

    fn signature(&self, statement: &str) -> String {
        hex::text(self.pair.sign(statement.as_bytes()).as_ref())
    }
}

impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadKey")
    }
}

/// The key that heads are checked with; printed in hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; Self::BYTES]);

impl PublicKey {
    const BYTES: usize = 32;

    pub(super) fn read(digits: &str) -> Option<Self> {
        hex::read(digits.as_bytes()).map(Self)
    }

    /// Whether the holder of the key has signed that line `seq` has this hash.
    pub(super) fn has_signed(
        &self,
        seq: u64,
        hash: &LineHash,
        time: &str,
        signature: &str,
    ) -> bool {
        self.verifies(&statement(seq, hash, time), signature)
    }

    /// Whether the holder of the key has signed that a segment was removed.
    pub(super) fn has_signed_removal(&self, removal: &Removal<'_>, signature: &str) -> bool {
        self.verifies(&removal.statement(), signature)
    }

    fn verifies(&self, statement: &str, signature: &str) -> bool {
        let Some(signature) = hex::read::<64>(signature.as_bytes()) else { return false };
        UnparsedPublicKey::new(&ED25519, self.0).verify(statement.as_bytes(), &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::text(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// That a segment was removed, and where the chain begins without it.
#[derive(Debug)]
pub(super) struct Removal<'r> {
    pub(super) time: &'r str,
    pub(super) segment: &'r str,
    /// `seq` of the line that is the first now.
    pub(super) begins_at: u64,
    /// `prev` of that line.
    pub(super) begins_after: &'r str,
}

impl Removal<'_> {
    fn statement(&self) -> String {
        let Self { time, segment, begins_at, begins_after } = self;
        format!("egret audit removed 1\n{segment}\n{begins_at}\n{begins_after}\n{time}\n")
    }
}

/// What is signed. The first line keeps a signature from meaning anything elsewhere.
fn statement(seq: u64, hash: &LineHash, time: &str) -> String {
    format!("egret audit head 1\n{seq}\n{hash}\n{time}\n")
}
