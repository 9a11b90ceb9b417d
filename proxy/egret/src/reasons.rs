//! What each reason means to an operator, and what can be done about it other than by rules.
//!
//! The codes are those of refusals and records. What rules can do is found by trying
//! ([`crate::remedy`]); here is said where they cannot, so that nobody looks for a rule that does
//! not exist. What is never unlocked is said to be.

use egret_policy::Reason;

/// A reason in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// Why, as one sentence.
    pub(crate) because: &'static str,
    /// Whether a line in the policy could help.
    pub(crate) cure: Cure,
    /// What else can be done, or that nothing can.
    pub(crate) advice: &'static str,
}

/// What would have to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cure {
    /// A rule that matches.
    Rule,
    /// An opening for an address.
    Network,
    /// Something that is not in the rules.
    None,
}

/// Whether the policy alone decides it, so that another policy may decide otherwise.
pub(crate) fn is_by_policy(code: &str) -> bool {
    meaning(code).cure != Cure::None || code == Reason::RuleDenied.code()
}

/// Returns what a code means.
pub(crate) fn meaning(code: &str) -> Meaning {
    let (because, cure, advice) = match code {
        "egress.allowed" => ("A rule allows it.", Cure::None, ""),
        "egress.host_not_allowed" => ("No rule for this worker names the host.", Cure::Rule, ""),
        "egress.scheme_not_allowed" => {
            ("A rule names the host, but not with this scheme.", Cure::Rule, "")
        }
        "egress.port_not_allowed" => {
            ("A rule names the host, but not with this port.", Cure::Rule, "")
        }
        "egress.method_not_allowed" => {
            ("A rule names the host, but not with this method.", Cure::Rule, "")
        }
        "egress.path_not_allowed" => {
            ("A rule names the host, but not with this path.", Cure::Rule, "")
        }
        "egress.rule_denied" => (
            "A deny matches, and a deny wins over every allow.",
            Cure::None,
            "No allow gets round it: narrow the deny or take it out, if this is to pass.",
        ),
        "egress.address_forbidden" => (
            "The host is, or resolves to, an address that is not for workers.",
            Cure::Network,
            "A name is refused as a whole if one of its addresses is forbidden. A public name with \
             such an address may be an attack (DNS rebinding): open it only if it belongs there.",
        ),
        "egress.host_mismatch" => (
            "The request names two authorities: its Host field is not that of its target.",
            Cure::None,
            "No rule allows that: the client has to name one and the same.",
        ),
        "egress.sni_mismatch" => (
            "The server name in the TLS hello is not the host of the tunnel.",
            Cure::None,
            "No rule allows another name: that is how one host is reached under the name of \
             another. A client that sends no name at all can be let through with \
             `sni = \"optional\"` in its rule.",
        ),
        "egress.ech_refused" => (
            "The TLS hello hides a server name, or looks as if it did.",
            Cure::None,
            "Browsers do this on every connection, and no switch of theirs stops it. \
             `ech = \"allow\"` in the rule lets it through and gives up the check of the server \
             name: a content network may route by the hidden one, to a host that no rule names. \
             The other way is to intercept, where the proxy ends the TLS itself; that is not part of \
             this release.",
        ),
        "egress.protocol_not_allowed" => (
            "The tunnel carries what no rule allows in it: neither TLS nor HTTP, or HTTP in \
             cleartext.",
            Cure::Rule,
            "Plain HTTP needs a rule with scheme `http` for this port. For what is neither that nor \
             TLS, a rule with `schemes = [\"tcp\"]` relays whatever comes, uninspected; it cannot \
             stand beside a rule of another scheme for the same worker, host and port.",
        ),
        "egress.target_malformed" => (
            "The target can be read in more than one way.",
            Cure::None,
            "No rule allows that: the client has to write it plainly. Numbers that only some read \
             as an address, dot segments and escapes of plain letters are refused.",
        ),
        "egress.request_malformed" => (
            "The request is not sound HTTP/1.1, or not addressed to a proxy.",
            Cure::None,
            "No rule allows that: the client or what stands between has to be mended.",
        ),
        "egress.head_too_large" => (
            "The head of the request is too large.",
            Cure::None,
            "`[limits] head_bytes` in egret.toml bounds it.",
        ),
        "egress.request_timeout" => (
            "The client did not say in time what it wanted.",
            Cure::None,
            "`[limits] header_timeout` and `first_byte_timeout` in egret.toml bound the wait; \
             protocols in which the server speaks first need a rule with `schemes = [\"tcp\"]`.",
        ),
        "egress.request_too_large" => (
            "The body of the request is larger than the rule allows.",
            Cure::None,
            "`limits = { max_request_bytes = … }` in the rule bounds it.",
        ),
        "egress.response_too_large" => (
            "The answer is larger than the rule allows.",
            Cure::None,
            "`limits = { max_response_bytes = … }` in the rule bounds it.",
        ),
        "egress.identity_required" => (
            "The listener takes a proof of who is asking, and there was none.",
            Cure::None,
            "No rule helps: the worker has to show its token, as the password of its proxy URL, or \
             come from where it is known.",
        ),
        "egress.identity_invalid" => (
            "A proof was shown that is not that of one worker.",
            Cure::None,
            "No rule helps: compare the worker's token with `token_sha256` of its `[[worker]]`.",
        ),
        "egress.worker_revoked" | "egress.worker_quarantined" | "egress.lease_inactive" => (
            "The worker's rights have ended.",
            Cure::None,
            "No rule helps: its rights have to be given back first.",
        ),
        "egress.rate_limited" => (
            "The worker has used up what its rule, or `denials_per_minute`, allows for now.",
            Cure::None,
            "It may come again after a while; `limits` in the rule, or `[limits]` in egret.toml, \
             say how much.",
        ),
        "egress.budget_exhausted" => (
            "The worker has used up the bytes that its rule allows in a day.",
            Cure::None,
            "The day ends at midnight UTC; `bytes_up_per_day` and `bytes_down_per_day` in the rule \
             say how many.",
        ),
        "egress.dns_failed" | "egress.dns_timeout" => (
            "It was allowed, but the name could not be resolved.",
            Cure::None,
            "No rule is in the way: look at `[dns]` in egret.toml and at the name servers.",
        ),
        "egress.upstream_refused"
        | "egress.upstream_timeout"
        | "egress.upstream_reset"
        | "egress.upstream_protocol_error"
        | "egress.upstream_tls_failed" => (
            "It was allowed, but the origin could not be reached or did not answer soundly.",
            Cure::None,
            "No rule is in the way: the origin, or the way to it, is.",
        ),
        "egress.loop_detected" => (
            "The request has come through egret before.",
            Cure::None,
            "No rule helps: a proxy must not be the way to itself.",
        ),
        "egress.credential_unavailable" => (
            "A credential that the rule requires could not be had.",
            Cure::None,
            "The vault has to be reachable and hold it; nothing is forwarded without.",
        ),
        "egress.overloaded" => (
            "The proxy, or the worker, had as many connections as it may.",
            Cure::None,
            "`[limits] connections` and `connections_per_worker` in egret.toml say how many.",
        ),
        "egress.draining" => (
            "The proxy was shutting down.",
            Cure::None,
            "The worker may ask again when it has come back.",
        ),
        "egress.audit_unavailable" => (
            "The exchange could not be recorded, so it did not take place.",
            Cure::None,
            "The disk of the records has to have room and be writable.",
        ),
        "egress.internal" => (
            "The proxy failed.",
            Cure::None,
            "This is a fault of egret's; its log of that time says more.",
        ),
        _ => (
            "The reason is not known to this release.",
            Cure::None,
            "A newer egret wrote it: ask that one.",
        ),
    };
    Meaning { because, cure, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_a_record_can_hold_has_a_meaning() {
        let codes: Vec<_> = egret_proxy::reason_codes().collect();
        assert!(codes.len() > 30, "{codes:?}");
        let unknown = meaning("egress.of_the_future");
        for code in codes {
            let Meaning { because, cure, advice } = meaning(code);
            assert_ne!(because, unknown.because, "{code}");
            let told = cure == Cure::Rule || !advice.is_empty() || code == "egress.allowed";
            assert!(told, "{code} says nothing of what can be done");
        }
    }
}
