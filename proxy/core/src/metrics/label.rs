//! The labels of metrics: closed sets of ours, each value known before the first request.
//!
//! Nothing that a worker, an origin or a name server chose can become a label, so the number of
//! series is fixed when the program is built. A host, a worker's id or a path is never one.

use crate::refusal::Code;

/// A closed set of label values.
pub(crate) trait Label: Copy + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// Returns the place of the value in [`Label::ALL`].
    fn index(self) -> usize;

    /// Returns the value as it is printed.
    fn word(self) -> &'static str;
}

/// Declares a label: its values, their words and the list of all come from one place.
macro_rules! label {
    (
        $(#[$about:meta])*
        $visibility:vis enum $name:ident as $label:literal {
            $($(#[$says:meta])* $variant:ident = $word:expr,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$says])* $variant,)+
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

pub(crate) use label;

label! {
    /// How an exchange was decided.
    pub(crate) enum Judged as "verdict" {
        Allow = "allow",
        Deny = "deny",
        WouldDeny = "would_deny",
    }
}

impl Judged {
    /// Whether an exchange can be judged so for `reason`: the other pairs have no series.
    pub(crate) fn may_be_for(self, reason: Code) -> bool {
        match self {
            Self::Allow => reason == Code::Allowed,
            Self::Deny => reason != Code::Allowed,
            // What no rule matched, by how far the nearest came.
            Self::WouldDeny => matches!(
                reason,
                Code::HostNotAllowed
                    | Code::SchemeNotAllowed
                    | Code::PortNotAllowed
                    | Code::MethodNotAllowed
                    | Code::PathNotAllowed
            ),
        }
    }
}

label! {
    /// What became of a connection that asked to be accepted.
    pub(crate) enum Accepted as "result" {
        /// It has a slot.
        Served = "served",
        /// There is no slot; it is told so.
        Refused = "refused",
        /// There is not even room to tell it.
        Dropped = "dropped",
        /// The machine has no descriptor or memory left.
        Failed = "failed",
    }
}

label! {
    /// How a look-up ended.
    pub(crate) enum LookedUp as "result" {
        Found = "found",
        NoSuchName = "no_such_name",
        NoAddress = "no_address",
        Failed = "failed",
        Timeout = "timeout",
        /// The answer cannot be believed.
        Unusable = "unusable",
        /// Too many names were being looked up.
        Crowded = "crowded",
    }
}

label! {
    /// How a dial ended.
    pub(crate) enum Dialled as "result" {
        Connected = "connected",
        Refused = "refused",
        Timeout = "timeout",
        /// There was no descriptor left.
        Exhausted = "exhausted",
        /// The peer was none of the pinned addresses.
        Forbidden = "forbidden",
    }
}

label! {
    /// What an open tunnel carries.
    pub(crate) enum Carries as "kind" {
        Tls = "tls",
        Http = "http",
        Opaque = "opaque",
        Websocket = "websocket",
    }
}

label! {
    /// Which way bytes move: up is from the worker.
    pub(crate) enum Way as "direction" {
        Up = "up",
        Down = "down",
    }
}

label! {
    /// Which limit was reached.
    pub(crate) enum Limit as "kind" {
        /// `requests_per_minute` of a rule.
        Requests = "requests",
        /// `tunnels` of a rule.
        Tunnels = "tunnels",
        /// A day's bytes of a rule.
        Bytes = "bytes",
        /// `denials_per_minute`.
        Denials = "denials",
        /// The bound on what is counted.
        Accounts = "accounts",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Debug};

    use super::*;
    use crate::record::ClosedBy;

    fn check<L: Label + Debug>() {
        let words: BTreeSet<_> = L::ALL.iter().map(|label| label.word()).collect();
        assert_eq!(words.len(), L::ALL.len(), "{}: each word stands for one value", L::NAME);
        for (at, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), at, "{label:?}");
        }
    }

    #[test]
    fn every_value_has_its_own_place_and_word() {
        check::<Judged>();
        check::<Accepted>();
        check::<LookedUp>();
        check::<Dialled>();
        check::<Carries>();
        check::<Way>();
        check::<Limit>();
        check::<Code>();
        check::<ClosedBy>();
    }

    #[test]
    fn a_cause_is_counted_by_the_word_that_records_have() {
        for by in <ClosedBy as Label>::ALL {
            assert_eq!(serde_json::to_value(by).unwrap(), by.word());
        }
    }
}
