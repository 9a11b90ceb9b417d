//! Whether this process should be sent new connections.
//!
//! It goes one way: starting, serving, draining. Whoever balances load asks for it, and is told of
//! the drain before the first socket closes. It says nothing of the records or of the policy.

use tokio::sync::watch;

/// How far the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readiness {
    /// Not every socket is bound.
    Starting,
    /// Every socket is bound, and a policy is in force.
    Serving,
    /// What is open may end; nothing new should come.
    Draining,
}

impl Readiness {
    pub(crate) const ALL: [Self; 3] = [Self::Starting, Self::Serving, Self::Draining];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// What the parts of the process share of it; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ready(watch::Sender<Readiness>);

impl Ready {
    pub(crate) fn starting() -> Self {
        Self(watch::Sender::new(Readiness::Starting))
    }

    /// Returns how far the process is now.
    pub(crate) fn now(&self) -> Readiness {
        *self.0.borrow()
    }

    /// Goes on to `next`; what is later stays.
    pub(crate) fn advance(&self, next: Readiness) {
        self.0.send_if_modified(|now| {
            let later = next > *now;
            *now = next.max(*now);
            later
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_never_taken_back() {
        let ready = Ready::starting();
        let seen = ready.clone();
        assert_eq!(seen.now(), Readiness::Starting);
        ready.advance(Readiness::Serving);
        assert_eq!(seen.now(), Readiness::Serving);
        ready.advance(Readiness::Draining);
        ready.advance(Readiness::Serving);
        assert_eq!(seen.now(), Readiness::Draining);
    }
}
