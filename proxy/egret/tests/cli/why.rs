//! `egret why`.

use serde_json::{Value, json};

use super::{
    place::{Place, Run},
    recorded::{self, Recorded},
};

const POLICY: &str = r#"version = 1

[[rule]]
id = "code"
effect = "allow"
hosts = ["api.example.com"] # ours
# Ports and schemes are the defaults.

[[rule]]
id = "plain"
effect = "allow"
workers = { ids = ["anonymous"] }
hosts = ["plain.test"]
schemes = ["http"]
ports = [80]
methods = [
    "GET", # reading
]
paths = ["/open/**"]

[[rule]]
id = "build"
effect = "allow"
workers = { labels = { pool = "build" } }
hosts = ["build.test"]

[[rule]]
id = "never"
effect = "deny"
suffixes = ["tracker.test"]

[[test]]
url = "https://secret.example.com/"
expect = "deny"
"#;

fn place(records: impl FnOnce(&mut Recorded)) -> Place {
    let place = Place::ready();
    place.write("policy.toml", POLICY);
    let mut recorded = Recorded::default();
    records(&mut recorded);
    recorded.segment(&place, "state/audit/00000001.jsonl");
    place
}

/// What is said about the one denial of a place.
#[track_caller]
fn why(record: Value) -> (Place, Value) {
    let place = place(|records| {
        records.decision(record);
    });
    let said = place.run(&["why", "--json"]).ends_with(0).json();
    let denial = said["denials"][0].clone();
    assert!(denial.is_object(), "{said}");
    (place, denial)
}

fn connect(host: &str, port: u16, reason: &str) -> Value {
    json!({ "host": host, "port": port, "reason": format!("egress.{reason}") })
}

fn get(host: &str, path: &str, reason: &str) -> Value {
    json!({
        "method": "GET", "scheme": "http", "host": host, "port": 80, "path": path,
        "reason": format!("egress.{reason}"),
    })
}

#[test]
fn the_last_denial_is_told_with_the_rule_and_the_lines_that_would_allow_it() {
    let place = place(|records| {
        records.connect("early.test", 443);
        records.exchange(
            json!({ "host": "cdn.example.com", "port": 443, "reason": "egress.host_not_allowed" }),
            json!({ "status": 403 }),
        );
        records.decision(json!({
            "host": "api.example.com", "port": 443, "scheme": "https", "verdict": "allow",
            "reason": "egress.allowed", "rule": "code",
        }));
    });
    let run = place.run(&["why"]).ends_with(0);
    for said in [
        "✗ denied  egress.host_not_allowed",
        "CONNECT cdn.example.com:443",
        "No rule for this worker names the host.",
        "status 403, closed by policy",
        "`code` (line 4): names other hosts",
        "hosts = [\"api.example.com\", \"cdn.example.com\"] # ours",
        "id = \"allow-cdn.example.com\"",
        "opens cdn.example.com:443 (https) to worker `anonymous`",
    ] {
        assert!(run.stdout.contains(said), "{said}\n{}", run.stdout);
    }
    assert!(!run.stdout.contains("early.test"), "{}", run.stdout);
    let both = place.run(&["why", "--last", "5", "--json"]).ends_with(0).json();
    let hosts: Vec<_> = both["denials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|denial| denial["decision"]["host"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(hosts, ["cdn.example.com", "early.test"]);
    assert_eq!(both["denials"][0]["completion"]["status"], 403);
}

/// The policy with the lines of a remedy put where it says.
fn amended(remedy: &Value) -> String {
    let (place, lines) = (remedy["place"].as_str().unwrap(), remedy["lines"].as_str().unwrap());
    if place.starts_with("at the end of") {
        return format!("{POLICY}\n{lines}\n");
    }
    let line: usize = place.split([':', ',']).nth(1).unwrap().parse().unwrap();
    let key = lines.split(" = ").next().unwrap();
    let mut old: Vec<&str> = POLICY.lines().collect();
    // The list that stands there is replaced; where there is none, the lines come between.
    if old[line - 1].starts_with(key) {
        let ends = (line - 1..).find(|at| old[*at].contains(']')).unwrap();
        old.drain(line - 1..=ends);
    }
    old.insert(line - 1, lines);
    old.join("\n") + "\n"
}

#[test]
fn whatever_lines_are_shown_allow_the_request_and_nothing_else_that_was_denied() {
    let denied: [(Value, &[&str]); 12] = [
        (connect("cdn.example.com", 443, "host_not_allowed"), &["CONNECT", "cdn.example.com:443"]),
        (connect("elsewhere.test", 443, "host_not_allowed"), &["CONNECT", "elsewhere.test:443"]),
        (connect("elsewhere.test", 80, "host_not_allowed"), &["GET", "http://elsewhere.test/"]),
        (connect("ssh.test", 22, "host_not_allowed"), &["GET", "tcp://ssh.test:22"]),
        (
            connect("api.example.com", 8443, "port_not_allowed"),
            &["CONNECT", "api.example.com:8443"],
        ),
        (get("api.example.com", "/x", "scheme_not_allowed"), &["GET", "http://api.example.com/x"]),
        (get("plain.test", "/shut/1", "path_not_allowed"), &["GET", "http://plain.test/shut/1"]),
        (
            json!({
                "method": "DELETE", "scheme": "http", "host": "plain.test", "port": 80,
                "path": "/open/1", "reason": "egress.method_not_allowed",
            }),
            &["DELETE", "http://plain.test/open/1"],
        ),
        (get("new.test", "/a/b", "host_not_allowed"), &["GET", "http://new.test/a/b"]),
        (connect("93.184.216.34", 443, "host_not_allowed"), &["CONNECT", "93.184.216.34:443"]),
        (connect("[2606:2800::1]", 443, "host_not_allowed"), &["CONNECT", "[2606:2800::1]:443"]),
        (
            json!({
                "host": "db.test", "port": 5432, "scheme": "tcp", "reason": "egress.host_not_allowed",
            }),
            &["GET", "tcp://db.test:5432"],
        ),
    ];
    for (at, (record, question)) in denied.iter().enumerate() {
        let (place, denial) = why(record.clone());
        let remedies = denial["remedies"].as_array().unwrap();
        assert!(!remedies.is_empty(), "{record}: {denial}");
        for remedy in remedies {
            place.write("amended.toml", &amended(remedy));
            let asked = |question: &[&str]| {
                let line = [&["explain"], question, &["--policy", "amended.toml"]].concat();
                place.run(&line)
            };
            asked(question).ends_with(0);
            let (_, other) = &denied[(at + 1) % denied.len()];
            asked(other).ends_with(3);
        }
    }
}

#[test]
fn the_nearest_rules_say_what_in_them_does_not_match() {
    let (_, denial) = why(get("plain.test", "/shut", "path_not_allowed"));
    let near = &denial["nearest"][0];
    assert_eq!((&near["rule"], &near["line"]), (&json!("plain"), &json!(10)));
    assert_eq!(near["misses"], json!([{ "key": "paths", "says": "its paths are /open/**" }]));
    // Another worker's rule is named, but not widened: a rule of one's own opens less.
    let (_, denial) = why(connect("build.test", 443, "host_not_allowed"));
    assert_eq!(denial["nearest"][0]["misses"][0]["key"], "workers");
    let places: Vec<_> =
        denial["remedies"].as_array().unwrap().iter().map(|one| &one["place"]).collect();
    assert_eq!(places.len(), 1, "{places:?}");
    assert!(places[0].as_str().unwrap().starts_with("at the end of"));
}

#[test]
fn what_no_rule_cures_says_so_and_shows_no_lines() {
    for (record, says) in [
        (
            json!({ "rule": "never", "host": "a.tracker.test", "port": 443, "reason": "egress.rule_denied" }),
            "No allow gets round it",
        ),
        (get("169.254.169.254", "/latest", "address_forbidden"), "never unlocked"),
        (connect("10.0.0.9", 443, "host_not_allowed"), "besides a rule that names it"),
        (connect("metadata.google.internal", 80, "address_forbidden"), "never unlocked"),
        (
            json!({ "host": "api.example.com", "port": 443, "addresses": ["169.254.169.254"], "rule": "code", "reason": "egress.address_forbidden" }),
            "never unlocked",
        ),
        (
            json!({ "host": "api.example.com", "port": 443, "scheme": "https", "reason": "egress.sni_mismatch" }),
            "No rule allows another name",
        ),
        (
            json!({ "host": "api.example.com", "port": 443, "scheme": "https", "rule": "code", "reason": "egress.ech_refused" }),
            "ech = \"allow\"",
        ),
        (json!({ "method": "GET", "reason": "egress.identity_required" }), "show its token"),
        (
            json!({ "method": "TRACE", "scheme": "http", "host": "plain.test", "port": 80, "path": "/", "reason": "egress.method_not_allowed" }),
            "No rule allows it",
        ),
        (json!({ "reason": "egress.request_malformed" }), "has to be mended"),
        (
            json!({ "method": "GET", "scheme": "https", "host": "api.example.com", "port": 443, "path": "/", "reason": "egress.scheme_not_allowed" }),
            "It has to send CONNECT",
        ),
        (
            json!({ "method": "GET", "scheme": "http", "host": "plain.test", "port": 80, "path": "/open/1", "reason": "egress.host_mismatch" }),
            "name one and the same",
        ),
        (
            json!({ "host": "x.test", "port": 443, "reason": "egress.of_the_future" }),
            "A newer egret wrote it",
        ),
    ] {
        let (place, denial) = why(record.clone());
        assert_eq!(denial["remedies"], json!([]), "{record}");
        let advice = denial["advice"].to_string();
        place.run(&["why"]).ends_with(0).says(says);
        assert!(advice.contains(&says.replace('"', "\\\"")), "{record}: {advice}");
        assert_ne!(denial["now"]["verdict"], "allow", "{record}");
    }
}

#[test]
fn a_worker_cannot_have_a_pattern_allowed_by_asking_for_it() {
    for path in ["/**", "/shut/*"] {
        let (place, denial) = why(get("plain.test", path, "path_not_allowed"));
        let remedies = denial["remedies"].as_array().unwrap();
        assert!(!remedies.is_empty(), "{denial}");
        for remedy in remedies {
            place.write("amended.toml", &amended(remedy));
            for (path, exit) in [(path, 0), ("/shut/other", 3), ("/", 3)] {
                let url = format!("http://plain.test{path}");
                place.run(&["explain", "GET", &url, "--policy", "amended.toml"]).ends_with(exit);
            }
        }
    }
}

#[test]
fn a_rule_without_paths_gets_a_neighbour_without_them() {
    let (place, _) = why(json!({
        "method": "POST", "scheme": "http", "host": "open.test", "port": 80, "path": "/x",
        "reason": "egress.method_not_allowed",
    }));
    let rule = "\n[[rule]]\nid = \"open\"\neffect = \"allow\"\nhosts = [\"open.test\"]\n\
                schemes = [\"http\"]\nports = [80]\nmethods = [\"GET\"]\n";
    place.write("policy.toml", &format!("{POLICY}{rule}"));
    let said = place.run(&["why", "--json"]).ends_with(0).json();
    let remedy = said["denials"][0]["remedies"][1].clone();
    assert!(!remedy["lines"].as_str().unwrap().contains("paths"), "{remedy}");
    assert!(remedy["opens"].as_str().unwrap().contains("http POST, every path"), "{remedy}");
}

#[test]
fn a_method_in_small_letters_is_the_clients_to_mend() {
    let mut record = get("plain.test", "/open/1", "method_not_allowed");
    record["method"] = json!("get");
    let (_, denial) = why(record);
    assert_eq!(denial["remedies"], json!([]), "{denial}");
    assert!(denial["advice"].to_string().contains("the client has to write `GET`"), "{denial}");
}

#[test]
fn a_method_that_is_denied_in_capitals_too_has_to_be_in_them_and_allowed() {
    let mut record = get("plain.test", "/open/1", "method_not_allowed");
    record["method"] = json!("delete");
    let (place, denial) = why(record);
    let remedies = denial["remedies"].as_array().unwrap();
    assert!(!remedies.is_empty(), "{denial}");
    for remedy in remedies {
        place.write("amended.toml", &amended(remedy));
        for (method, exit) in [("DELETE", 0), ("delete", 3)] {
            let url = "http://plain.test/open/1";
            place.run(&["explain", method, url, "--policy", "amended.toml"]).ends_with(exit);
        }
    }
    let told = place.run(&["why"]).ends_with(0).stdout;
    let [advice, remedy] = ["has to write `DELETE`", "to allow it"].map(|said| told.find(said));
    assert!(advice.is_some() && advice < remedy, "{told}");
    assert_eq!(told.matches("has to write").count(), 1, "{told}");
}

#[test]
fn a_rule_that_tells_paths_apart_gets_no_neighbour_that_opens_them_all() {
    let mut record = get("plain.test", "/open/x", "port_not_allowed");
    record["port"] = json!(8080);
    let (_, denial) = why(record);
    let remedies = denial["remedies"].as_array().unwrap().iter();
    let mut lines = remedies.map(|remedy| remedy["lines"].as_str().unwrap());
    let neighbour = lines.find(|lines| lines.contains("[[rule]]")).unwrap();
    assert!(neighbour.contains("paths = [\"/open/x\"]"), "{neighbour}");
}

#[test]
fn paths_are_told_apart_by_whichever_rule_of_the_host_does() {
    let (place, _) = why(json!({
        "method": "POST", "scheme": "http", "host": "many.test", "port": 80, "path": "/y",
        "reason": "egress.method_not_allowed",
    }));
    let rule = |id: &str, more: &str| {
        format!(
            "\n[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nhosts = [\"many.test\"]\n\
             schemes = [\"http\"]\nports = [80]\n{more}\n"
        )
    };
    let methods = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let mut policy = POLICY.to_owned();
    for method in methods {
        policy += &rule(&method.to_lowercase(), &format!("methods = [\"{method}\"]"));
    }
    policy += &rule("last", "methods = [\"POST\"]\npaths = [\"/x\"]");
    place.write("policy.toml", &policy);
    let said = place.run(&["why", "--json"]).ends_with(0).json();
    let remedies = said["denials"][0]["remedies"].as_array().unwrap();
    let neighbour = remedies.last().unwrap();
    assert!(neighbour["lines"].as_str().unwrap().contains("paths = [\"/y\"]"), "{neighbour}");
}

#[test]
fn a_private_address_is_opened_by_a_network_entry_and_a_mixed_answer_too() {
    let (place, denial) = why(json!({
        "host": "api.example.com", "port": 443, "rule": "code",
        "addresses": ["10.1.2.3", "93.184.216.34"], "reason": "egress.address_forbidden",
    }));
    let remedy = &denial["remedies"][0];
    assert!(remedy["lines"].as_str().unwrap().contains("cidr = \"10.1.2.3/32\""), "{denial}");
    place.write("amended.toml", &amended(remedy));
    let asked = |address| {
        let line = ["explain", "CONNECT", "api.example.com:443", "--address", address];
        place.run(&[&line[..], &["--policy", "amended.toml"]].concat())
    };
    asked("10.1.2.3").ends_with(0);
    asked("10.1.2.4").ends_with(3);
}

#[test]
fn what_egret_keeps_for_itself_is_not_offered() {
    let place = place(|records| {
        for port in [9181, 9182] {
            records.decision(json!({
                "host": "127.0.0.1", "port": port, "rule": "local", "addresses": ["127.0.0.1"],
                "reason": "egress.address_forbidden",
            }));
        }
    });
    let rule = "\n[[rule]]\nid = \"local\"\neffect = \"allow\"\nhosts = [\"127.0.0.1\"]\n\
                ports = [9181, 9182]\n";
    place.write("policy.toml", &format!("{POLICY}{rule}"));
    let config = super::place::CONFIG;
    place.write("egret.toml", &format!("{config}\n[metrics]\naddress = \"127.0.0.1:9181\"\n"));
    let said = place.run(&["why", "--last", "2", "--json"]).ends_with(0).json();
    let [other, own] = [0, 1].map(|at| said["denials"][at].clone());
    assert_eq!(own["remedies"], json!([]), "{own}");
    assert!(own["advice"].to_string().contains("a socket of egret itself"), "{own}");
    assert!(other["remedies"].to_string().contains("127.0.0.1/32"), "{other}");
}

#[test]
fn a_policy_that_has_changed_since_is_said_to_have_and_may_allow_it_now() {
    let place = place(|records| {
        records.connect("api.example.com", 443);
    });
    place.run(&["why"]).ends_with(0).says("now allowed").says("which has changed since");
}

#[test]
fn a_policy_that_is_not_valid_is_78_and_the_record_is_told_all_the_same() {
    let (place, _) = why(connect("elsewhere.test", 443, "host_not_allowed"));
    place.write("policy.toml", &format!("{POLICY}[[rule]\n"));
    let run = place.run(&["why"]).ends_with(78);
    for said in
        ["CONNECT elsewhere.test:443", "No rule for this worker names the host.", "cannot be said"]
    {
        assert!(run.stdout.contains(said), "{run:?}");
    }
    assert!(run.stderr.contains("policy.toml:"), "{run:?}");
    let said = place.run(&["why", "--json"]).ends_with(78).json();
    assert_eq!(said["denials"][0]["decision"]["host"], "elsewhere.test", "{said}");
    assert_eq!((&said["policy"], &said["denials"][0]["now"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_test_of_the_policy_that_expects_otherwise_is_named() {
    let (_, denial) = why(connect("secret.example.com", 443, "host_not_allowed"));
    assert_eq!(denial["remedies"][0]["against"], json!([1]), "{denial}");
}

#[test]
fn a_pasted_status_line_finds_its_record_and_an_unknown_id_is_1() {
    let place = place(|records| {
        records.connect("one.test", 443);
        records.connect("two.test", 443);
        records.line(json!({
            "id": recorded::id(7), "time": recorded::time(7), "event": "audit.denials",
            "worker": "anonymous", "reason": "egress.host_not_allowed", "count": 12,
        }));
    });
    let line = format!("HTTP/1.1 403 egress.host_not_allowed {}", recorded::id(0));
    place.run(&["why", &line]).ends_with(0).says("one.test");
    let words: Vec<&str> = ["why"].into_iter().chain(line.split(' ')).collect();
    place.run(&words).ends_with(0).says("one.test");
    place.run(&["why", &recorded::id(7).to_lowercase()]).ends_with(0).says("12 denials");
    place.run(&["why", &recorded::id(5)]).ends_with(1).says("egret tail");
    place.run(&["why", "egress.host_not_allowed"]).ends_with(2).says("26 letters");
}

#[test]
fn nothing_denied_is_0_and_says_so_and_no_records_are_1() {
    let allowed = json!({
        "host": "api.example.com", "port": 443, "verdict": "allow", "reason": "egress.allowed",
    });
    let place = place(|records| {
        records.decision(allowed);
    });
    place.run(&["why"]).ends_with(0).says("nothing was denied");
    place.run(&["why", "--json"]).ends_with(0).says("\"denials\":[]");
    Place::ready().run(&["why"]).ends_with(1).says("egret serve");
    place.run(&["why", "--audit", "nowhere"]).ends_with(1).says("nowhere");
}

#[test]
fn only_the_denials_of_one_worker_are_told_if_it_is_named() {
    let place = place(|records| {
        records.decision(json!({ "worker": "ci-1", "host": "a.test", "port": 443, "reason": "egress.host_not_allowed" }));
        records.connect("b.test", 443);
    });
    place.run(&["why", "--worker", "ci-1"]).ends_with(0).says("a.test:443");
    place
        .run(&["why", "--worker", "ci-2"])
        .ends_with(0)
        .says("nothing was denied of worker `ci-2`");
}

#[test]
fn foreign_and_torn_lines_are_passed_over_and_counted_and_nothing_reaches_the_terminal_raw() {
    let place = place(|records| {
        records.raw("not a record\n");
        records.decision(json!({
            "method": "GET", "scheme": "http\u{1b}[1m", "host": "plain.test", "port": 80,
            "path": "/\u{1b}[2J\u{202e}", "reason": "egress.path_not_allowed",
        }));
        records.raw("{\"seq\":9,\"event\":\"decis");
    });
    let run =
        place.run(&["why", "--last", "9"]).ends_with(0).says("1 line of").says("are no records");
    assert!(!run.stdout.contains('\u{1b}') && !run.stdout.contains('\u{202e}'), "{run:?}");
}

#[test]
fn an_old_id_is_found_across_segments() {
    let place = Place::ready();
    let mut recorded = Recorded::default();
    let mut ids = Vec::new();
    for segment in 1..=4 {
        for number in 0..2000 {
            ids.push(recorded.connect(&format!("h{number}.s{segment}.test"), 443));
        }
        recorded.segment(&place, &format!("state/audit/{segment:08}.jsonl"));
    }
    let told = |id: &str| -> Run { place.run(&["why", id]).ends_with(0) };
    for at in [0, 1, 1999, 2000, 3456, 7999] {
        let (segment, number) = (at / 2000 + 1, at % 2000);
        told(&ids[at]).says(&format!("h{number}.s{segment}.test:443"));
    }
    // What retention has taken is gone; the rest is found.
    std::fs::remove_file(place.path("state/audit/00000001.jsonl")).unwrap();
    place.run(&["why", &ids[5]]).ends_with(1);
    told(&ids[2001]).says("h1.s2.test:443");
}
