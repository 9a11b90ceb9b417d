use super::*;
use egret_testkit::http1::Message;

use crate::{audit::Record, observed::TunnelEnd};

fn case(expected: &str, extra: &str) -> Case {
    let line = format!(
        r#"{{"id": "X-1", "family": "f", "kind": "connect", "input": {{"authority": "h:443"}},
            "expected": "{expected}", "severity": "low", "why": "w", "source": "s"{extra}}}"#
    );
    Case::parse(&line).expect("a case")
}

fn reply(start: &str) -> Message {
    Message { start: start.into(), complete: true, ..Message::default() }
}

fn verdict(case: &Case, start: &str, change: impl FnOnce(&mut Observed<'_>)) -> Verdict {
    let mut seen = Observed::new(case, Policy::Default);
    seen.replies = vec![reply(start)];
    change(&mut seen);
    judge(&seen, Strictness::Usual)
}

fn dial(seen: &mut Observed<'_>, to: &str) {
    seen.dials.push(to.parse().expect("an address"));
}

#[test]
fn the_reply_alone_never_passes_a_denial() {
    let case = case("deny", "");
    let refused = "HTTP/1.1 403 Forbidden";
    assert_eq!(verdict(&case, refused, |_| {}), Verdict::Pass);
    let dialled = verdict(&case, refused, |seen| dial(seen, "10.0.0.1:443"));
    assert_eq!(dialled.word(), "fail");
    let public = verdict(&case, refused, |seen| dial(seen, "93.184.216.34:443"));
    assert_eq!(public, Verdict::Pass);
    let asked = verdict(&case, refused, |seen| seen.queries.push(query("x.evil.test")));
    assert_eq!(asked.word(), "fail");
    let allowed_name = verdict(&case, refused, |seen| seen.queries.push(query("a.example.org")));
    assert_eq!(allowed_name, Verdict::Pass);
    assert_eq!(verdict(&case, refused, |seen| seen.alive = false).word(), "fail");
}

#[test]
fn a_canary_fails_also_what_is_allowed() {
    let case = case("allow", r#", "must": ["canary_untouched:127.0.0.1"]"#);
    let ok = "HTTP/1.1 200 OK";
    assert_eq!(verdict(&case, ok, |seen| dial(seen, "93.184.216.34:443")), Verdict::Pass);
    assert_eq!(verdict(&case, ok, |seen| dial(seen, "127.0.0.1:443")).word(), "fail");
    assert_eq!(verdict(&case, "HTTP/1.1 403 No", |_| {}).word(), "fail");
}

#[test]
fn a_400_for_a_refusal_is_soft_and_a_refusal_for_a_400_too() {
    let malformed = "HTTP/1.1 400 Bad Request";
    let refused = "HTTP/1.1 403 Forbidden";
    assert_eq!(verdict(&case("deny", ""), malformed, |_| {}).word(), "soft");
    assert_eq!(verdict(&case("reject-400", ""), malformed, |_| {}), Verdict::Pass);
    assert_eq!(verdict(&case("reject-400", ""), refused, |_| {}).word(), "soft");
    let listed = case("reject-400", r#", "status_ok": [403]"#);
    assert_eq!(verdict(&listed, refused, |_| {}), Verdict::Pass);
    assert_eq!(verdict(&case("either", ""), refused, |_| {}), Verdict::Pass);
    assert_eq!(verdict(&case("either", ""), "HTTP/1.1 200 OK", |_| {}).word(), "fail");
    let strict = case("reject-400", "");
    let mut seen = Observed::new(&strict, Policy::Default);
    seen.replies = vec![reply(refused)];
    assert_eq!(judge(&seen, Strictness::Strict).word(), "fail");
}

#[test]
fn an_unknown_condition_is_unchecked_and_never_a_pass() {
    let case = case("deny", r#", "must": ["moon_is_full"]"#);
    let refused = "HTTP/1.1 403 Forbidden";
    assert_eq!(verdict(&case, refused, |_| {}).word(), "unchecked");
    assert_eq!(verdict(&case, "HTTP/1.1 200 OK", |_| {}).word(), "fail");
}

#[test]
fn a_cut_tunnel_is_a_denial_and_an_idle_one_is_not() {
    let case = case("deny", "");
    let ok = "HTTP/1.1 200 OK";
    assert_eq!(verdict(&case, ok, |seen| seen.tunnel = TunnelEnd::Cut), Verdict::Pass);
    assert_eq!(verdict(&case, ok, |seen| seen.tunnel = TunnelEnd::Idle).word(), "fail");
}

#[test]
fn alternatives_pass_softly_only_when_they_are_true() {
    let also = case("deny", r#", "also_ok": ["allow-public-only"]"#);
    let ok = "HTTP/1.1 200 OK";
    let public = verdict(&also, ok, |seen| dial(seen, "93.184.216.34:443"));
    assert_eq!(public.word(), "soft");
    let private = verdict(&also, ok, |seen| dial(seen, "10.0.0.1:443"));
    assert_eq!(private.word(), "fail");
}

#[test]
fn records_must_say_what_the_client_saw() {
    let case = case("deny", "");
    let id = "01JD0000000000000000000000";
    let refused = format!("HTTP/1.1 403 egress.host_not_allowed {id}");
    let record = |event: &str, reason: &str| {
        Record(serde_json::json!({"event": event, "id": id, "reason": reason, "verdict": "deny"}))
    };
    let judged = |records: Vec<Record>| {
        verdict(&case, &refused, |seen| seen.records = Some(records)).word().to_owned()
    };
    let reason = "egress.host_not_allowed";
    let both = vec![record("decision", reason), record("completion", reason)];
    assert_eq!(judged(both), "pass");
    assert_eq!(judged(vec![]), "fail");
    assert_eq!(judged(vec![record("decision", reason)]), "fail", "no completion");
    assert_eq!(judged(vec![record("completion", reason)]), "fail", "no decision");
    let other = "egress.address_forbidden";
    assert_eq!(judged(vec![record("decision", other), record("completion", other)]), "fail");
    let bare = verdict(&case, "HTTP/1.1 403 Forbidden", |seen| seen.records = Some(vec![]));
    assert_eq!(bare.word(), "fail", "no code in the reason phrase");
}

fn query(name: &str) -> egret_testkit::dns::Query {
    egret_testkit::dns::Query {
        name: name.to_owned(),
        kind: egret_testkit::dns::Kind::A,
        protocol: egret_testkit::dns::Protocol::Udp,
        id: 1,
        port: 1,
    }
}
