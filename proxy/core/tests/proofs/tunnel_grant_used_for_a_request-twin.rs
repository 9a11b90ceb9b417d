//! Using what a CONNECT was granted for a request that was never decided.

use egret_policy::{Denial, Grant, OwnAddresses, Permit, TunnelGrant};

pub fn inner(permit: Permit, tunnel: TunnelGrant, own: &OwnAddresses) -> Result<Grant, Denial> {
    let _unused = (&permit, &tunnel, own);
    permit.over(&tunnel, own)
}

fn main() {}
