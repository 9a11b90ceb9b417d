//! `egret diff`.

use serde_json::json;

use super::{
    place::{CONFIG, Place},
    recorded::Recorded,
};

const OLD: &str = r#"version = 1
[[rule]]
id = "code"
effect = "allow"
hosts = ["api.example.com"]
suffixes = [".cdn.example.com"]
[[rule]]
id = "gone"
effect = "allow"
hosts = ["gone.test"]
[[rule]]
id = "plain"
effect = "allow"
hosts = ["plain.test"]
schemes = ["http"]
ports = [80]
methods = ["GET"]
paths = ["/open/**"]
"#;

fn place(new: &str) -> Place {
    let place = Place::new();
    place.write("old.toml", OLD);
    place.write("new.toml", new);
    place
}

#[test]
fn texts_that_mean_the_same_do_not_differ() {
    let rewritten =
        OLD.replace("version = 1", "# A comment.\nversion = 1\n[defaults]\nports = [443]").replace(
            "effect = \"allow\"\nhosts = [\"gone.test\"]",
            "hosts = [\"gone.test\"]\neffect = \"allow\"\nports = [443]",
        );
    let run = place(&rewritten).run(&["diff", "old.toml", "new.toml"]).ends_with(0);
    assert_eq!(run.stdout, "the policies mean the same\n");
}

#[test]
fn rules_and_keys_that_differ_are_named_with_what_is_gone_and_what_is_new() {
    let new = OLD
        .replace(
            "hosts = [\"api.example.com\"]",
            "hosts = [\"www.example.com\"]\nports = [443, 8443]",
        )
        .replace("id = \"gone\"", "id = \"come\"")
        .replace("version = 1", "version = 1\n[defaults]\nmode = \"report\"");
    let run = place(&new).run(&["diff", "old.toml", "new.toml"]).ends_with(0);
    for said in [
        "  policy: mode -enforce +report\n",
        "  rule `code`: hosts -api.example.com +www.example.com\n",
        "  rule `code`: ports +8443\n",
        "+ rule `come`\n",
        "- rule `gone`\n",
    ] {
        assert!(run.stdout.contains(said), "{said}\n{}", run.stdout);
    }
    assert!(!run.stdout.contains("plain"), "{}", run.stdout);
    let place = place(&new);
    let json = place.run(&["diff", "old.toml", "new.toml", "--json"]).ends_with(0).json();
    assert!(json.get("flips").is_none(), "{json}");
    let keyed = |key: &str| {
        let changes = json["changes"].as_array().unwrap();
        changes.iter().find(|change| change["key"] == key).unwrap().clone()
    };
    assert_eq!(
        keyed("ports"),
        json!({ "section": "rule", "id": "code", "change": "changed", "key": "ports", "new": ["8443"] })
    );
}

#[test]
fn the_order_of_rules_is_a_difference() {
    let mut parts: Vec<&str> = OLD.split("[[rule]]").collect();
    parts.swap(1, 2);
    place(&parts.join("[[rule]]"))
        .run(&["diff", "old.toml", "new.toml"])
        .ends_with(0)
        .says("the order of the rules");
}

fn recorded(place: &Place) {
    let mut records = Recorded::default();
    let tunnel = |host: &str| json!({ "scheme": "https", "host": host, "port": 443, "verdict": "allow", "reason": "egress.allowed" });
    for _ in 0..2 {
        records.exchange(tunnel("gone.test"), json!({ "status": 200 }));
    }
    records.exchange(tunnel("api.example.com"), json!({ "status": 200 }));
    for _ in 0..3 {
        records.connect("come.test", 443);
    }
    records.request(("GET", "plain.test", 80, "/open/1"));
    records.request(("POST", "plain.test", 80, "/open/1"));
    records.connect("elsewhere.test", 443);
    records.decision(json!({ "reason": "egress.request_malformed" }));
    records.decision(json!({
        "host": "api.example.com", "port": 443, "addresses": ["10.0.0.1"],
        "reason": "egress.address_forbidden",
    }));
    records.segment(place, "audit/00000001.jsonl");
}

#[test]
fn requests_whose_verdict_flips_are_listed_the_most_frequent_first_and_that_is_3() {
    let new = OLD.replace("gone", "come").replace("methods = [\"GET\"]", "methods = [\"POST\"]");
    let place = place(&new);
    recorded(&place);
    let line = ["diff", "old.toml", "new.toml", "--audit", "audit"];
    let json = place.run(&[&line[..], &["--json"]].concat()).ends_with(3).json();
    let flips: Vec<_> = json["flips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flip| {
            let side = |side: &str| flip[side]["verdict"].as_str().unwrap().to_owned();
            let target = flip["target"].as_str().unwrap().to_owned();
            (flip["count"].as_u64().unwrap(), target, side("old"), side("new"))
        })
        .collect();
    let flip = |count, target: &str, old: &str, new: &str| {
        (count, target.to_owned(), old.to_owned(), new.to_owned())
    };
    assert_eq!(
        flips,
        [
            flip(3, "come.test:443", "deny", "allow"),
            flip(2, "gone.test:443", "allow", "deny"),
            flip(1, "plain.test:80/open/1", "allow", "deny"),
            flip(1, "plain.test:80/open/1", "deny", "allow"),
        ]
    );
    assert_eq!(
        (&json["judged"], &json["unjudged"], &json["left_out"]),
        (&json!(10), &json!(1), &json!(0))
    );
    let run = place.run(&line).ends_with(3);
    let listed = "    3  anonymous  CONNECT come.test:443      deny (host_not_allowed)    allow (rule come)\n";
    assert!(run.stdout.contains(listed), "{}", run.stdout);
    // The file itself is as good as its directory.
    let file = ["diff", "old.toml", "new.toml", "--audit", "audit/00000001.jsonl"];
    assert_eq!(place.run(&file).ends_with(3).stdout, run.stdout);
    // So are the records of a configuration that is named, and of no other.
    let config = format!("{CONFIG}[audit]\npath = {:?}\n", place.path("audit"));
    place.write("egret.toml", &config);
    let by_config = ["diff", "old.toml", "new.toml", "-c", "egret.toml", "--since", "2025-11-20"];
    assert_eq!(place.run(&by_config).ends_with(3).stdout, run.stdout);
    assert!(!place.run(&line[..3]).ends_with(0).stdout.contains("judged"));
}

#[test]
fn without_a_flip_it_is_0_and_addresses_are_judged_where_they_were_recorded() {
    let new = OLD.replace("id = \"gone\"", "id = \"renamed\"");
    let place = place(&new);
    recorded(&place);
    let line = ["diff", "old.toml", "new.toml", "--audit", "audit"];
    place.run(&line).ends_with(0).says("no verdict is another").says("- rule `gone`");
    place.write(
        "new.toml",
        &format!("{OLD}[[network.allow]]\ncidr = \"10.0.0.0/8\"\nrules = [\"code\"]\n"),
    );
    let json = place.run(&[&line[..], &["--json"]].concat()).ends_with(3).json();
    assert_eq!(json["flips"][0]["target"], "api.example.com:443", "{json}");
    assert_eq!(json["flips"].as_array().unwrap().len(), 1, "{json}");
}

#[test]
fn what_was_refused_for_its_form_is_not_judged() {
    let place = place(&OLD.replace("gone", "come").replace("/open", "/shut"));
    let mut records = Recorded::default();
    let mut get = |scheme: &str, host: &str, port: u16, reason: &str| {
        records.decision(json!({
            "method": "GET", "scheme": scheme, "host": host, "port": port, "path": "/open/1",
            "reason": format!("egress.{reason}"),
        }));
    };
    get("https", "gone.test", 443, "scheme_not_allowed");
    for reason in ["host_mismatch", "loop_detected", "target_malformed"] {
        get("http", "plain.test", 80, reason);
    }
    get("http", "plain.test", 80, "path_not_allowed");
    get("http", "plain.test", 80, "rule_denied");
    records.segment(&place, "audit/00000001.jsonl");
    let line = ["diff", "old.toml", "new.toml", "--audit", "audit", "--json"];
    let json = place.run(&line).ends_with(3).json();
    assert_eq!((&json["judged"], &json["unjudged"]), (&json!(2), &json!(4)), "{json}");
    assert_eq!(json["flips"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["flips"][0]["count"], 2, "{json}");
}

#[test]
fn only_requests_since_a_time_are_judged() {
    let place = place(&OLD.replace("gone", "come"));
    recorded(&place);
    let judged = |since: &str| {
        let line = ["diff", "old.toml", "new.toml", "--audit", "audit", "--json", "--since", since];
        place.run(&line).json()["judged"].clone()
    };
    assert_eq!(judged("2025-11-20"), 10);
    assert_eq!(judged("2025-11-21T13:00:05Z"), 5);
    assert_eq!(judged("1s"), 0);
    let wrong = ["diff", "old.toml", "new.toml", "--audit", "audit", "--since", "soon"];
    place.run(&wrong).ends_with(2).says("90m");
    place.run(&["diff", "old.toml", "new.toml", "--since", "1h"]).ends_with(2);
}

#[test]
fn a_policy_that_is_not_valid_is_78_and_records_that_are_not_there_are_1() {
    let place = place("version = 1\nrul = 1\n");
    place.run(&["diff", "old.toml", "new.toml"]).ends_with(78).says("did you mean `rule`?");
    place.run(&["diff", "old.toml", "old.toml", "--audit", "nowhere"]).ends_with(1).says("nowhere");
}
