//! Dialling an address that policy has not pinned.

use std::{net::SocketAddr, time::Duration};

use egret_policy::{Grant, Pinned};
use egret_proxy::stages::{Cut, dial};

pub async fn connect(pinned: Pinned<Grant>, raw: SocketAddr, cut: Cut) {
    let _unused = (&pinned, raw);
    let _ = dial::<Grant>(pinned, Duration::ZERO, &cut).await;
}

fn main() {}
