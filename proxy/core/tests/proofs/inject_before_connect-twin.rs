//! Injecting with nothing but a decision: the grant exists only for a connection whose peer is
//! known.

use egret_policy::{Authority, Grant, Permit, Scheme, WorkerId};
use egret_proxy::stages::{Connected, InjectError, Upload, inject};
use egret_vault_bridge::NoVault;
use http::Request;

pub async fn place(
    request: Request<Upload>,
    authority: &Authority,
    permit: &Permit,
    connected: &Connected<Grant>,
    worker: &WorkerId,
) -> Result<(), InjectError> {
    let _unused = (permit, connected);
    let grant: &Grant = &connected.grant;
    inject(request, Scheme::Http, authority, grant, worker, &NoVault).await.map(drop)
}

fn main() {}
