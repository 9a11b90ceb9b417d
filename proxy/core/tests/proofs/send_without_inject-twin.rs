//! Sending a request that has not been through injection.

use egret_policy::{Authority, Grant, Scheme, WorkerId};
use egret_proxy::stages::{InjectError, Ready, Upload, inject};
use egret_vault_bridge::NoVault;
use http::Request;

pub async fn ready(
    request: Request<Upload>,
    authority: &Authority,
    grant: &Grant,
    worker: &WorkerId,
) -> Result<Ready, InjectError> {
    let _unused = (authority, grant, worker, NoVault);
    inject(request, Scheme::Http, authority, grant, worker, &NoVault).await
}

fn main() {}
