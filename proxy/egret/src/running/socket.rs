//! Whose the sockets are that listen on this machine, as Linux tells everybody (proc(5)).
//!
//! Where that is not told, as on other systems, nothing is known of any.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

/// Whether somebody listens at an address of this machine, and nobody who must not.
pub(super) fn listens(address: SocketAddr, may: impl Fn(u32) -> bool) -> bool {
    let mut users = [TCP, TCP_V6]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| at(line, address)).collect::<Vec<_>>())
        .peekable();
    users.peek().is_some() && users.all(may)
}

/// The user whose socket a line of the table is, if it takes connections to the address.
fn at(line: &str, address: SocketAddr) -> Option<u32> {
    // sl local_address rem_address st queues timer retransmits uid
    let fields: Vec<_> = line.split_ascii_whitespace().take(8).collect();
    let [_, local, _, LISTENS, _, _, _, user] = fields[..] else { return None };
    let (ip, port) = local.split_once(':')?;
    let (ip, port) = (read_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
    let takes = ip == address.ip() || ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4());
    (takes && port == address.port()).then(|| user.parse().ok()).flatten()
}

/// Words of four bytes, each a number as this machine has it in its memory.
fn read_ip(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for word in text.as_bytes().chunks(8) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?),
    };
    Some(ip.to_canonical())
}

const TCP: &str = "/proc/net/tcp";
const TCP_V6: &str = "/proc/net/tcp6";
/// `TCP_LISTEN`.
const LISTENS: &str = "0A";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_its_users() {
        let own = rustix::process::geteuid().as_raw();
        for (bound, asked) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind(bound) else {
                assert!(bound.starts_with('['), "{bound}");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let at = SocketAddr::new(asked.parse().unwrap(), port);
            assert!(listens(at, |user| user == own), "{bound} {asked}");
            assert!(!listens(at, |user| user != own), "{bound} {asked}");
            drop(listener);
            assert!(!listens(at, |_| true), "{bound} {asked}");
        }
    }

    #[test]
    fn what_does_not_listen_there_is_passed_over() {
        let at_port = |line: &str| at(line, "127.0.0.1:3128".parse().unwrap());
        let word = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let line = |local: &str, state: &str| {
            format!(" 0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 1200")
        };
        assert_eq!(at_port(&line(&format!("{word}:0C38"), "0A")), Some(1200));
        assert_eq!(at_port(&line("00000000:0C38", "0A")), Some(1200));
        assert_eq!(at_port(&line(&format!("{word}:0C39"), "0A")), None);
        assert_eq!(at_port(&line(&format!("{word}:0C38"), "01")), None);
        let other = format!("{:08X}:0C38", u32::from_ne_bytes([127, 0, 0, 2]));
        assert_eq!(at_port(&line(&other, "0A")), None);
        assert_eq!(at_port("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(at_port(&line("zz:0C38", "0A")), None);
    }
}
