use super::*;
use crate::worker::{Labels, WorkerId};

const POLICY: &str = "
version = 1

[[rule]]
id = 'api'
effect = 'allow'
workers = { labels = { pool = 'build' } }
hosts = ['a.test']
tls = 'intercept'
methods = ['GET']
paths = ['/v1/**']
limits = { requests_per_minute = 60 }
expires = 2027-01-01T00:00:00Z

[[rule]]
id = 'blind'
effect = 'allow'
hosts = ['b.test']

[[rule]]
id = 'no-post'
effect = 'deny'
hosts = ['a.test']
methods = ['POST']
";

fn explain(method: &str, url: &str, now: &str) -> Explanation {
    let policy = Policy::load(POLICY).policy.unwrap();
    let worker = Worker {
        id: WorkerId::parse("ci-1").unwrap(),
        labels: Labels::from_iter([("pool", "build")]),
    };
    let question = Question { worker: &worker, method, url, addresses: &[] };
    policy.explain(&question, now.parse().unwrap())
}

fn lines(branches: &[Branch], depth: usize) -> String {
    branches
        .iter()
        .map(|branch| {
            let below = lines(&branch.branches, depth + 1);
            format!("{}{}\n{below}", "  ".repeat(depth), branch.text)
        })
        .collect()
}

const BEFORE: &str = "2026-12-31T00:00:00Z";

#[test]
fn an_intercepted_url_is_explained_as_the_request_inside() {
    let explanation = explain("GET", "https://a.test/v1/x", BEFORE);
    assert_eq!((explanation.verdict, explanation.reason), ("allow", Reason::Allowed));
    let tree = lines(&explanation.tree, 0);
    let expected = "\
allowed by rule `api`
judged as the request inside the tunnel, which is intercepted
  GET https://a.test/v1/x
  worker `ci-1` with pool=build
rules for `a.test`
  allow `api` (line 5, column 6): matches, and decides
  deny `no-post` (line 21, column 6): its methods are POST
  rules for other hosts: 1
under allow `api` (line 5, column 6)
  tls = intercept
  sni = required
  ech = refuse
  expires = 2027-01-01T00:00:00Z
  idle_timeout = 5m
  max_duration = 1h
  max_request_bytes = 1GiB
  max_response_bytes = 1GiB
  requests_per_minute = 60
addresses: none given, none judged
defaults
  mode = enforce: what no rule allows is denied
  schemes = https
  ports = 443
  tls = tunnel
  sni = required
  ech = refuse
  idle_timeout = 5m
  max_duration = 1h
  max_request_bytes = 1GiB
  max_response_bytes = 1GiB
";
    assert_eq!(tree, expected);
}

#[test]
fn each_rule_gives_the_first_thing_about_which_it_does_not_match() {
    let check = |method: &str, url: &str, now: &str, reason: Reason, line: &str| {
        let explanation = explain(method, url, now);
        assert_eq!(explanation.reason, reason, "{method} {url}");
        let tree = lines(&explanation.tree, 0);
        assert!(tree.contains(line), "{line} not in\n{tree}");
    };
    check(
        "PUT",
        "https://a.test/v2",
        BEFORE,
        Reason::MethodNotAllowed,
        "`api` (line 5, column 6): its methods are GET",
    );
    check("GET", "https://a.test/v2", BEFORE, Reason::PathNotAllowed, "its paths are /v1/**");
    check("GET", "https://a.test:8443/", BEFORE, Reason::PortNotAllowed, "its ports are 443");
    check("GET", "http://a.test/v1/", BEFORE, Reason::SchemeNotAllowed, "its schemes are https");
    check(
        "POST",
        "https://a.test/v1/",
        BEFORE,
        Reason::RuleDenied,
        "deny `no-post` (line 21, column 6): matches, and decides",
    );
    let after = "2027-01-01T00:00:00Z";
    check(
        "GET",
        "https://a.test/v1/",
        after,
        Reason::HostNotAllowed,
        "expired at 2027-01-01T00:00:00Z",
    );
    check("GET", "https://c.test/", BEFORE, Reason::HostNotAllowed, "rules for other hosts: 3");
    check(
        "GET",
        "https://a.test/v1/../x",
        BEFORE,
        Reason::TargetMalformed,
        "denied: the target has no single meaning: a dot segment",
    );
}

#[test]
fn a_tunnel_says_that_method_and_path_play_no_part() {
    let explanation = explain("DELETE", "https://b.test/x/../y", BEFORE);
    assert_eq!(explanation.reason, Reason::Allowed);
    let tree = lines(&explanation.tree, 0);
    assert!(tree.contains("judged as a tunnel: method and path play no part"), "{tree}");
    let explanation = explain("GET", "http://b.test:x/", BEFORE);
    let tree = lines(&explanation.tree, 0);
    assert_eq!(explanation.reason, Reason::TargetMalformed);
    assert!(tree.contains("not judged: no request can ask for this"), "{tree}");
}

#[test]
fn a_literal_is_judged_as_the_address_that_it_is() {
    let policy = Policy::load(
        "version = 1
        [[rule]]
        id = 'a'
        effect = 'allow'
        hosts = ['10.0.0.9', '140.82.112.6']",
    );
    let policy = policy.policy.unwrap();
    let worker = Worker { id: WorkerId::parse("w").unwrap(), labels: Labels::default() };
    let check = |url: &str, verdict: &str, line: &str| {
        let question = Question { worker: &worker, method: "GET", url, addresses: &[] };
        let explanation = policy.explain(&question, Timestamp::UNIX_EPOCH);
        assert_eq!(explanation.verdict, verdict, "{url}");
        let tree = lines(&explanation.tree, 0);
        assert!(tree.contains(line), "{line} not in\n{tree}");
    };
    check("https://10.0.0.9/", "deny", "addresses: 10.0.0.9, the host itself\n");
    check("https://140.82.112.6/", "allow", "addresses: 140.82.112.6, the host itself\n");
}

#[test]
fn an_explanation_is_an_object_of_five_fields() {
    let value = serde_json::to_value(explain("PUT", "https://a.test/", BEFORE)).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["policy", "reason", "rule", "tree", "verdict"]);
    assert_eq!(value["reason"], "egress.method_not_allowed");
    assert_eq!(value["rule"], serde_json::Value::Null);
    assert!(value["tree"][0]["text"].is_string());
}

#[test]
fn near_rules_tell_all_that_does_not_match_and_the_first_is_what_decides() {
    let policy = Policy::load(
        r#"version = 1
        [[rule]]
        id = "far"
        effect = "allow"
        workers = { ids = ["other"] }
        hosts = ["a.test"]
        ports = [8443]
        expires = 2020-01-01T00:00:00Z
        [[rule]]
        id = "port"
        effect = "allow"
        hosts = ["a.test"]
        ports = [8443]
        [[rule]]
        id = "elsewhere"
        effect = "allow"
        hosts = ["b.test"]
        [[rule]]
        id = "elsewhere-and-more"
        effect = "allow"
        hosts = ["b.test"]
        ports = [8443]
        [[rule]]
        id = "deny"
        effect = "deny"
        hosts = ["a.test"]
        ports = [8443]
        [[rule]]
        id = "seen"
        effect = "allow"
        hosts = ["c.test"]
        schemes = ["http"]
        ports = [80]
        methods = ["GET"]
        paths = ["/open/**"]
        "#,
    );
    let policy = policy.policy.expect("a good policy");
    let worker = Worker { id: WorkerId::parse("w").expect("an id"), labels: Labels::default() };
    let now: Timestamp = "2026-11-21T00:00:00Z".parse().expect("a time");
    let near = |method: &str, url: &str| -> Vec<(String, Vec<&str>)> {
        let question = Question { worker: &worker, method, url, addresses: &[] };
        let near = policy.near(&question, now);
        near.into_iter()
            .map(|near| {
                let keys = near.misses.iter().map(|(field, _)| field.key()).collect();
                (near.id.to_string(), keys)
            })
            .collect()
    };
    let told = |list: &[(&str, &[&'static str])]| -> Vec<(String, Vec<&str>)> {
        list.iter().map(|(id, keys)| ((*id).to_owned(), keys.to_vec())).collect()
    };
    assert_eq!(
        near("GET", "https://a.test/"),
        told(&[
            ("port", &["ports"]),
            ("far", &["workers", "expires", "ports"]),
            ("elsewhere", &["hosts"]),
        ])
    );
    assert_eq!(near("POST", "http://c.test/shut"), told(&[("seen", &["methods", "paths"])]));
    assert_eq!(near("GET", "http://c.test/open/1"), told(&[]));
    assert_eq!(near("GET", "not a url"), told(&[]));
}
