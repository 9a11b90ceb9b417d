//! The URL by which a worker's clients reach the proxy: where it listens, and who asks.
//!
//! The listener is the first of the configuration that takes the proofs the worker gives, at the
//! address that the running proxy says it has. Where nothing fits nothing is guessed: a URL of
//! which a client would only learn that it is refused is not made. The configuration may have come
//! with a checkout, so an address at which no proxy is known to listen must be one of this machine.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use egret_policy::WorkerId;
use egret_proxy::{IdentityKind, KnownWorker, ListenerSettings, is_of_this_machine};

use crate::{
    config::{self, Config},
    failure::Exit,
    running::Running,
    token::Token,
};

/// Where the proxy is, and as whom to use it.
#[derive(Debug)]
pub(crate) struct ProxyUrl {
    /// An address that can be connected to.
    pub(crate) address: SocketAddr,
    /// The worker whose requests these will be, where that is known beforehand.
    pub(crate) worker: Option<WorkerId>,
    token: Option<Token>,
}

/// Why there is no URL for this worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyUrlError {
    #[error("worker `{worker}` is not in {origin}, and no token says that it is known elsewhere")]
    UnknownWorker { worker: WorkerId, origin: String },
    #[error("the token is none of a worker in {origin}")]
    UnknownToken { origin: String },
    #[error("the token is not that of worker `{worker}`")]
    WrongToken { worker: WorkerId },
    #[error("worker `{worker}` has to show its token, and there is none")]
    NoToken { worker: WorkerId },
    #[error("worker `{worker}` has no token in {origin}, and one is set")]
    NeedlessToken { worker: WorkerId, origin: String },
    #[error("whoever uses the proxy of {origin} has to show a token, and there is none")]
    TokenNeeded { origin: String },
    #[error("no TCP listener in {origin} takes {proofs}")]
    NoListener { origin: String, proofs: String },
    #[error("the system chooses the port of the listener, and no proxy runs that has one")]
    NotRunning,
    #[error("the proxy that runs does not listen at `{address}`")]
    Elsewhere { address: SocketAddr },
    #[error(
        "`{address}`, which {origin} names, is no address of this machine, and no proxy is known \
         to listen there"
    )]
    NotHere { address: SocketAddr, origin: String },
}

impl ProxyUrlError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NotRunning => Exit::Negative,
            Self::Elsewhere { .. } => Exit::Unavailable,
            Self::UnknownWorker { .. }
            | Self::UnknownToken { .. }
            | Self::WrongToken { .. }
            | Self::NoToken { .. }
            | Self::NeedlessToken { .. }
            | Self::TokenNeeded { .. }
            | Self::NotHere { .. }
            | Self::NoListener { .. } => Exit::Configuration,
        }
    }

    pub(crate) fn fix(&self) -> String {
        match self {
            Self::UnknownWorker { .. } => {
                "name a worker of that file, or set EGRET_TOKEN_FILE".to_owned()
            }
            Self::UnknownToken { .. } => "say whose it is: `--worker ID`".to_owned(),
            Self::WrongToken { .. } => {
                "set EGRET_TOKEN_FILE to the file with its token; `egret worker token ID` makes a \
                 new one"
                    .to_owned()
            }
            Self::NoToken { .. } | Self::TokenNeeded { .. } => {
                "set EGRET_TOKEN_FILE, or EGRET_TOKEN".to_owned()
            }
            Self::NeedlessToken { .. } => "unset EGRET_TOKEN and EGRET_TOKEN_FILE".to_owned(),
            Self::NoListener { .. } => {
                "add a `[[listener]]` with a TCP address that does; clients cannot be told of a \
                 Unix socket by variables"
                    .to_owned()
            }
            Self::NotRunning => "run `egret serve` first, or name a port".to_owned(),
            Self::Elsewhere { .. } => {
                "start it again: it was started with another configuration".to_owned()
            }
            Self::NotHere { .. } => {
                "name an address of this machine; for a proxy on another one, run `egret env` \
                 there, or set the proxy's variables by hand"
                    .to_owned()
            }
        }
    }
}

/// A listener that takes what a worker shows; where it listens is for the running proxy to say.
#[derive(Debug)]
pub(crate) struct Chosen {
    at: usize,
    configured: SocketAddr,
    origin: String,
    worker: Option<WorkerId>,
    token: Option<Token>,
}

impl Chosen {
    /// Chooses the listener for a worker.
    pub(crate) fn of(
        config: &Config,
        worker: Option<&WorkerId>,
        token: Option<Token>,
    ) -> Result<Self, ProxyUrlError> {
        let (worker, proofs) = identify(config, worker, token.as_ref())?;
        let listeners = config.settings.listeners.iter().enumerate();
        let tcp =
            listeners.filter_map(|(at, listener)| Some((at, listener.address.tcp()?, listener)));
        let fitting = tcp.clone().find(|(_, _, listener)| proofs.are_taken_by(listener));
        let Some((at, configured, _)) = fitting else {
            let origin = config.origin.to_string();
            let takes_token =
                |listener: &ListenerSettings| listener.identity.contains(&IdentityKind::Token);
            return Err(match proofs {
                Proofs::NoneShown if tcp.clone().any(|(_, _, listener)| takes_token(listener)) => {
                    ProxyUrlError::TokenNeeded { origin }
                }
                Proofs::NoneShown | Proofs::All(_) => {
                    ProxyUrlError::NoListener { origin, proofs: proofs.to_string() }
                }
            });
        };
        Ok(Self { at, configured, origin: config.origin.absolute(), worker, token })
    }

    /// Puts the URL together: with the address that the running proxy has, or the one it will have.
    pub(crate) fn at(self, running: &Running) -> Result<ProxyUrl, ProxyUrlError> {
        let Self { at, configured, origin, worker, token } = self;
        let bound = match running {
            Running::Here { listeners } => {
                let bound = listeners.get(at).copied().flatten();
                let is_it = |bound: &SocketAddr| {
                    bound.ip() == configured.ip() && [0, bound.port()].contains(&configured.port())
                };
                bound.filter(is_it).ok_or(ProxyUrlError::Elsewhere { address: configured })?
            }
            Running::Nowhere | Running::Unknown if configured.port() == 0 => {
                return Err(ProxyUrlError::NotRunning);
            }
            Running::Nowhere | Running::Unknown if !is_here(configured.ip()) => {
                return Err(ProxyUrlError::NotHere { address: configured, origin });
            }
            Running::Nowhere | Running::Unknown => configured,
        };
        Ok(ProxyUrl { address: reachable(bound), worker, token })
    }
}

impl ProxyUrl {
    /// Whether the URL holds a token.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Returns the whole URL, its token included.
    pub(crate) fn expose(&self) -> String {
        let mut url = "http://".to_owned();
        if let (Some(worker), Some(token)) = (&self.worker, &self.token) {
            url += &format!("{}:{}@", encoded(worker.as_str().as_bytes()), encoded(token.expose()));
        }
        url + &self.address.to_string()
    }

    /// Returns the token in all forms in which clients show it: as it is, as the URL holds it, and
    /// in the header that is made of that. Empty when there is none.
    pub(crate) fn expose_forms_of_token(&self) -> Vec<String> {
        let (Some(worker), Some(token)) = (&self.worker, &self.token) else { return Vec::new() };
        let credentials = [worker.as_str().as_bytes(), b":", token.expose()].concat();
        let mut forms = vec![
            String::from_utf8_lossy(token.expose()).into_owned(),
            encoded(token.expose()),
            STANDARD.encode(credentials),
        ];
        forms.dedup();
        forms
    }
}

/// What a worker shows to a listener.
enum Proofs {
    /// All of these, because it is known what the worker lists.
    All(Vec<IdentityKind>),
    /// Nothing; who asks is told by where it comes from, or not at all.
    NoneShown,
}

impl Proofs {
    fn are_taken_by(&self, listener: &ListenerSettings) -> bool {
        match self {
            Self::All(kinds) => kinds.iter().all(|kind| listener.identity.contains(kind)),
            Self::NoneShown => listener.identity.iter().any(|kind| match kind {
                IdentityKind::Anonymous | IdentityKind::Source => true,
                IdentityKind::Token | IdentityKind::Peer => false,
            }),
        }
    }
}

impl fmt::Display for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::All(kinds) = self else { return f.write_str("`anonymous` or `source`") };
        let names: Vec<_> = kinds
            .iter()
            .map(|kind| match kind {
                IdentityKind::Anonymous => "`anonymous`",
                IdentityKind::Token => "`token`",
                IdentityKind::Source => "`source`",
                IdentityKind::Peer => "`peer`",
            })
            .collect();
        f.write_str(&names.join(" and "))
    }
}

/// Tells who asks, and by which proofs.
fn identify(
    config: &Config,
    worker: Option<&WorkerId>,
    token: Option<&Token>,
) -> Result<(Option<WorkerId>, Proofs), ProxyUrlError> {
    let origin = || config.origin.to_string();
    let known = |id: &WorkerId| config.workers.iter().find(|known| known.worker.id == *id);
    let (known, token) = match (worker, token) {
        (None, None) => return Ok((None, Proofs::NoneShown)),
        (Some(id), None) if id.as_str() == config::ANONYMOUS => {
            return Ok((Some(id.clone()), Proofs::All(vec![IdentityKind::Anonymous])));
        }
        (Some(id), None) => {
            let unknown = || ProxyUrlError::UnknownWorker { worker: id.clone(), origin: origin() };
            (known(id).ok_or_else(unknown)?, None)
        }
        (Some(id), Some(token)) => match known(id) {
            Some(known) => (known, Some(token)),
            // The configuration of the machine that the worker runs on need not know it.
            None => return Ok((Some(id.clone()), Proofs::All(vec![IdentityKind::Token]))),
        },
        (None, Some(token)) => {
            let digest = Some(token.digest());
            let holder = config.workers.iter().find(|known| known.proofs.token_sha256 == digest);
            let unknown = || ProxyUrlError::UnknownToken { origin: origin() };
            (holder.ok_or_else(unknown)?, Some(token))
        }
    };
    let KnownWorker { worker, proofs } = known;
    let id = || worker.id.clone();
    match (proofs.token_sha256, token) {
        (None, None) => {}
        (Some(listed), Some(token)) if listed == token.digest() => {}
        (Some(_), Some(_)) => return Err(ProxyUrlError::WrongToken { worker: id() }),
        (Some(_), None) => return Err(ProxyUrlError::NoToken { worker: id() }),
        (None, Some(_)) => {
            return Err(ProxyUrlError::NeedlessToken { worker: id(), origin: origin() });
        }
    }
    let kinds = [
        (proofs.token_sha256.is_some(), IdentityKind::Token),
        (!proofs.source.is_empty(), IdentityKind::Source),
        (proofs.uid.is_some(), IdentityKind::Peer),
    ];
    let kinds = kinds.into_iter().filter_map(|(listed, kind)| listed.then_some(kind)).collect();
    Ok((Some(id()), Proofs::All(kinds)))
}

/// Whether this machine alone can be what answers; every address is one of its own, too.
fn is_here(ip: IpAddr) -> bool {
    ip.is_unspecified() || is_of_this_machine(ip).unwrap_or(false)
}

/// Who listens on every address is reached on that of this machine.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let here = match bound {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(if bound.ip().is_unspecified() { here } else { bound.ip() }, bound.port())
}

/// Writes bytes as a part of a URL: only what RFC 3986 leaves unreserved stays as it is, so that
/// no client finds the end of the part elsewhere.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
