//! The words of the field `event`, in one place: what each record says and which figure its
//! `count` is. They are public interface; a reader passes over those that it does not know.

use serde::Serialize;

/// What a record is about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Event {
    /// What was decided about an exchange, before its first byte goes upstream.
    #[default]
    #[serde(rename = "decision")]
    Decision,
    /// How an exchange ended.
    #[serde(rename = "completion")]
    Completion,
    /// Which policy is in force from here on, or that it stays; `count` is what `reason` says of
    /// it: live entries that were cut, or problems of the policy that was refused.
    #[serde(rename = "policy")]
    Policy,
    /// A recorder began to write. What came before it ended with a whole line. `unsigned` of those
    /// lines were after the newest signed head: nothing but the file vouches for them.
    #[serde(rename = "audit.start")]
    Start,
    /// A recorder began to write after a crash; `count` bytes of a torn line were cut off, and
    /// `unsigned` is as at a start.
    #[serde(rename = "audit.restart")]
    Restart,
    /// A signature over the line before this one, and so over all before it.
    #[serde(rename = "audit.head")]
    Head,
    /// `count` denials of one worker, or at one listener, that have no record of their own.
    #[serde(rename = "audit.denials")]
    Denials,
    /// `count` records that could not be written; what was kept of that time precedes this line.
    #[serde(rename = "audit.lost")]
    Lost,
    /// A segment older than `[audit] keep` was removed, and where the chain begins without it;
    /// signed, or it would explain nothing.
    #[serde(rename = "audit.removed")]
    Removed,
    /// A segment was removed, moved away or changed by somebody else while it was written; the
    /// chain goes on in the next one. What it held is missing, unless it can be put back.
    #[serde(rename = "audit.missing")]
    Missing,
}
