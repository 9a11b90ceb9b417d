//! A few rtnetlink messages, written by hand: `lo` up, a `local` default route for each family, and
//! routes that swallow what is sent to one address.
//!
//! With `local 0.0.0.0/0` and `local ::/0` on `lo` the kernel delivers every unicast destination to
//! this network namespace. Each message is acknowledged, and an error of the kernel is returned.

use std::{io, net::Ipv4Addr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

/// Brings `lo` up and makes every address of both families local to it.
pub(super) fn loopback_is_everything() -> io::Result<()> {
    talk(&[
        (RTM_NEWLINK, 0, link_up()),
        (RTM_NEWROUTE, NLM_F_CREATE, local_route(AF_INET)),
        (RTM_NEWROUTE, NLM_F_CREATE, local_route(AF_INET6)),
    ])
}

/// Drops every packet that is sent to an address from now on, in silence.
pub(super) fn swallow(address: Ipv4Addr) -> io::Result<()> {
    talk(&[(RTM_NEWROUTE, NLM_F_CREATE, black_hole(address))])
}

/// Takes [`swallow`] back.
pub(super) fn release(address: Ipv4Addr) -> io::Result<()> {
    talk(&[(RTM_DELROUTE, 0, black_hole(address))])
}

fn talk(messages: &[(u16, u16, Vec<u8>)]) -> io::Result<()> {
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    for (sequence, (kind, flags, body)) in (1_u32..).zip(messages) {
        let message = message(*kind, *flags, sequence, body);
        send(&netlink, &message, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (got, _) = recv(&netlink, &mut answer[..], RecvFlags::empty())?;
        acknowledged(&answer[..got])?;
    }
    Ok(())
}

/// `struct nlmsghdr` and the body; all of netlink is in the byte order of the host.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("our messages are short");
    let mut out = Vec::new();
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    out.extend(body);
    out
}

/// `struct ifinfomsg`: set `IFF_UP` on the loopback device, whose index is always 1.
fn link_up() -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(0_u16.to_ne_bytes());
    out.extend(LOOPBACK.to_ne_bytes());
    out.extend(IFF_UP.to_ne_bytes());
    out.extend(IFF_UP.to_ne_bytes());
    out
}

/// `struct rtmsg` with an empty prefix, and `RTA_OIF`.
fn local_route(family: u8) -> Vec<u8> {
    let mut out = vec![
        family,
        0, // prefix length of the destination: every address
        0, // of the source
        0, // type of service
        RT_TABLE_LOCAL,
        RTPROT_BOOT,
        RT_SCOPE_HOST,
        RTN_LOCAL,
    ];
    out.extend(0_u32.to_ne_bytes());
    out.extend(8_u16.to_ne_bytes());
    out.extend(RTA_OIF.to_ne_bytes());
    out.extend(LOOPBACK.to_ne_bytes());
    out
}

/// `struct rtmsg` for one address, ahead of the route above because it is more specific.
fn black_hole(address: Ipv4Addr) -> Vec<u8> {
    let mut out =
        vec![AF_INET, 32, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_BLACKHOLE];
    out.extend(0_u32.to_ne_bytes());
    out.extend(8_u16.to_ne_bytes());
    out.extend(RTA_DST.to_ne_bytes());
    out.extend(address.octets());
    out
}

/// Reads a `struct nlmsgerr`, whose error is zero for an acknowledgement.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a netlink acknowledgement");
    let kind = answer.get(4..6).ok_or_else(invalid)?;
    let error = answer.get(HEADER..HEADER + 4).ok_or_else(invalid)?;
    if kind != NLMSG_ERROR.to_ne_bytes() {
        return Err(invalid());
    }
    match i32::from_ne_bytes(error.try_into().map_err(|_| invalid())?) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(-number)),
    }
}

const HEADER: usize = 16;
const LOOPBACK: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const IFF_UP: u32 = 1;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_HOST: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
