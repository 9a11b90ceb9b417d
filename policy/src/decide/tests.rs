use super::*;
use crate::reason::Verdict;
use crate::worker::{Labels, WorkerId};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn policy(rules: &str) -> Policy {
    let loaded = Policy::load(&format!("version = 1\n{rules}"));
    loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

fn worker() -> Worker {
    Worker { id: WorkerId::parse("w").unwrap(), labels: Labels::default() }
}

fn tunnel(policy: &Policy, authority: &str) -> Result<TunnelPermit, Denial> {
    let authority = Authority::connect(authority).unwrap();
    policy.decide_tunnel(&TunnelAsk { worker: &worker(), authority: &authority }, NOW)
}

fn request(policy: &Policy, url: &str) -> Result<Permit, Denial> {
    let target = Target::absolute(url).unwrap();
    let method = Method::parse("GET").unwrap();
    policy.decide(&Ask { worker: &worker(), method, target: &target }, NOW)
}

/// The outcome for https, http and tcp: the rule, what is reported, or why not.
fn candidates(policy: &Policy, authority: &str) -> [String; 3] {
    let permit = tunnel(policy, authority).unwrap();
    permit.candidates.all().map(|candidate| match candidate {
        Ok(Right::Rule(rule)) => rule.id.to_string(),
        Ok(Right::Reported(reason)) => format!("reported {reason}"),
        Err(denial) => denial.reason.to_string(),
    })
}

fn reason<T>(outcome: Result<T, Denial>) -> Reason {
    outcome.err().map_or(Reason::Allowed, |denial| denial.reason)
}

const MIXED: &str = "
    [[rule]]
    id = 'web'
    effect = 'allow'
    hosts = ['a.test']
    schemes = ['https', 'http']
    ports = [443, 80]
    [[rule]]
    id = 'plain'
    effect = 'allow'
    hosts = ['a.test', 'b.test']
    schemes = ['http']
    ports = [443, 8080]
    [[rule]]
    id = 'raw'
    effect = 'allow'
    hosts = ['b.test']
    schemes = ['tcp']
    ports = [22]
    ";

#[test]
fn a_tunnel_holds_the_rule_or_the_reason_for_each_protocol() {
    let policy = policy(MIXED);
    let none = "egress.scheme_not_allowed".to_owned();
    let no_port = "egress.port_not_allowed".to_owned();
    let opaque = "egress.protocol_not_allowed".to_owned();
    let web = "web".to_owned();
    assert_eq!(candidates(&policy, "a.test:443"), [web.clone(), web, opaque.clone()]);
    assert_eq!(
        candidates(&policy, "a.test:8080"),
        [no_port.clone(), "plain".into(), opaque.clone()]
    );
    assert_eq!(candidates(&policy, "b.test:443"), [none.clone(), "plain".into(), opaque]);
    assert_eq!(candidates(&policy, "b.test:22"), [none, no_port, "raw".into()]);
}

#[test]
fn a_tunnel_without_candidates_names_host_or_port() {
    let policy = policy(MIXED);
    assert_eq!(reason(tunnel(&policy, "c.test:443")), Reason::HostNotAllowed);
    assert_eq!(reason(tunnel(&policy, "a.test:22")), Reason::PortNotAllowed);
    assert_eq!(reason(tunnel(&policy, "a.test:80")), Reason::Allowed);
}

#[test]
fn a_deny_ends_the_protocols_that_it_names() {
    let deny = |fields: &str| {
        policy(&format!(
            "{MIXED}\n[[rule]]\nid = 'no'\neffect = 'deny'\nhosts = ['a.test']\n{fields}"
        ))
    };
    let denied = "egress.rule_denied".to_owned();
    let opaque = "egress.protocol_not_allowed".to_owned();
    let some = deny("schemes = ['https']");
    assert_eq!(candidates(&some, "a.test:443"), [denied, "web".into(), opaque]);
    for fields in ["", "schemes = ['https', 'http', 'tcp']", "schemes = ['https', 'http']"] {
        let all = deny(fields);
        let denial = tunnel(&all, "a.test:443").unwrap_err();
        assert_eq!(denial.reason, Reason::RuleDenied, "{fields}");
        assert_eq!(denial.rule.unwrap().as_str(), "no");
    }
    let other_port = deny("ports = [8080]");
    assert_eq!(reason(tunnel(&other_port, "a.test:443")), Reason::Allowed);
}

#[test]
fn a_deny_on_requests_leaves_the_tunnel_and_judges_what_is_inside() {
    let policy = policy(
        "[[rule]]
        id = 'web'
        effect = 'allow'
        hosts = ['a.test']
        schemes = ['http']
        ports = [80]
        [[rule]]
        id = 'no-admin'
        effect = 'deny'
        paths = ['/admin/**']",
    );
    assert_eq!(reason(tunnel(&policy, "a.test:80")), Reason::Allowed);
    assert_eq!(reason(request(&policy, "http://a.test/x")), Reason::Allowed);
    assert_eq!(reason(request(&policy, "http://a.test/admin/x")), Reason::RuleDenied);
}

#[test]
fn report_mode_lets_through_what_no_rule_matched_and_says_so() {
    let rules = "[[rule]]
        id = 'seen'
        effect = 'allow'
        hosts = ['a.test']
        tls = 'intercept'
        [[rule]]
        id = 'no-admin'
        effect = 'deny'
        hosts = ['a.test', 'c.test']
        paths = ['/admin/**']";
    let report = policy(&format!("[defaults]\nmode = 'report'\n{rules}"));
    let reported = |reason: Reason| format!("reported {reason}");
    let denied = "egress.rule_denied".to_owned();
    assert_eq!(
        candidates(&report, "b.test:443"),
        [
            reported(Reason::HostNotAllowed),
            reported(Reason::HostNotAllowed),
            reported(Reason::ProtocolNotAllowed)
        ]
    );
    // Unseen, the deny could not be judged, and nothing softens a deny.
    assert_eq!(
        candidates(&report, "a.test:443"),
        ["seen".into(), reported(Reason::SchemeNotAllowed), denied.clone()]
    );
    assert_eq!(
        candidates(&report, "c.test:443"),
        [denied.clone(), reported(Reason::HostNotAllowed), denied]
    );
    let permit = tunnel(&report, "b.test:443").unwrap();
    assert_eq!(permit.verdict(), Verdict::WouldDeny(Reason::HostNotAllowed));
    let permit = request(&report, "http://b.test/").unwrap();
    assert_eq!(permit.verdict(), Verdict::WouldDeny(Reason::HostNotAllowed));
    assert_eq!(permit.rule(), None);
    assert_eq!(reason(request(&report, "http://a.test/admin")), Reason::RuleDenied);
    assert_eq!(reason(tunnel(&policy(rules), "b.test:443")), Reason::HostNotAllowed);
}

#[test]
fn metadata_is_refused_before_any_look_up_and_in_report_mode_too() {
    let star = "[[rule]]\nid = 'all'\neffect = 'allow'\nhosts = ['*']\nschemes = ['https', 'http']\nports = [80, 443]\n";
    let enforce = policy(star);
    let report = policy("[defaults]\nmode = 'report'\n");
    for policy in [&enforce, &report] {
        for host in ["metadata.google.internal", "a.localhost", "localhost"] {
            let refused = reason(request(policy, &format!("http://{host}/")));
            assert_eq!(refused, Reason::AddressForbidden, "{host}");
            let refused = reason(tunnel(policy, &format!("{host}:443")));
            assert_eq!(refused, Reason::AddressForbidden, "{host}");
        }
        assert_eq!(reason(request(policy, "http://internal/")), Reason::Allowed);
    }
    assert_eq!(reason(request(&report, "http://169.254.169.254/")), Reason::AddressForbidden);
    assert_eq!(reason(tunnel(&report, "[fd00:ec2::254]:80")), Reason::AddressForbidden);
    assert_eq!(reason(request(&enforce, "http://169.254.169.254/")), Reason::HostNotAllowed);
}

#[test]
fn nothing_is_allocated() {
    let mut rules = MIXED.to_owned();
    rules += "[[rule]]\nid = 'no-admin'\neffect = 'deny'\nsuffixes = ['plain.test']\npaths = ['/a/**', '/b/*/c']\n";
    rules += "[[rule]]\nid = 'mine'\neffect = 'allow'\nhosts = ['p.plain.test', '192.0.2.1']\n";
    rules += "workers = { ids = ['w'], labels = { pool = 'x' } }\nschemes = ['http']\nports = [80]\nmethods = ['GET']\n";
    let policy = policy(&rules);
    let worker = Worker {
        id: WorkerId::parse("w").unwrap(),
        labels: [("pool", "x"), ("zone", "y")].into_iter().collect(),
    };
    let method = Method::parse("GET").unwrap();
    let urls = [
        "https://a.test/",
        "http://b.test:8080/",
        "http://p.plain.test/x/y/z",
        "http://p.plain.test/b/x/c",
        "http://p.plain.test/b/../c",
        "http://p.plain.test/caf%C3%A9",
        "http://192.0.2.1/",
        "http://nowhere.test/",
    ];
    for url in urls {
        let target = Target::absolute(url).unwrap();
        let counted = allocation_counter::measure(|| {
            let ask = Ask { worker: &worker, method, target: &target };
            drop(policy.decide(&ask, NOW));
            let ask = TunnelAsk { worker: &worker, authority: target.authority() };
            drop(policy.decide_tunnel(&ask, NOW));
        });
        assert_eq!(counted.count_total, 0, "{url}");
    }
}
