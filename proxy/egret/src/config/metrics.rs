//! `[metrics]`: where figures and readiness are answered for.
//!
//! Nobody is asked who they are there, so an address that others can reach is warned of.

use std::net::SocketAddr;

use egret_policy::source::{At, Table};

pub(super) fn read(table: &Table<'_>) -> Option<At<SocketAddr>> {
    let value = table.require("address", "write `address = \"127.0.0.1:9181\"`")?;
    let address = value.socket_address()?;
    if !address.value.ip().to_canonical().is_loopback() {
        table.report().warning(
            &address.span,
            format!("everybody who reaches {} can read the metrics", address.value),
            "listen on a loopback address, or keep others away by a firewall",
        );
    }
    Some(address)
}
