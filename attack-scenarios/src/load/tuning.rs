//! The limits under which the proxy runs in a load case: shorter than anybody would want them in
//! use, so that a case takes seconds.

use std::{fmt::Write, time::Duration};

/// What a target is asked to be configured with.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one worker.
    pub connections_per_worker: usize,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// Without a byte of a body that was announced.
    pub body_idle_timeout: Duration,
    /// From the answer to CONNECT to enough first bytes.
    pub first_byte_timeout: Duration,
    /// For all attempts of one dial.
    pub connect_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// What open exchanges are given at the end.
    pub drain_timeout: Duration,
    /// Who may use it, with a token each; empty admits everybody.
    pub workers: &'static [Worker],
    /// Descriptors that the process may have; `None` leaves it to the system.
    pub descriptors: Option<u64>,
}

/// A worker with a token.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// The id, which is the user's name.
    pub id: &'static str,
    /// The token, which is the password.
    pub token: &'static str,
    /// Its SHA-256.
    pub token_sha256: &'static str,
    /// `id:token` in base64.
    pub basic: &'static str,
}

/// Two workers that share one proxy.
pub const WORKERS: &[Worker] = &[
    Worker {
        id: "alpha",
        token: "alpha-token",
        token_sha256: "a336d9b1d8b8647875238537ca5087b0ea335afd2032936aecdffc3e4b13f720",
        basic: "YWxwaGE6YWxwaGEtdG9rZW4=",
    },
    Worker {
        id: "beta",
        token: "beta-token",
        token_sha256: "863d63c0bd3a94bfca84ed2063a7355a226faff82ca50b90158bf183aa1a9e61",
        basic: "YmV0YTpiZXRhLXRva2Vu",
    },
];

impl Default for Tuning {
    fn default() -> Self {
        let two = Duration::from_secs(2);
        Self {
            connections: 20_000,
            connections_per_worker: 20_000,
            header_timeout: two,
            body_idle_timeout: two,
            first_byte_timeout: two,
            connect_timeout: Duration::from_secs(4),
            idle_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(3),
            workers: &[],
            descriptors: None,
        }
    }
}

impl Tuning {
    /// Returns `[limits]` and the workers as egret's configuration has them.
    pub fn config(&self) -> String {
        let mut text = format!(
            "\n[limits]\nconnections = {}\nconnections_per_worker = {}\nheader_timeout = \"{}ms\"\n\
             body_idle_timeout = \"{}ms\"\nfirst_byte_timeout = \"{}ms\"\nconnect_timeout = \"{}ms\"\n\
             drain_timeout = \"{}ms\"\n",
            self.connections,
            self.connections_per_worker,
            self.header_timeout.as_millis(),
            self.body_idle_timeout.as_millis(),
            self.first_byte_timeout.as_millis(),
            self.connect_timeout.as_millis(),
            self.drain_timeout.as_millis(),
        );
        for Worker { id, token_sha256, .. } in self.workers {
            let _ =
                write!(text, "\n[[worker]]\nid = \"{id}\"\ntoken_sha256 = \"{token_sha256}\"\n");
        }
        text
    }

    /// Returns the time that a condition names: `header_timeout`, `connect_timeout+1s`, `2000ms`.
    pub(crate) fn time(&self, text: &str) -> Option<Duration> {
        text.split('+').map(|term| self.term(term.trim())).sum()
    }

    fn term(&self, term: &str) -> Option<Duration> {
        Some(match term {
            "header_timeout" => self.header_timeout,
            "body_timeout" | "body_idle_timeout" => self.body_idle_timeout,
            "first_byte_timeout" | "handshake_timeout" => self.first_byte_timeout,
            "connect_timeout" => self.connect_timeout,
            "idle_timeout" | "upstream_timeout" => self.idle_timeout,
            "drain_time" | "drain_timeout" => self.drain_timeout,
            _ => {
                let end = term.find(|c: char| !c.is_ascii_digit())?;
                let number: u64 = term[..end].parse().ok()?;
                match &term[end..] {
                    "ms" => Duration::from_millis(number),
                    "s" => Duration::from_secs(number),
                    _ => return None,
                }
            }
        })
    }
}
