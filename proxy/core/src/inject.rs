//! Puts a credential into a request (stage 8), and only into one that is about to leave over a
//! connection whose peer was pinned: the request comes out as [`Ready`], which nothing else makes
//! and which sending consumes.
//!
//! A credential that cannot be had or placed refuses the request; nothing is sent without it.

use egret_policy::{Authority, CredentialId, Grant, Scheme, WorkerId};
use egret_vault_bridge::{Bridge, LendError};
use http::Request;

use crate::{hop, relay::Upload};

/// Why a request is not made ready.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The secret of a credential is not lent.
    #[error("lend a credential")]
    Lend(#[from] LendError),
    /// The secret is there, and no way to place it.
    #[error("place credential `{0}`")]
    Placement(CredentialId),
}

/// A request that may be sent upstream as it is.
pub struct Ready(Request<Upload>);

impl Ready {
    pub(crate) fn into_request(self) -> Request<Upload> {
        self.0
    }
}

/// Strips what must not leave and places what the grant names.
pub async fn inject(
    mut request: Request<Upload>,
    scheme: Scheme,
    authority: &Authority,
    grant: &Grant,
    worker: &WorkerId,
    bridge: &dyn Bridge,
) -> Result<Ready, InjectError> {
    hop::towards_origin(request.headers_mut(), scheme, authority, grant);
    if let Some(credential) = grant.credentials().first() {
        let _secret = bridge.lend(credential, worker).await?;
        // No way of placing is built; a request that needs one must not leave without it.
        return Err(InjectError::Placement(credential.clone()));
    }
    Ok(Ready(request))
}
