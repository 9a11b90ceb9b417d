//! Targets: what a request asks for, read once, in canonical form.
//!
//! This parser decides, not the HTTP library's: that one takes userinfo, an empty port, `:+443`,
//! bracketed names and zone ids, and drops fragments. Everything that two readers could split
//! differently (`@`, `\`, `#`, bytes outside visible ASCII) is malformed wherever it stands. Path
//! and query stay byte for byte as they came; whether a path is harmless is the policy's affair.

use std::fmt;

use thiserror::Error;

use crate::host::HostError;

pub use authority::Authority;
pub use method::Method;

mod authority;
mod method;

/// The protocol that is spoken to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP in cleartext.
    Http,
    /// HTTP over TLS.
    Https,
    /// Opaque bytes through a tunnel; no request names it.
    Tcp,
}

impl Scheme {
    /// Returns the name that policies and records use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
        }
    }

    /// Returns the port that a URL without one means.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Tcp => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One request's target: scheme, authority, and the path with its query as on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    scheme: Scheme,
    authority: Authority,
    path: Box<str>,
}

impl Target {
    /// Reads a target in absolute form: `http://` or `https://`, authority, path, query.
    pub fn absolute(text: &str) -> Result<Self, TargetError> {
        check_bytes(text)?;
        let (scheme, rest) = split_scheme(text)?;
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(Malformed::Form.into());
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = match scheme {
            Scheme::Http => Authority::with_default(authority, 80)?,
            Scheme::Https => Authority::with_default(authority, 443)?,
            Scheme::Tcp => return Err(TargetError::Scheme),
        };
        // An empty path is `/`, with or without a query behind it (RFC 9110, 4.2.3).
        let path: Box<str> =
            if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
        check_path(&path)?;
        Ok(Self { scheme, authority, path })
    }

    /// Builds a target from an origin-form inside a tunnel, or the `*` of OPTIONS.
    pub fn origin(scheme: Scheme, authority: &Authority, path: &str) -> Result<Self, TargetError> {
        check_bytes(path)?;
        if !path.starts_with('/') && path != "*" {
            return Err(Malformed::Form.into());
        }
        check_path(path)?;
        Ok(Self { scheme, authority: authority.clone(), path: path.into() })
    }

    /// Returns the scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns what is sent to the origin: the path with its query, or `*`.
    pub fn path_and_query(&self) -> &str {
        &self.path
    }

    /// Returns the path before the query.
    pub fn path(&self) -> &str {
        self.path.split_once('?').map_or(&*self.path, |(path, _)| path)
    }
}

impl fmt::Display for Target {
    /// Writes the absolute form, always with the port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// Why a target or a method is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not a target at all.
    #[error("malformed target")]
    Malformed(#[source] Malformed),
    /// A URL of a scheme that this proxy does not speak.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// TRACE, TRACK or DEBUG, which send a request's fields back to the worker.
    #[error("methods that echo the request are refused")]
    MethodRefused,
}

/// What is wrong with a malformed target. No variant holds bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The host is not canonical and cannot be made so.
    #[error(transparent)]
    Host(HostError),
    /// No port where one is needed, or none behind the colon.
    #[error("the port is missing")]
    PortMissing,
    /// A port that is not 1 to 5 digits without a leading zero.
    #[error("the port is not 1 to 5 digits without a leading zero")]
    PortSyntax,
    /// Zero, or more than 65535.
    #[error("the port is not between 1 and 65535")]
    PortRange,
    /// An `@` before the host.
    #[error("userinfo is never valid in a target")]
    Userinfo,
    /// A `#`.
    #[error("a fragment is never sent")]
    Fragment,
    /// A backslash, which browsers read as a slash.
    #[error("a backslash is never valid in a target")]
    Backslash,
    /// A byte that does not belong where it stands.
    #[error("byte 0x{byte:02x} at {at} does not belong in a target")]
    Byte {
        /// The byte.
        byte: u8,
        /// Offset in the target or, for what only a path must not hold, in the path.
        at: usize,
    },
    /// Neither absolute form nor, inside a tunnel, origin form.
    #[error("the target is not in the form that is needed here")]
    Form,
    /// A method that is not a token of 1 to 32 bytes.
    #[error("the method is not a token of 1 to 32 bytes")]
    Method,
}

impl From<Malformed> for TargetError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<HostError> for TargetError {
    fn from(host: HostError) -> Self {
        Self::Malformed(Malformed::Host(host))
    }
}

/// Refuses what no part of a target may hold: all but visible ASCII, and two of these.
fn check_bytes(text: &str) -> Result<(), Malformed> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'#' => return Err(Malformed::Fragment),
            b'\\' => return Err(Malformed::Backslash),
            b'!'..=b'~' => {}
            _ => return Err(Malformed::Byte { byte, at }),
        }
    }
    Ok(())
}

/// Refuses the visible bytes that RFC 3986 has nowhere in a path or query and that the HTTP library
/// does not take either, so that it never refuses what this parser has passed. The library's other
/// liberties (`|`, `{}`, `^`, brackets) stay, because clients in the field use them.
fn check_path(path: &str) -> Result<(), Malformed> {
    let mut query = false;
    for (at, byte) in path.bytes().enumerate() {
        query |= byte == b'?';
        match byte {
            b'<' | b'>' => return Err(Malformed::Byte { byte, at }),
            b'`' if !query => return Err(Malformed::Byte { byte, at }),
            b'"' if query => return Err(Malformed::Byte { byte, at }),
            _ => {}
        }
    }
    Ok(())
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), TargetError> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(Malformed::Form.into());
    };
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(tail) {
        return Err(Malformed::Form.into());
    }
    if scheme.eq_ignore_ascii_case("http") {
        Ok((Scheme::Http, rest))
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok((Scheme::Https, rest))
    } else if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        // `host:443` with a method other than CONNECT reads as a scheme, but nobody meant one.
        Err(Malformed::Form.into())
    } else {
        Err(TargetError::Scheme)
    }
}

#[cfg(test)]
mod tests;
