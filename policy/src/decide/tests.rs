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
    permit.candidates.all().map(|candidate| match candidate.right() {
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
fn a_deny_is_to_blame_only_for_what_would_have_been_let_through() {
    let rules = "[[rule]]
        id = 'no-cleartext'
        effect = 'deny'
        schemes = ['http']
        [[rule]]
        id = 'web'
        effect = 'allow'
        hosts = ['a.test', 'b.test']
        [[rule]]
        id = 'no-b'
        effect = 'deny'
        hosts = ['b.test', 'c.test']";
    // This one judges requests, so it is no reason to refuse the tunnel either.
    let judging =
        "[[rule]]\nid = 'no-admin'\neffect = 'deny'\nhosts = ['d.test']\npaths = ['/x']\n";
    let policy = policy(&format!("{judging}{rules}"));
    let denied = |authority: &str| {
        let denial = tunnel(&policy, authority).err();
        denial.map(|denial| (denial.reason, denial.rule.map(|rule| rule.to_string())))
    };
    let by = |rule: &str| Some((Reason::RuleDenied, Some(rule.to_owned())));
    assert_eq!(denied("a.test:443"), None);
    assert_eq!(denied("unlisted.test:443"), Some((Reason::HostNotAllowed, None)));
    assert_eq!(denied("d.test:443"), Some((Reason::HostNotAllowed, None)));
    assert_eq!(denied("a.test:8443"), Some((Reason::PortNotAllowed, None)));
    // This one beat the allow of https; for the next each protocol has a deny.
    assert_eq!(denied("b.test:443"), by("no-b"));
    assert_eq!(denied("c.test:443"), by("no-cleartext"));
    assert_eq!(denied("b.test:8443"), by("no-cleartext"));
}

#[test]
fn a_rule_with_an_empty_list_opens_no_tunnel() {
    let with = |fields: &str| {
        let policy = policy(&format!(
            "[[rule]]\nid = 'a'\neffect = 'allow'\nhosts = ['a.test']\n{fields}\n"
        ));
        reason(tunnel(&policy, "a.test:443"))
    };
    assert_eq!(with("tls = 'intercept'\nmethods = ['GET']\npaths = ['/']"), Reason::Allowed);
    assert_eq!(with("tls = 'intercept'\nmethods = []"), Reason::MethodNotAllowed);
    assert_eq!(with("tls = 'intercept'\npaths = []"), Reason::PathNotAllowed);
    assert_eq!(with("schemes = ['http']\nmethods = []"), Reason::MethodNotAllowed);
    assert_eq!(with("schemes = []"), Reason::SchemeNotAllowed);
    assert_eq!(with("ports = []"), Reason::PortNotAllowed);
    assert_eq!(with("workers = { ids = [] }"), Reason::HostNotAllowed);
}

#[test]
fn a_tunnel_holds_every_allow_of_a_protocol_in_the_order_of_the_file() {
    // The index finds them in another order, and one of them twice.
    let policy = policy(
        "[[rule]]
        id = 'below'
        effect = 'allow'
        suffixes = ['a.test', 'test']
        [[rule]]
        id = 'above'
        effect = 'allow'
        suffixes = ['.a.test']
        [[rule]]
        id = 'exact'
        effect = 'allow'
        hosts = ['x.a.test']
        [[rule]]
        id = 'other'
        effect = 'allow'
        suffixes = ['.a.test']
        ports = [8443]",
    );
    let permit = tunnel(&policy, "x.a.test:443").unwrap();
    let held: Vec<_> = permit.candidates.https.live(NOW).map(|rule| rule.id.as_str()).collect();
    assert_eq!(held, ["below", "above", "exact"]);
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
            reported(Reason::HostNotAllowed)
        ]
    );
    // As in force: only where the tunnel opens for another protocol is tcp called by its name.
    let open = policy(&format!("[defaults]\nmode = 'report'\n{MIXED}"));
    let web = "web".to_owned();
    assert_eq!(
        candidates(&open, "a.test:443"),
        [web.clone(), web, reported(Reason::ProtocolNotAllowed)]
    );
    assert_eq!(
        candidates(&open, "a.test:22"),
        [
            reported(Reason::PortNotAllowed),
            reported(Reason::PortNotAllowed),
            reported(Reason::SchemeNotAllowed)
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
        "https://a.test:80/",
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
        });
        assert_eq!(counted.count_total, 0, "{url}");
        let counted = allocation_counter::measure(|| {
            let ask = TunnelAsk { worker: &worker, authority: target.authority() };
            drop(policy.decide_tunnel(&ask, NOW));
        });
        // Only at a.test:443 is there a second allow for one protocol.
        assert_eq!(counted.count_total == 0, url != "https://a.test/", "{url}");
    }
}
