//! The driver for cases of kind `config`: what is tried once the proxy stands, as it was set up.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use egret_testkit::client::{Client, PATIENCE};

use super::{Depth, name};
use crate::{
    case::{
        Configured,
        config::{Attempt, Change, NO_CHANGE},
    },
    cell::Cell,
    observed::Observed,
};

pub(super) fn play(
    cell: &Cell<'_>,
    configured: &Configured,
    seen: &mut Observed<'_>,
) -> io::Result<()> {
    if let Some(change) = &configured.change {
        changed(cell, change, seen)?;
    }
    for attempt in &configured.attempts {
        match attempt {
            Attempt::Connect(authority) => {
                name(cell, &format!("CONNECT {authority}"), Depth::Through, seen)?;
            }
            Attempt::ConnectWith { line, authority } => {
                let lines = format!("{line}\r\n");
                let tunnel = cell.client()?.tunnel_with(authority, &lines, PATIENCE)?;
                seen.raw.extend(&tunnel.raw);
                seen.replies.extend(tunnel.reply.clone());
                (seen.closed, seen.silent) = (tunnel.closed, tunnel.silent);
                seen.results.push(tunnel.status());
            }
            Attempt::Get(url) => name(cell, &format!("GET {url}"), Depth::Through, seen)?,
            Attempt::FromElsewhere => {
                let reached = accepts_elsewhere(cell)?;
                seen.reached_elsewhere = Some(reached);
                seen.results.push(if reached { 200 } else { 0 });
            }
            Attempt::AfterEdit => {
                changed(cell, &Change::Widened, seen)?;
                name(cell, "CONNECT evil.test:443", Depth::Through, seen)?;
            }
        }
    }
    Ok(())
}

/// Changes the files of the proxy, and looks whether what was denied still is.
fn changed(cell: &Cell<'_>, change: &Change, seen: &mut Observed<'_>) -> io::Result<()> {
    if cell.change(change)? {
        name(cell, "GET http://evil.test/", Depth::Through, seen)?;
        seen.still_denies = seen.results.last().map(|status| status / 100 != 2);
    } else {
        seen.unplayed = Some(NO_CHANGE.to_owned());
    }
    Ok(())
}

/// Whether the proxy's port is open on an address of this machine that is not loopback.
fn accepts_elsewhere(cell: &Cell<'_>) -> io::Result<bool> {
    let port = cell.proxy()?.address().port();
    Client::new(SocketAddr::new(ELSEWHERE.into(), port), cell.packets.own()).is_accepted()
}

/// An address of the namespace, as every address is.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 30);
