//! The sets that a rule is made of: workers, schemes, ports, methods, paths.
//!
//! A set that was left out in a deny is every value, which is another thing than a long list: it
//! holds for values that nobody has thought of yet.

use std::collections::BTreeSet;

use super::Effect;
use crate::path::PathPattern;
use crate::target::Scheme;
use crate::worker::{Labels, Worker, WorkerId};

/// Whom a rule is for; both conditions hold.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    /// Nothing: whatever the id.
    pub(crate) ids: Option<BTreeSet<WorkerId>>,
    pub(crate) labels: Labels,
}

impl Workers {
    pub(crate) fn admit(&self, worker: &Worker) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&worker.id))
            && worker.labels.contain(&self.labels)
    }

    /// Whether no worker is admitted: an empty list was written.
    pub(crate) fn are_none(&self) -> bool {
        self.ids.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Whether there may be a worker that both admit.
    pub(crate) fn may_share(&self, other: &Self) -> bool {
        let ids = match (&self.ids, &other.ids) {
            (Some(ours), Some(theirs)) => !ours.is_disjoint(theirs),
            (Some(ids), None) | (None, Some(ids)) => !ids.is_empty(),
            (None, None) => true,
        };
        let differ = |(name, value)| other.labels.value(name).is_some_and(|theirs| theirs != value);
        ids && !self.labels.iter().any(differ)
    }
}

/// A set of schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schemes(u8);

impl Schemes {
    pub(crate) const EVERY: Self = Self(0b111);
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn with(self, scheme: Scheme) -> Self {
        Self(self.0 | Self::bit(scheme))
    }

    pub(crate) fn contain(self, scheme: Scheme) -> bool {
        self.0 & Self::bit(scheme) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Scheme> {
        [Scheme::Https, Scheme::Http, Scheme::Tcp].into_iter().filter(move |s| self.contain(*s))
    }

    fn bit(scheme: Scheme) -> u8 {
        match scheme {
            Scheme::Https => 0b001,
            Scheme::Http => 0b010,
            Scheme::Tcp => 0b100,
        }
    }
}

/// A set of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    Every,
    /// Most rules have one or two, which stay beside the rule; zero is no port.
    Few([u16; 4]),
    Many(Box<[u16]>),
}

impl Ports {
    pub(crate) fn listed(ports: &BTreeSet<u16>) -> Self {
        let mut few = [0; 4];
        if ports.len() > few.len() {
            return Self::Many(ports.iter().copied().collect());
        }
        for (place, port) in few.iter_mut().zip(ports) {
            *place = *port;
        }
        Self::Few(few)
    }

    pub(crate) fn contain(&self, port: u16) -> bool {
        match self {
            Self::Every => true,
            Self::Few(ports) => port != 0 && ports.contains(&port),
            Self::Many(ports) => ports.contains(&port),
        }
    }

    /// Returns the ports that are listed; none where every port is meant.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        let listed: &[u16] = match self {
            Self::Every => &[],
            Self::Few(ports) => ports,
            Self::Many(ports) => ports,
        };
        listed.iter().copied().filter(|port| *port != 0)
    }

    pub(crate) fn are_every(&self) -> bool {
        matches!(self, Self::Every)
    }

    pub(crate) fn may_share(&self, other: &Self) -> bool {
        match (self.are_every(), other.are_every()) {
            (true, true) => true,
            (true, false) => other.iter().next().is_some(),
            (false, _) => self.iter().any(|port| other.contain(port)),
        }
    }
}

/// A set of methods.
#[derive(Debug)]
pub(crate) enum Methods {
    Every,
    Listed(Box<[Box<str>]>),
}

impl Methods {
    pub(crate) fn are_listed(&self) -> bool {
        matches!(self, Self::Listed(_))
    }

    pub(super) fn are_none(&self) -> bool {
        matches!(self, Self::Listed(methods) if methods.is_empty())
    }

    /// Methods have case, but some origins ignore it: `delete` must not pass a deny of `DELETE`,
    /// nor an allow of it.
    pub(super) fn contain(&self, method: &str, effect: Effect) -> bool {
        match (self, effect) {
            (Self::Every, _) => true,
            (Self::Listed(methods), Effect::Allow) => methods.iter().any(|one| **one == *method),
            (Self::Listed(methods), Effect::Deny) => {
                methods.iter().any(|one| one.eq_ignore_ascii_case(method))
            }
        }
    }
}

/// A set of paths.
#[derive(Debug)]
pub(crate) enum Paths {
    Every,
    Listed(Box<[PathPattern]>),
}

impl Paths {
    pub(crate) fn are_listed(&self) -> bool {
        matches!(self, Self::Listed(_))
    }

    pub(super) fn are_none(&self) -> bool {
        matches!(self, Self::Listed(paths) if paths.is_empty())
    }

    pub(super) fn contain(&self, path: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(path)),
        }
    }
}
