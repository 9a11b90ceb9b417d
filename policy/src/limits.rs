//! Limits, each for one worker under one rule. Policy only states them; the proxy counts.

use std::time::Duration;

/// What bounds the exchanges of one worker under one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLimits {
    /// The longest silence of an exchange or tunnel.
    pub idle_timeout: Duration,
    /// The longest life of an exchange or tunnel.
    pub max_duration: Duration,
    /// The largest body of an inspected request.
    pub max_request_bytes: u64,
    /// The largest body of an inspected response.
    pub max_response_bytes: u64,
    /// Requests a minute, and the size of a burst.
    pub requests_per_minute: Option<u32>,
    /// Tunnels that may be open at once.
    pub tunnels: Option<u32>,
    /// Bytes from the worker in a UTC day.
    pub bytes_up_per_day: Option<u64>,
    /// Bytes to the worker in a UTC day.
    pub bytes_down_per_day: Option<u64>,
}

impl RuleLimits {
    /// Whether any of them counts over more than one exchange.
    pub fn are_counted(&self) -> bool {
        self.requests_per_minute.is_some()
            || self.tunnels.is_some()
            || self.bytes_up_per_day.is_some()
            || self.bytes_down_per_day.is_some()
    }
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(5 * 60),
            max_duration: Duration::from_secs(60 * 60),
            max_request_bytes: 1 << 30,
            max_response_bytes: 1 << 30,
            requests_per_minute: None,
            tunnels: None,
            bytes_up_per_day: None,
            bytes_down_per_day: None,
        }
    }
}
