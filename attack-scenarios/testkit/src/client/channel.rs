//! A connection to the proxy: in cleartext, or TLS within its tunnel.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::pki;

/// A connection to the proxy.
#[derive(Debug)]
pub enum Channel {
    /// Bytes as they are.
    Plain(TcpStream),
    /// TLS to whoever stands at the end of the tunnel.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, Leaf),
}

/// The certificate that was shown inside a tunnel; nobody has judged it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf(pub Vec<u8>);

impl Channel {
    /// Handshakes over a plain channel. The certificate is taken as it is, so that a test can see
    /// what a careless client would; SNI is sent for names only, and not at all for `None`.
    pub fn tls(self, sni: Option<&str>, protocols: &[&str]) -> io::Result<Self> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(..) => return Err(io::Error::other("already TLS")),
        };
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let verifier = Careless { seen: Arc::clone(&seen), provider: pki::provider() };
        let mut config = ClientConfig::builder_with_provider(pki::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.enable_sni = sni.is_some();
        // An address as the name makes rustls leave SNI out.
        let name = match sni {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
            None => ServerName::IpAddress(IpAddr::from([192, 0, 2, 1]).into()),
        };
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        stream.set_read_timeout(Some(Duration::from_secs(4)))?;
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let leaf = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self::Tls(Box::new(stream), Leaf(leaf)))
    }

    /// Returns the socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream, _) => &stream.sock,
        }
    }

    /// Returns the protocol that ALPN chose.
    pub fn protocol(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream, _) => stream.conn.alpn_protocol().map(<[u8]>::to_vec),
        }
    }

    /// Reads more of a head, but never past its end: `have` is what was read before.
    pub(super) fn read_head_part(&mut self, have: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
        self.socket().set_read_timeout(Some(wait))?;
        let mut buffer = [0; 4096];
        let length = match self {
            Self::Plain(stream) => stream.peek(&mut buffer)?,
            Self::Tls(..) => 1,
        };
        let all = [have, &buffer[..length]].concat();
        let status_ok = all.starts_with(b"HTTP/1.1 2") || all.starts_with(b"HTTP/1.0 2");
        let upto = match crate::http1::head_end(&all, 0) {
            Some(end) if status_ok && end > have.len() => end - have.len(),
            Some(_) | None => length.max(1),
        };
        let length = self.read(&mut buffer[..upto])?;
        Ok(buffer[..length].to_vec())
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream, _) => match stream.read(buffer) {
                // An end without close_notify: the tests see a closed connection.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream, _) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream, _) => stream.flush(),
        }
    }
}

/// Accepts every certificate and keeps it. For tests that look at what a proxy presents.
#[derive(Debug)]
struct Careless {
    seen: Arc<Mutex<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
