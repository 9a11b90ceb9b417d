//! Lends a secret for a credential that policy names, so that the worker never holds it.
//!
//! This crate is the port: what the data path asks for, and how being refused looks. Whoever
//! implements [`Bridge`] must fail closed: a lender that is late, sealed or unsure returns a
//! [`LendError`], and the request is refused. Lending a stale secret is a decision of the backend
//! within its stated bounds; lending another credential's secret is never acceptable.

use std::{fmt, future::Future, pin::Pin};

use egret_policy::{CredentialId, WorkerId};
use zeroize::Zeroizing;

/// Lends secrets to the data path.
///
/// Wrong in one direction (no secret although there is one) costs a refused request; wrong in the
/// other (a secret for the wrong credential or worker) is a leak. Implementations err on the first.
pub trait Bridge: Send + Sync {
    /// Lends the current secret of `credential` for one request of `worker`.
    fn lend<'a>(&'a self, credential: &'a CredentialId, worker: &'a WorkerId) -> Lending<'a>;
}

/// The answer of a [`Bridge`], to be awaited under the request's deadline.
pub type Lending<'a> = Pin<Box<dyn Future<Output = Result<Secret, LendError>> + Send + 'a>>;

/// A lent secret, overwritten in memory when dropped.
///
/// It has no `Display`, `Clone` or `Serialize`, and `Debug` prints a constant.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes of a secret.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the bytes, to be placed or signed with and never kept.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret was not lent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LendError {
    /// No backend is there that could know the credential.
    #[error("no vault is configured for credential `{0}`")]
    NoVault(CredentialId),
}

/// The bridge of a proxy without a vault: lends nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVault;

impl Bridge for NoVault {
    fn lend<'a>(&'a self, credential: &'a CredentialId, _worker: &'a WorkerId) -> Lending<'a> {
        Box::pin(std::future::ready(Err(LendError::NoVault(credential.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new(b"s3cret-token".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), b"s3cret-token");
    }
}
