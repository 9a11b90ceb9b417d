//! Host and port, the pair that a decision is about.

use std::fmt;

use super::{Malformed, TargetError};
use crate::host::Host;

/// A canonical host with a port between 1 and 65535.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Host,
    port: u16,
}

impl Authority {
    /// Reads the target of a CONNECT, which always states its port.
    pub fn connect(text: &str) -> Result<Self, TargetError> {
        Self::read(text, None)
    }

    /// Reads an authority whose port may be left out, as in a Host field or a URL.
    pub fn with_default(text: &str, default_port: u16) -> Result<Self, TargetError> {
        Self::read(text, Some(default_port))
    }

    fn read(text: &str, default_port: Option<u16>) -> Result<Self, TargetError> {
        if text.contains('@') {
            return Err(Malformed::Userinfo.into());
        }
        let (host, port) = split(text);
        let host = Host::from_wire(host)?;
        let port = match (port, default_port) {
            (Some(digits), _) => read_port(digits)?,
            (None, Some(0)) => return Err(Malformed::PortRange.into()),
            (None, Some(port)) => port,
            (None, None) => return Err(Malformed::PortMissing.into()),
        };
        Ok(Self { host, port })
    }

    /// Returns the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Cuts at the colon behind the host: the first one, or the first behind a closing bracket. What
/// is wrong with either part (a second colon, an address without brackets) its own check finds.
fn split(text: &str) -> (&str, Option<&str>) {
    let closed = if text.starts_with('[') { text.find(']').unwrap_or(0) } else { 0 };
    match text[closed..].find(':') {
        Some(colon) => (&text[..closed + colon], Some(&text[closed + colon + 1..])),
        None => (text, None),
    }
}

fn read_port(digits: &str) -> Result<u16, Malformed> {
    if digits.is_empty() {
        return Err(Malformed::PortMissing);
    }
    if digits == "0" {
        return Err(Malformed::PortRange);
    }
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || digits.len() > 5 || digits.starts_with('0') {
        return Err(Malformed::PortSyntax);
    }
    digits.parse().map_err(|_| Malformed::PortRange)
}
