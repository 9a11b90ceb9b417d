//! Certificates of the test: a root that signs the origins, one that nobody trusts, and the CA that
//! a proxy intercepts with.
//!
//! Keys live in memory and, where a proxy has to read them, in the test's private folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The names on the certificate of an ordinary origin.
pub const GOOD_NAMES: [&str; 4] = ["api.example.com", "*.example.org", "example.com", "evil.test"];

/// The authorities of a test.
pub struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    unknown: CertifiedIssuer<'static, KeyPair>,
    intercept: CertifiedIssuer<'static, KeyPair>,
}

/// Where the files of a [`Pki`] were written, all PEM.
#[derive(Debug, Clone)]
pub struct Files {
    /// The root that signed the origins.
    pub roots: PathBuf,
    /// The certificate for interception.
    pub intercept_certificate: PathBuf,
    /// Its key.
    pub intercept_key: PathBuf,
}

/// What is wrong with an origin's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It was valid once.
    Expired,
    /// An authority signed it that nobody trusts.
    UnknownIssuer,
}

impl Pki {
    /// Makes new keys and certificates.
    pub fn new() -> Result<Self, rcgen::Error> {
        Ok(Self {
            root: authority("egret test root")?,
            unknown: authority("egret test unknown")?,
            intercept: authority("egret test intercept")?,
        })
    }

    /// Writes what a proxy has to read into a folder.
    pub fn write(&self, directory: &Path) -> io::Result<Files> {
        let files = Files {
            roots: directory.join("roots.pem"),
            intercept_certificate: directory.join("intercept.pem"),
            intercept_key: directory.join("intercept.key"),
        };
        fs::write(&files.roots, self.root.pem())?;
        fs::write(&files.intercept_certificate, self.intercept.pem())?;
        write_private(&files.intercept_key, &self.intercept.key().serialize_pem())?;
        Ok(files)
    }

    /// Returns the root that signs the origins.
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// Returns the root that signs the origins, as PEM.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// Returns the configuration of an origin whose certificate has these names.
    pub fn origin(&self, names: &[&str], flaw: Flaw) -> Result<Arc<ServerConfig>, rcgen::Error> {
        self.origin_speaking(names, flaw, &[])
    }

    /// Returns the configuration of an origin that also offers these ALPN protocols.
    pub fn origin_speaking(
        &self,
        names: &[&str],
        flaw: Flaw,
        protocols: &[&str],
    ) -> Result<Arc<ServerConfig>, rcgen::Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        let (issuer, end) = match flaw {
            Flaw::None => (&self.root, 2099),
            Flaw::Expired => (&self.root, 2021),
            Flaw::UnknownIssuer => (&self.unknown, 2099),
        };
        params.not_after = date_time_ymd(end, 1, 1);
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), issuer.der().clone()], key)
            .expect("the certificate was just made for this key");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

/// The cryptography that all TLS of the tests uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Writes a file that only its owner may read: a proxy may refuse a key that others can.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
