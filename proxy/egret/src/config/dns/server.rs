//! One entry of `servers`: `IP:PORT`, `tls://IP[:PORT][#NAME]` or
//! `https://IP[:PORT][/PATH][#NAME]`.
//!
//! A server is named by its address, since nobody could resolve its name; what stands behind `#` is
//! what its certificate must carry. Without it that is the address itself.

use std::net::{IpAddr, SocketAddr};

use egret_policy::source::{Value, shown};
use egret_proxy::{NameServer, Transport};
use rustls_pki_types::ServerName;

const TLS_PORT: u16 = 853;
const HTTPS_PORT: u16 = 443;
const HTTPS_PATH: &str = "/dns-query";

pub(super) fn read(entry: &Value<'_>) -> Option<NameServer> {
    let text = entry.text()?;
    let server = match text.value.split_once("://") {
        None => {
            let address = entry.socket_address()?.value;
            NameServer { address, transport: Transport::Cleartext }
        }
        Some(("tls", rest)) => {
            let (place, name) = apart(rest, '#');
            if let Some((_, path)) = place.split_once('/') {
                let message = format!("DNS over TLS has no path: `/{}`", shown(path));
                entry.problem(message, "leave the path out, or write `https://`");
                return None;
            }
            let address = address(entry, place, TLS_PORT)?;
            let verified = verified(entry, address.ip(), name)?;
            NameServer { address, transport: Transport::Tls { verified } }
        }
        Some(("https", rest)) => {
            let (place, name) = apart(rest, '#');
            let (place, path) = match place.find('/') {
                Some(slash) => (&place[..slash], &place[slash..]),
                None => (place, HTTPS_PATH),
            };
            let path = path_of(entry, path)?;
            let address = address(entry, place, HTTPS_PORT)?;
            let verified = verified(entry, address.ip(), name)?;
            if let ServerName::IpAddress(rustls_pki_types::IpAddr::V6(_)) = verified {
                entry.problem(
                    "an HTTPS server at an IPv6 address is verified by its name",
                    "write the name that its certificate carries behind `#`",
                );
                return None;
            }
            NameServer { address, transport: Transport::Https { verified, path } }
        }
        Some((scheme, _)) => {
            let message = format!("name servers are not spoken to by `{}`", shown(scheme));
            entry.problem(message, FORMS);
            return None;
        }
    };
    can_be_asked(entry, server.address)?;
    Some(server)
}

/// What stands before and, if anything, behind the first `mark`.
fn apart(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

fn address(entry: &Value<'_>, place: &str, default_port: u16) -> Option<SocketAddr> {
    let alone = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(place);
    let bracketed = alone.len() != place.len();
    if let Ok(address) = place.parse::<SocketAddr>() {
        return Some(address);
    }
    match alone.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() == bracketed => return Some(SocketAddr::new(ip, default_port)),
        Ok(ip) if ip.is_ipv6() => {
            let message = format!("where the address `{}` ends is not clear", shown(place));
            entry.problem(message, format!("write `[{ip}]`"));
        }
        Ok(ip) => entry.problem("brackets are for IPv6 addresses", format!("write `{ip}`")),
        Err(_) => {
            let message = format!("`{}` is not an IP address", shown(place));
            entry.problem(
                message,
                "write the server's address, and its name behind `#`: nobody could resolve it",
            );
        }
    }
    None
}

fn verified(entry: &Value<'_>, ip: IpAddr, name: Option<&str>) -> Option<ServerName<'static>> {
    let Some(name) = name else { return Some(ServerName::IpAddress(ip.into())) };
    match ServerName::try_from(name.to_owned()) {
        Ok(verified) => Some(verified),
        Err(_) => {
            let message = format!("`{}` is not what a certificate could carry", shown(name));
            entry.problem(
                message,
                "write a host name behind `#`, as in `tls://9.9.9.9#dns.quad9.net`",
            );
            None
        }
    }
}

fn path_of(entry: &Value<'_>, path: &str) -> Option<String> {
    let visible =
        path.bytes().all(|byte| byte.is_ascii_graphic() && !br#"?{}<>"\^`|"#.contains(&byte));
    if visible {
        return Some(path.to_owned());
    }
    let message = format!("`{}` is not a path", shown(path));
    entry.problem(message, "write it without a query or template, mostly `/dns-query`");
    None
}

fn can_be_asked(entry: &Value<'_>, address: SocketAddr) -> Option<()> {
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        entry.problem(
            format!("nobody can be asked at `{address}`"),
            "write the server's IP address and port, mostly 53",
        );
        return None;
    }
    if let SocketAddr::V6(address) = address
        && (address.scope_id() != 0 || address.ip().is_unicast_link_local())
    {
        entry.problem(
            format!("`{address}` depends on an interface, which is not supported"),
            "write an address of the server that is valid beyond one link",
        );
        return None;
    }
    Some(())
}

const FORMS: &str = "write `IP:PORT`, `tls://IP#NAME` or `https://IP/dns-query#NAME`, as in `tls://9.9.9.9#dns.quad9.net`";
