//! Host names and literals in their one canonical form.
//!
//! A [`HostName`] is ASCII A-labels in lower case without a root dot, so equality of the text is
//! equality of the name, and a name can never be mistaken for an address: whatever ends in a
//! number is malformed, because `inet_aton` and browsers read `0x7f.1` as 127.0.0.1. Text from
//! the wire is never mapped (`from_wire` refuses what is not already ASCII); only policy text,
//! which a person reviews, goes through IDNA. Nothing here looks a name up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use thiserror::Error;

/// A DNS name in canonical form: lower-case A-labels, no trailing dot, at most 253 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Reads a name as a worker may send it: ASCII, letters of either case, one root dot at most.
    pub fn from_wire(text: &str) -> Result<Self, HostError> {
        if let Some(at) = text.bytes().position(|byte| !byte.is_ascii()) {
            return Err(HostError::NonAscii { at });
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(HostError::NameTooLong { length: name.len() });
        }
        let mut at = 0;
        for label in name.split('.') {
            check_label(label, at)?;
            at += label.len() + 1;
        }
        if ends_in_a_number(name) {
            return Err(HostError::NumericForm);
        }
        let canonical = name.to_ascii_lowercase();
        if canonical.split('.').any(|label| label.starts_with("xn--")) {
            check_a_labels(&canonical)?;
        }
        Ok(Self(canonical.into()))
    }

    /// Reads a name as a person may write it in a policy; the caller asks for the normal form by
    /// comparing the result with the source.
    pub fn from_policy(text: &str) -> Result<Self, HostError> {
        if text.is_ascii() {
            return Self::from_wire(text);
        }
        let ascii = UTS46
            .to_ascii(
                text.as_bytes(),
                NOT_IN_A_NAME,
                Hyphens::CheckFirstLast,
                DnsLength::VerifyAllowRootDot,
            )
            .map_err(|_| HostError::NotConvertible)?;
        Self::from_wire(&ascii)
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name and every name above it, the longest first, cut at label boundaries.
    pub fn parent_names(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |name| {
            name.split_once('.').map(|(_, parent)| parent)
        })
    }

    /// Whether this is `zone` or a name below it; `zone` is canonical text without a root dot.
    pub fn is_at_or_below(&self, zone: &str) -> bool {
        match self.0.strip_suffix(zone) {
            Some(rest) => !zone.is_empty() && (rest.is_empty() || rest.ends_with('.')),
            None => false,
        }
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What an authority names: a name to be resolved, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// An IP literal.
    Address(IpAddr),
}

impl Host {
    /// Reads the host of an authority: a bracketed IPv6 address, four decimal octets, or a name.
    pub fn from_wire(text: &str) -> Result<Self, HostError> {
        match literal(text)? {
            Some(address) => Ok(Self::Address(address)),
            None => HostName::from_wire(text).map(Self::Name),
        }
    }

    /// Reads a host of a policy; unlike the wire it may hold Unicode, or IPv6 without brackets.
    pub fn from_policy(text: &str) -> Result<Self, HostError> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self::Address(address.into()));
        }
        match literal(text)? {
            Some(address) => Ok(Self::Address(address)),
            None => HostName::from_policy(text).map(Self::Name),
        }
    }

    /// Returns the name, unless this is a literal.
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Why a text is not a host. No variant holds bytes of the text, so none can be echoed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nothing is left once the root dot is gone.
    #[error("the host is empty")]
    Empty,
    /// The name is longer than DNS carries.
    #[error("the host name has {length} bytes, more than 253")]
    NameTooLong {
        /// Bytes, without the root dot.
        length: usize,
    },
    /// Two dots in a row, a dot at the start, or two at the end.
    #[error("the host has an empty label at byte {at}")]
    EmptyLabel {
        /// Offset in the text.
        at: usize,
    },
    /// A label is longer than DNS carries.
    #[error("a label of the host has {length} bytes, more than 63")]
    LabelTooLong {
        /// Bytes of the label.
        length: usize,
    },
    /// A byte that is not a letter, digit, hyphen, underscore or dot.
    #[error("byte 0x{byte:02x} at {at} does not belong in a host")]
    Byte {
        /// The byte.
        byte: u8,
        /// Offset in the text.
        at: usize,
    },
    /// A byte above 0x7f; on the wire a name is sent as A-labels.
    #[error("the host is not ASCII at byte {at}; send A-labels (`xn--…`)")]
    NonAscii {
        /// Offset in the text.
        at: usize,
    },
    /// A label begins or ends with a hyphen.
    #[error("the label of the host at byte {at} begins or ends with a hyphen")]
    HyphenAtEdge {
        /// Offset of the label in the text.
        at: usize,
    },
    /// The name ends in a number, so some reader takes it for an IPv4 address.
    #[error("the host ends in a number but is not four decimal octets")]
    NumericForm,
    /// An `xn--` label that does not decode, or is not what its decoded form encodes to.
    #[error("the host has an invalid A-label")]
    ALabel,
    /// Policy text that IDNA refuses.
    #[error("the host is not valid under IDNA")]
    NotConvertible,
    /// Brackets around something that is no IPv6 address, or unmatched.
    #[error("brackets in a host enclose an IPv6 address and nothing else")]
    Brackets,
    /// An IPv6 literal with a zone.
    #[error("a zone id is never valid here")]
    Zone,
}

fn literal(text: &str) -> Result<Option<IpAddr>, HostError> {
    if let Some(rest) = text.strip_prefix('[') {
        let inner = rest.strip_suffix(']').ok_or(HostError::Brackets)?;
        if inner.contains('%') {
            return Err(HostError::Zone);
        }
        let address: Ipv6Addr = inner.parse().map_err(|_| HostError::Brackets)?;
        return Ok(Some(address.into()));
    }
    // The standard parser takes exactly four decimal octets without leading zeros; all that it
    // refuses and some resolver would take is caught as a name that ends in a number.
    Ok(text.parse::<Ipv4Addr>().ok().map(IpAddr::from))
}

fn check_label(label: &str, at: usize) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel { at });
    }
    let stray = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if let Some((offset, byte)) = label.bytes().enumerate().find(|(_, byte)| stray(byte)) {
        return Err(HostError::Byte { byte, at: at + offset });
    }
    if label.len() > LABEL_MAX {
        return Err(HostError::LabelTooLong { length: label.len() });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::HyphenAtEdge { at });
    }
    Ok(())
}

/// Whether the last label is decimal, octal or hexadecimal (`0x` alone is zero to browsers). No
/// reader of numeric forms takes a name whose last label is anything else.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name).as_bytes();
    match last {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

/// Demands that decoding and encoding gives back the very same text, so that no two spellings of
/// a name exist: old IDNA libraries decode `xn--example-` to `example`.
fn check_a_labels(name: &str) -> Result<(), HostError> {
    let encode = |text: &str| {
        UTS46
            .to_ascii(text.as_bytes(), NOT_IN_A_NAME, Hyphens::CheckFirstLast, DnsLength::Verify)
            .is_ok_and(|ascii| ascii == name)
    };
    let (unicode, decoded) =
        UTS46.to_unicode(name.as_bytes(), NOT_IN_A_NAME, Hyphens::CheckFirstLast);
    if decoded.is_ok() && encode(name) && encode(&unicode) {
        Ok(())
    } else {
        Err(HostError::ALabel)
    }
}

const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
const UTS46: Uts46 = Uts46::new();

/// STD3 with the underscore let through, as in service names.
const NOT_IN_A_NAME: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

#[cfg(test)]
mod tests;
