//! One compiled rule, and the single judgement of whether it speaks about what is asked.
//!
//! Deciding and explaining both rest on what a [`Rule`] says of itself, so they cannot disagree. Hosts are not
//! judged here: the index finds the rules of a host. What a rule says was proved at load.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::host::HostName;
use crate::limits::RuleLimits;
use crate::source::Span;
use crate::target::Scheme;
use crate::worker::Worker;

pub(crate) use self::sets::{Methods, Paths, Ports, Schemes, Workers};

mod sets;

/// The name of a rule, unique in its policy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(Arc<str>);

/// The name of a credential, unique in its policy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(Arc<str>);

macro_rules! identifier {
    ($name:ident) => {
        impl $name {
            /// Reads an id: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
            pub fn parse(text: &str) -> Option<Self> {
                let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
                (begins && text.len() <= 64 && text.bytes().all(safe)).then(|| Self(text.into()))
            }

            /// Returns the id as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

identifier!(RuleId);
identifier!(CredentialId);

impl RuleId {
    /// What a rule is called that has no valid id, so that the rest of it can be checked. It
    /// cannot be parsed, so nothing refers to it, and no policy has it.
    pub(crate) fn unnamed() -> Self {
        Self("?".into())
    }
}

/// A rule without its hosts, which are in the index.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) effect: Effect,
    pub(crate) workers: Workers,
    pub(crate) schemes: Schemes,
    pub(crate) ports: Ports,
    pub(crate) methods: Methods,
    pub(crate) paths: Paths,
    pub(crate) tls: Tls,
    pub(crate) sni: SniDemand,
    pub(crate) ech: Ech,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) limits: RuleLimits,
    /// In the order of host and port.
    pub(crate) lends: Box<[Lends]>,
    /// Where the rule stands in the text.
    pub(crate) span: Span,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The credentials that a rule places at one of its hosts.
#[derive(Debug)]
pub(crate) struct Lends {
    pub(crate) host: HostName,
    pub(crate) port: u16,
    pub(crate) credentials: Box<[CredentialId]>,
}

/// What is asked of a rule.
pub(crate) struct Asked<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) scheme: Scheme,
    pub(crate) port: u16,
    /// Method and path, where they are known: a tunnel is decided before they are.
    pub(crate) request: Option<(&'a str, &'a str)>,
    pub(crate) now: Timestamp,
}

/// The first thing about which a rule does not match, in the order in which they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Miss {
    /// It is for other workers; it counts as absent.
    Workers,
    /// It has expired; it counts as absent.
    Expired,
    Scheme,
    Port,
    Method,
    Path,
}

impl Miss {
    /// Whether the rule counts as absent.
    pub(crate) fn is_absence(self) -> bool {
        match self {
            Self::Workers | Self::Expired => true,
            Self::Scheme | Self::Port | Self::Method | Self::Path => false,
        }
    }
}

impl Rule {
    /// Returns why the rule does not match what is asked, or nothing if it does.
    pub(crate) fn miss(&self, asked: &Asked<'_>) -> Option<Miss> {
        if let Some(absent) = self.absent(asked.worker, asked.now) {
            return Some(absent);
        }
        let Some((method, path)) = asked.request else {
            return self.misses_tunnel(asked.scheme, asked.port);
        };
        if let Some(miss) = self.misses_reach(asked.scheme, asked.port) {
            return Some(miss);
        }
        if !self.methods.contain(method, self.effect) {
            return Some(Miss::Method);
        }
        (!self.paths.contain(path)).then_some(Miss::Path)
    }

    /// Returns everything about which the rule does not match, in the order of [`Rule::miss`].
    pub(crate) fn misses(&self, asked: &Asked<'_>) -> Vec<Miss> {
        let (method, path) = asked.request.unzip();
        let judged = [
            (self.workers.admit(asked.worker), Miss::Workers),
            (!self.has_expired(asked.now), Miss::Expired),
            (self.schemes.contain(asked.scheme), Miss::Scheme),
            (self.ports.contain(asked.port), Miss::Port),
            (
                !self.methods.are_none()
                    && method.is_none_or(|method| self.methods.contain(method, self.effect)),
                Miss::Method,
            ),
            (
                !self.paths.are_none() && path.is_none_or(|path| self.paths.contain(path)),
                Miss::Path,
            ),
        ];
        judged.into_iter().filter_map(|(holds, miss)| (!holds).then_some(miss)).collect()
    }

    /// Returns why the rule is as good as absent for the worker.
    pub(crate) fn absent(&self, worker: &Worker, now: Timestamp) -> Option<Miss> {
        if !self.workers.admit(worker) {
            return Some(Miss::Workers);
        }
        self.has_expired(now).then_some(Miss::Expired)
    }

    /// Returns why the rule does not match what a tunnel shows, once it is there for the worker.
    pub(crate) fn misses_tunnel(&self, scheme: Scheme, port: u16) -> Option<Miss> {
        self.misses_reach(scheme, port).or_else(|| self.misses_every_request())
    }

    fn misses_reach(&self, scheme: Scheme, port: u16) -> Option<Miss> {
        if !self.schemes.contain(scheme) {
            return Some(Miss::Scheme);
        }
        (!self.ports.contain(port)).then_some(Miss::Port)
    }

    /// Returns why no request at all matches: an empty list was written.
    fn misses_every_request(&self) -> Option<Miss> {
        if self.methods.are_none() {
            return Some(Miss::Method);
        }
        self.paths.are_none().then_some(Miss::Path)
    }

    /// Whether some worker's request may match at the hosts and ports of the rule.
    pub(crate) fn can_match(&self) -> bool {
        !self.workers.are_none()
            && self.schemes != Schemes::NONE
            && self.misses_every_request().is_none()
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether the rule can only be judged for requests that are seen.
    pub(crate) fn judges_requests(&self) -> bool {
        self.methods.are_listed() || self.paths.are_listed()
    }

    /// Whether tunnels under the rule are opened for inspection.
    pub(crate) fn intercepts(&self) -> bool {
        match self.tls {
            Tls::Intercept => self.schemes.contain(Scheme::Https),
            Tls::Tunnel => false,
        }
    }

    /// Returns the credentials that go into requests to one host and port: never in cleartext,
    /// never where the credential's own list does not have them.
    pub(crate) fn lends(&self, scheme: Scheme, host: &HostName, port: u16) -> &[CredentialId] {
        if scheme != Scheme::Https || !self.intercepts() {
            return &[];
        }
        let found =
            self.lends.binary_search_by(|lends| (&lends.host, lends.port).cmp(&(host, port)));
        found.map_or(&[], |at| &self.lends[at].credentials)
    }
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// Whether TLS is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Tunnel,
    Intercept,
}

/// Whether a ClientHello needs a server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SniDemand {
    Required,
    Optional,
}

/// What becomes of a ClientHello that is, or looks, encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ech {
    Refuse,
    Allow,
}
