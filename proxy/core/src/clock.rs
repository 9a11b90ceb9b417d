//! The port through which the data path learns the time of day; intervals are measured by tokio.

use egret_policy::Timestamp;

/// Tells the time. A clock that is wrong makes rules expire early or late and records misleading;
/// it never decides what a rule matches.
pub trait Clock: Send + Sync {
    /// Returns the time of day.
    fn now(&self) -> Timestamp;
}
