//! The name servers of the system, from `resolv.conf`.
//!
//! Only its name servers count: search domains and `ndots` would ask for names that nobody was
//! permitted, and `options` would change what is bounded here. An address with a zone cannot be
//! asked and is passed over with a word to the operator; a file that names no server that can be
//! asked is an error, never the system's silent default.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
};

use crate::settings::{NameServer, Transport};

/// Where the system says whom to ask.
pub(super) const FILE: &str = "/etc/resolv.conf";
/// As many as the C library takes (MAXNS).
const MOST_SERVERS: usize = 3;
/// Bytes that are read; a longer file is not about name servers.
const MOST_BYTES: u64 = 64 << 10;
const PORT: u16 = 53;

/// Why the system's name servers are not known.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The file cannot be read.
    #[error("read `{FILE}`")]
    Read(#[source] io::Error),
    /// It names nobody who could be asked.
    #[error("`{FILE}` names no server that can be asked")]
    None,
}

/// Reads the servers of the system.
pub(super) fn servers() -> Result<Vec<NameServer>, SystemError> {
    let mut text = Vec::new();
    let file = File::open(FILE).map_err(SystemError::Read)?;
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(SystemError::Read)?;
    let Named { servers, passed_over } = parse(&String::from_utf8_lossy(&text));
    for server in passed_over {
        tracing::debug!(server, "this name server cannot be asked");
    }
    if servers.is_empty() {
        return Err(SystemError::None);
    }
    Ok(servers)
}

#[derive(Debug, PartialEq, Eq)]
struct Named {
    servers: Vec<NameServer>,
    passed_over: Vec<String>,
}

fn parse(text: &str) -> Named {
    let mut named = Named { servers: Vec::new(), passed_over: Vec::new() };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let word = words.next().unwrap_or_default();
        match word.parse::<IpAddr>() {
            Ok(ip) if can_be_asked(ip) => {
                let address = SocketAddr::new(ip, PORT);
                named.servers.push(NameServer { address, transport: Transport::Cleartext });
            }
            Ok(_) | Err(_) => named.passed_over.push(word.to_owned()),
        }
        if named.servers.len() == MOST_SERVERS {
            break;
        }
    }
    named
}

/// A link-local IPv6 address means nothing without its zone.
fn can_be_asked(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !local && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(|server| server.address.to_string()).collect()
    }

    #[test]
    fn only_the_name_servers_count() {
        let text = "# nameserver 192.0.2.9\nsearch corp.internal\nnameserver 192.0.2.1\n\
                    options ndots:5 timeout:30 attempts:9\n\tnameserver  2001:db8::1 # local\n\
                    ;nameserver 192.0.2.8\ndomain example.org\nnameservers 192.0.2.7\n";
        assert_eq!(addresses(text), ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn no_more_are_taken_than_the_system_takes() {
        let text = (1..9).map(|n| format!("nameserver 192.0.2.{n}\n")).collect::<String>();
        assert_eq!(addresses(&text), ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]);
    }

    #[test]
    fn an_address_that_cannot_be_asked_is_passed_over() {
        for odd in ["fe80::1%eth0", "fe80::1", "0.0.0.0", "::", "ff02::fb", "127.1", "dns", ""] {
            let named = parse(&format!("nameserver {odd}\nnameserver 192.0.2.1\n"));
            assert_eq!(named.passed_over, [odd]);
            assert_eq!(named.servers.len(), 1, "{odd}");
        }
    }
}
