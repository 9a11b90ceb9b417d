use std::fmt::Write;

use super::*;
use crate::policy::Mode;
use crate::rule::CredentialId;

const EXAMPLE: &str = r##"
version = 1

[defaults]
mode = "report"
schemes = ["https"]
ports = [443]
tls = "tunnel"
max_response_bytes = "1GiB"
max_request_bytes = "1GiB"
idle_timeout = "5m"
max_duration = "1h"

[network]
deny = ["203.0.113.0/24"]
nat64 = ["64:ff9b::/96"]
[[network.allow]]
cidr = "10.20.0.0/16"
rules = ["github-api"]

[[rule]]
id = "github-api"
effect = "allow"
workers = { labels = { pool = "build" } }
hosts = ["api.github.com"]
suffixes = ["githubusercontent.com"]
schemes = ["https"]
ports = [443]
methods = ["GET", "POST"]
paths = ["/repos/**"]
tls = "intercept"
credentials = ["github-token", "q", "p"]
expires = 2027-01-01T00:00:00Z
sni = "required"
ech = "refuse"
limits = { requests_per_minute = 600, tunnels = 50, bytes_up_per_day = "10GiB", bytes_down_per_day = "10GiB", max_response_bytes = "100MiB" }

[[rule]]
id = "more"
effect = "allow"
hosts = ["b.test", "s.test", "o.test"]
tls = "intercept"
credentials = ["b", "s", "o"]

[[credential]]
id = "github-token"
secret = "vault:kv#ci/github:token"
hosts = ["api.github.com"]
inject = { header = "authorization", value = "Bearer {secret}" }
required = true

[[credential]]
id = "b"
secret = "local:b"
hosts = ["b.test"]
inject = { basic = { user = "x", password = "{secret}" } }

[[credential]]
id = "q"
secret = "file:q"
hosts = ["api.github.com"]
inject = { query = "key", value = "{secret}" }

[[credential]]
id = "p"
secret = "aws:p:token"
hosts = ["api.github.com"]
inject = { placeholder = "EGRET_GITHUB_TOKEN", in = ["header:x-token", "query:token"] }

[[credential]]
id = "s"
secret = "local:s"
hosts = ["s.test"]
inject = { sigv4 = { access_key = "{secret.access_key}", secret_key = "{secret.secret_key}", region = "eu-west-1", service = "s3" } }

[[credential]]
id = "o"
secret = "local:o"
hosts = ["o.test"]
inject = { oauth2 = { token_url = "https://auth.test/token", client_id = "x", client_secret = "{secret}", scope = "read write" } }

[[test]]
worker = { id = "ci-1", labels = { pool = "build" } }
method = "GET"
url = "https://api.github.com/repos/x/y"
expect = "allow"
reason = "egress.allowed"
rule = "github-api"
addresses = ["140.82.112.6"]
"##;

#[test]
fn every_key_of_the_language_is_read() {
    let Loaded { policy, problems, warnings } = load(EXAMPLE);
    assert_eq!(problems, []);
    let policy = policy.unwrap();
    assert_eq!(policy.mode(), Mode::Report);
    assert_eq!(warnings, []);
    let credential = policy.credential(&CredentialId::parse("github-token").unwrap()).unwrap();
    assert_eq!(credential.secret().to_string(), "vault:kv#ci/github:token");
    assert_eq!(policy.credentials().len(), 6);
    let outcomes = policy.run_tests(jiff::Timestamp::UNIX_EPOCH);
    assert!(outcomes.len() == 1 && outcomes[0].ok, "{outcomes:?}");
}

#[test]
fn a_policy_says_what_the_data_path_must_be_able_to_do() {
    let policy = load(EXAMPLE).policy.unwrap();
    let needs: Vec<_> = policy
        .needs()
        .iter()
        .map(|need| (need.kind, need.rule.as_str(), &EXAMPLE[need.span.clone()], need.column))
        .collect();
    assert_eq!(
        needs[..3].iter().map(|need| (need.0, need.1)).collect::<Vec<_>>(),
        [
            (NeedKind::Interception, "github-api"),
            (NeedKind::Credentials, "github-api"),
            (NeedKind::CountedLimits, "github-api"),
        ]
    );
    assert_eq!((needs[0].2, needs[0].3), ("\"intercept\"", 7));
    assert_eq!((needs[1].2, needs[1].3), ("\"github-token\"", 16));
    assert_eq!(needs.len(), 5);
    assert!(load("version = 1").policy.unwrap().needs().is_empty());
}

#[test]
fn a_default_that_intercepts_is_pointed_at() {
    let text = "version = 1\n[defaults]\ntls = \"intercept\"\n[[rule]]\nid = \"a\"\neffect = \"allow\"\nhosts = [\"a.test\"]\n";
    let policy = load(text).policy.unwrap();
    assert_eq!((policy.needs()[0].line, policy.needs()[0].column), (3, 7));
}

#[test]
fn a_deny_needs_nothing_of_the_data_path() {
    let text = |effect: &str| {
        format!(
            "version = 1\n[defaults]\ntls = \"intercept\"\n[[rule]]\nid = \"a\"\neffect = \"{effect}\"\n\
             hosts = [\"a.test\"]\nmethods = [\"PUT\"]\n"
        )
    };
    assert_eq!(load(&text("allow")).policy.unwrap().needs().len(), 1);
    assert_eq!(load(&text("deny")).policy.unwrap().needs(), []);
}

#[test]
fn overlaps_are_found_among_workers_without_comparing_all_rules() {
    let rule = |id: &str, ids: &str, tls: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nhosts = [\"a.test\"]\n{ids}\ntls = \"{tls}\"\n"
        )
    };
    let mut text = "version = 1\n".to_owned();
    for at in 0..300 {
        let tls = ["tunnel", "intercept"][at % 2];
        text += &rule(&format!("r{at}"), &format!("workers.ids = [\"w{at}\", \"v{at}\"]"), tls);
    }
    assert_eq!(load(&text).problems, []);
    let conflicts = |ids: &str| {
        let found = load(&(text.clone() + &rule("new", ids, "intercept"))).problems;
        found.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    let with = |rule: &str| {
        format!(
            "rule `new` has `a.test` as intercepted, and rule `{rule}` as a blind tunnel, for one \
             worker and port"
        )
    };
    assert_eq!(conflicts("workers.ids = [\"x\"]"), [""; 0]);
    assert_eq!(conflicts("workers.ids = [\"w7\", \"v9\"]"), [""; 0]);
    assert_eq!(conflicts("workers.ids = [\"w7\", \"v8\"]"), [with("r8")]);
    assert_eq!(conflicts(""), [with("r0")]);
}

#[test]
fn overlaps_are_found_among_many_hosts_without_comparing_all_rules() {
    let mut text = "version = 1\n".to_owned();
    for rule in 0..100 {
        write!(text, "[[rule]]\nid = \"r{rule}\"\neffect = \"allow\"\nhosts = [").unwrap();
        for host in 0..100 {
            write!(text, "\"h{host}.r{rule}.test\",").unwrap();
        }
        text.push_str("]\nsuffixes = [\"shared.test\"]\n");
    }
    assert_eq!(load(&text).problems, []);
    text.push_str("[[rule]]\nid = \"no\"\neffect = \"deny\"\nhosts = [\"h7.r42.test\"]\nmethods = [\"PUT\"]\n");
    text.push_str("[[rule]]\nid = \"seen\"\neffect = \"allow\"\nhosts = [\"h8.r43.test\"]\ntls = \"intercept\"\n");
    let problems: Vec<_> = load(&text).problems.into_iter().map(|p| p.message).collect();
    assert_eq!(
        problems,
        [
            "deny `no` judges requests, but rule `r42` lets `h7.r42.test` through uninspected",
            "rule `seen` has `h8.r43.test` as intercepted, and rule `r43` as a blind tunnel, for one \
             worker and port",
        ]
    );
}

#[test]
fn rules_that_no_worker_host_or_port_can_meet_do_not_conflict() {
    let pair = |first: &str, second: &str| {
        let rule = |id: &str, fields: &str| {
            format!("[[rule]]\nid = \"{id}\"\neffect = \"allow\"\n{fields}\n")
        };
        let first = rule("a", &format!("tls = \"intercept\"\n{first}"));
        load(&format!("version = 1\n{first}{}", rule("b", second))).problems.len()
    };
    let host = "hosts = [\"x.test\"]";
    assert_eq!(pair(host, host), 1);
    assert_eq!(pair(host, "hosts = [\"y.test\"]"), 0);
    assert_eq!(pair(host, "suffixes = [\"test\"]"), 1);
    assert_eq!(pair(host, "suffixes = [\".x.test\"]"), 0);
    assert_eq!(pair("suffixes = [\".x.test\"]", "suffixes = [\"a.x.test\"]"), 1);
    assert_eq!(pair("suffixes = [\".x.test\"]", host), 0);
    assert_eq!(pair("suffixes = [\"x.test\"]", "hosts = [\"*\"]"), 1);
    assert_eq!(pair("hosts = [\"140.82.112.6\"]", "hosts = [\"*\"]"), 0);
    assert_eq!(pair("hosts = [\"140.82.112.6\"]", "hosts = [\"140.82.112.6\"]"), 1);
    assert_eq!(pair(host, &format!("{host}\nports = [8443]")), 0);
    assert_eq!(pair(host, &format!("{host}\nschemes = [\"http\"]")), 0);
    let ids = |ids: &str| format!("{host}\nworkers = {{ ids = [{ids}] }}");
    assert_eq!(pair(&ids("\"v\""), &ids("\"w\"")), 0);
    assert_eq!(pair(&ids("\"v\", \"w\""), &ids("\"w\"")), 1);
    let pool = |pool: &str| format!("{host}\nworkers = {{ labels = {{ pool = \"{pool}\" }} }}");
    assert_eq!(pair(&pool("a"), &pool("b")), 0);
    assert_eq!(pair(&pool("a"), &pool("a")), 1);
    assert_eq!(pair(&pool("a"), &ids("\"w\"")), 1);
}

#[test]
fn many_rules_for_every_host_are_checked_in_time() {
    let mut text = "version = 1\n".to_owned();
    for rule in 0..400 {
        let hosts = format!("\"*\", \"h{rule}.test\"");
        write!(text, "[[rule]]\nid = \"r{rule}\"\neffect = \"allow\"\nhosts = [{hosts}]\n")
            .unwrap();
    }
    assert_eq!(load(&text).problems, []);
}
