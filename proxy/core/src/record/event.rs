//! The words of the field `event`, in one place: what each record says and which figure its
//! `count` is. They are public interface; a reader passes over those that it does not know.

use serde::{Serialize, Serializer};

/// What a record is about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// What was decided about an exchange, before its first byte goes upstream.
    #[default]
    Decision,
    /// How an exchange ended.
    Completion,
    /// Which policy is in force from here on, or that it stays; `count` is what `reason` says of
    /// it: live entries that were cut, or problems of the policy that was refused.
    Policy,
    /// A recorder began to write. What came before it ended with a whole line. `unsigned` of those
    /// lines were after the newest signed head: nothing but the file vouches for them.
    Start,
    /// A recorder began to write after a crash; `count` bytes of a torn line were cut off, and
    /// `unsigned` is as at a start.
    Restart,
    /// A signature over the line before this one, and so over all before it.
    Head,
    /// `count` denials of one worker, or at one listener, that have no record of their own.
    Denials,
    /// `count` records that could not be written; what was kept of that time precedes this line.
    Lost,
    /// A segment older than `[audit] keep` was removed, and where the chain begins without it;
    /// signed, or it would explain nothing.
    Removed,
    /// A segment was removed, moved away or changed by somebody else while it was written; the
    /// chain goes on in the next one. What it held is missing, unless it can be put back.
    Missing,
}

impl Event {
    /// Returns its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Completion => "completion",
            Self::Policy => "policy",
            Self::Start => "audit.start",
            Self::Restart => "audit.restart",
            Self::Head => "audit.head",
            Self::Denials => "audit.denials",
            Self::Lost => "audit.lost",
            Self::Removed => "audit.removed",
            Self::Missing => "audit.missing",
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
