//! `egret explain`.

use super::place::{Place, Run};

/// Rules that tell workers apart.
const POLICY: &str = r#"version = 1

[[rule]]
id = "build"
effect = "allow"
workers = { labels = { pool = "build" } }
hosts = ["build.example.com"]

[[rule]]
id = "ci"
effect = "allow"
workers = { ids = ["ci-1"] }
hosts = ["ci.example.com"]

[[rule]]
id = "plain"
effect = "allow"
hosts = ["plain.example.com"]
schemes = ["http"]
ports = [80]
methods = ["GET"]
paths = ["/open/**"]
"#;

const CONFIG: &str = r#"version = 1
state_dir = "state"

[[listener]]
address = "127.0.0.1:0"
identity = ["token"]

[[worker]]
id = "ci-1"
labels = { pool = "build" }
token_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
"#;

fn place() -> Place {
    let place = Place::new();
    place.write("p.toml", POLICY);
    place
}

#[track_caller]
fn asked(place: &Place, line: &[&str]) -> Run {
    place.run(&[&["explain"], line, &["--policy", "p.toml"]].concat())
}

#[track_caller]
fn denied(place: &Place, line: &[&str], reason: &str) {
    let run = asked(place, &[line, &["--json"]].concat()).ends_with(3);
    assert_eq!(run.json()["verdict"], "deny");
    assert_eq!(run.json()["reason"], reason);
}

#[track_caller]
fn allowed(place: &Place, line: &[&str], rule: &str) {
    let run = asked(place, &[line, &["--json"]].concat()).ends_with(0);
    assert_eq!(run.json()["verdict"], "allow");
    assert_eq!(run.json()["reason"], "egress.allowed");
    assert_eq!(run.json()["rule"], rule);
}

#[test]
fn json_has_exactly_the_promised_shape() {
    let place = place();
    for url in ["http://plain.example.com/open/a", "https://elsewhere.example/"] {
        let json = asked(&place, &["GET", url, "--json"]).json();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["policy", "reason", "rule", "tree", "verdict"]);
        assert_eq!(json["policy"].as_str().unwrap().len(), 64);
        assert!(!json["tree"].is_null());
    }
}

#[test]
fn method_path_and_address_are_judged() {
    let place = place();
    let good = "http://plain.example.com/open/a";
    allowed(&place, &["GET", good], "plain");
    denied(&place, &["POST", good], "egress.method_not_allowed");
    denied(&place, &["GET", "http://plain.example.com/shut"], "egress.path_not_allowed");
    denied(&place, &["GET", "http://elsewhere.example/"], "egress.host_not_allowed");
    allowed(&place, &["GET", good, "--address", "93.184.216.34"], "plain");
    denied(&place, &["GET", good, "--address", "10.0.0.1"], "egress.address_forbidden");
    let mixed = ["GET", good, "--address", "93.184.216.34", "--address", "169.254.169.254"];
    denied(&place, &mixed, "egress.address_forbidden");
}

#[test]
fn the_worker_and_its_labels_are_judged() {
    let place = place();
    let build = ["GET", "https://build.example.com/"];
    denied(&place, &build, "egress.host_not_allowed");
    allowed(&place, &[&build[..], &["--label", "pool=build"]].concat(), "build");
    denied(&place, &[&build[..], &["--label", "pool=other"]].concat(), "egress.host_not_allowed");
    let ci = ["GET", "https://ci.example.com/"];
    denied(&place, &ci, "egress.host_not_allowed");
    allowed(&place, &[&ci[..], &["--worker", "ci-1"]].concat(), "ci");
    asked(&place, &["GET", "https://a/", "--worker", "not an id"]).ends_with(2);
    asked(&place, &["GET", "https://a/", "--label", "pool"]).ends_with(2);
    asked(&place, &["GET", "https://a/", "--address", "a"]).ends_with(2);
}

#[test]
fn labels_of_a_configured_worker_apply() {
    let place = Place::new();
    place.write("egret.toml", CONFIG);
    place.write("policy.toml", POLICY);
    let line = ["explain", "GET", "https://build.example.com/"];
    place.run(&line).ends_with(3);
    place.run(&[&line[..], &["--worker", "ci-1"]].concat()).ends_with(0);
    place
        .run(&[&line[..], &["--worker", "ci-2"]].concat())
        .ends_with(3)
        .says("`ci-2` is not in egret.toml");
    // What is stated wins: what if it were in another pool?
    place.run(&[&line[..], &["--worker", "ci-1", "--label", "pool=x"]].concat()).ends_with(3);
}

#[test]
fn a_bad_policy_is_78_and_a_bad_configuration_too() {
    let place = place();
    place.write("p.toml", "version = 1\nrul = 1\n");
    asked(&place, &["GET", "https://example.com/"]).ends_with(78).says("did you mean `rule`?");
    let place = Place::ready();
    place.write("egret.toml", "version = 2\n");
    place.run(&["explain", "GET", "https://example.com/"]).ends_with(78).says("egret.toml:1:11");
}

#[test]
fn people_get_a_tree_with_marks() {
    let place = place();
    let good = asked(&place, &["GET", "http://plain.example.com/open/a"]).ends_with(0);
    assert!(good.stdout.contains('✓') && good.stdout.contains("plain"), "{}", good.stdout);
    let bad = asked(&place, &["GET", "http://plain.example.com/shut"]).ends_with(3);
    assert!(bad.stdout.contains('✗'), "{}", bad.stdout);
    assert!(bad.stdout.contains("egress.path_not_allowed"), "{}", bad.stdout);
}

#[test]
fn targets_that_no_request_could_have_are_denied_as_malformed() {
    let place = place();
    denied(&place, &["GET", "http://plain.example.com@evil.test/"], "egress.target_malformed");
    denied(&place, &["GET", "http://0x7f.1/"], "egress.target_malformed");
    denied(&place, &["TRACE", "http://plain.example.com/open/a"], "egress.method_not_allowed");
}

#[test]
fn connect_takes_a_host_and_a_port() {
    let place = place();
    allowed(&place, &["CONNECT", "ci.example.com:443", "--worker", "ci-1"], "ci");
    asked(&place, &["CONNECT", "plain.example.com"]).ends_with(2).says("`example.com:443`");
    asked(&place, &["CONNECT", "user@plain.example.com:443"]).ends_with(2);
}
