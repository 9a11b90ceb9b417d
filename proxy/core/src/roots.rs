//! The authorities that are trusted to say who a server is.
//!
//! One value serves every TLS connection that egret opens. Here certificates become roots, and a
//! set without any cannot be made except as the empty default, under which nothing verifies. Where
//! they come from (the system, a file) is read by the program; this module reads nothing.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::CertificateDer;

/// Trusted roots; by default none, so that no certificate verifies.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootCertStore>);

/// Why certificates cannot be the trusted roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// None was given.
    #[error("there is no certificate")]
    Empty,
    /// One of them cannot be a root.
    #[error("certificate {place} cannot be a root")]
    Certificate {
        /// Which it is, counted from 1.
        place: usize,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
}

impl Roots {
    /// Takes certificates that somebody chose one by one: each must be good, and there must be one.
    pub fn exactly(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.into_iter().enumerate() {
            store
                .add(certificate)
                .map_err(|source| RootsError::Certificate { place: index + 1, source })?;
        }
        Self::unless_empty(store)
    }

    /// Takes what a system happens to hold: what cannot be a root is left out, as its other
    /// programs do. A store of hundreds with one odd certificate must not stop the proxy.
    pub fn those_usable(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        let (taken, left_out) = store.add_parsable_certificates(certificates);
        tracing::debug!(taken, left_out, "read trusted roots");
        Self::unless_empty(store)
    }

    /// Returns the roots of Mozilla's programme as this release was built with them.
    pub fn bundled() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        Self(Arc::new(RootCertStore { roots: roots.collect() }))
    }

    /// Returns the number of roots.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what a client needs that trusts these roots and has no certificate of its own.
    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for the default versions")
            .with_root_certificates(self.0.clone())
            .with_no_client_auth()
    }

    fn unless_empty(store: RootCertStore) -> Result<Self, RootsError> {
        if store.is_empty() { Err(RootsError::Empty) } else { Ok(Self(Arc::new(store))) }
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }
}

#[cfg(test)]
mod tests {
    use egret_testkit::pki::Pki;

    use super::*;

    #[test]
    fn what_was_chosen_must_be_good_and_what_was_found_may_be_odd() {
        let root = || Pki::new().unwrap().root();
        let odd = || CertificateDer::from(vec![0x30, 0]);
        assert_eq!(Roots::exactly([root(), root()]).unwrap().len(), 2);
        assert!(matches!(
            Roots::exactly([root(), odd()]),
            Err(RootsError::Certificate { place: 2, .. })
        ));
        assert_eq!(Roots::those_usable([root(), odd()]).unwrap().len(), 1);
    }

    #[test]
    fn no_root_at_all_is_an_error() {
        assert!(matches!(Roots::exactly([]), Err(RootsError::Empty)));
        let odd = CertificateDer::from(vec![0x30, 0]);
        assert!(matches!(Roots::those_usable([odd]), Err(RootsError::Empty)));
    }

    #[test]
    fn roots_are_bundled() {
        assert!(Roots::bundled().len() > 50);
    }
}
