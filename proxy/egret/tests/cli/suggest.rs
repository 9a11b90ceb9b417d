//! `egret suggest`.

use serde_json::{Value, json};

use super::{place::Place, recorded::Recorded};

fn tunnel(worker: &str, host: &str, port: u16) -> Value {
    json!({
        "worker": worker, "scheme": "https", "host": host, "port": port, "verdict": "allow",
        "reason": "egress.allowed", "rule": "any",
    })
}

fn request(worker: &str, method: &str, host: &str, path: &str) -> Value {
    json!({
        "worker": worker, "method": method, "scheme": "http", "host": host, "port": 80,
        "path": path, "verdict": "would_deny", "reason": "egress.host_not_allowed",
    })
}

fn place(decisions: &[Value]) -> Place {
    let place = Place::ready();
    let mut records = Recorded::default();
    for decision in decisions {
        records.decision(decision.clone());
    }
    records.segment(&place, "state/audit/00000001.jsonl");
    place
}

/// What is suggested, once it has been checked.
#[track_caller]
fn suggested(place: &Place, line: &[&str]) -> String {
    let run = place.run(&[&["suggest"], line].concat()).ends_with(0);
    place.write("suggested.toml", &run.stdout);
    place.run(&["check", "suggested.toml"]).ends_with(0);
    run.stdout
}

#[track_caller]
fn explained(place: &Place, line: &[&str], exit: i32) {
    let line = [&["explain"], line, &["--policy", "suggested.toml"]].concat();
    place.run(&line).ends_with(exit);
}

#[test]
fn what_was_seen_is_allowed_and_every_neighbour_of_it_is_not() {
    let place = place(&[
        tunnel("ci-1", "api.example.com", 443),
        tunnel("ci-1", "www.example.com", 443),
        tunnel("ci-2", "api.example.com", 443),
        tunnel("ci-1", "api.example.com", 8443),
        request("ci-1", "GET", "plain.test", "/a"),
        request("ci-1", "POST", "plain.test", "/b"),
        json!({ "worker": "ci-1", "host": "denied.test", "port": 443, "reason": "egress.host_not_allowed" }),
        json!({ "worker": "ci-1", "scheme": "tcp", "host": "db.test", "port": 5432, "verdict": "allow", "reason": "egress.allowed" }),
    ]);
    suggested(&place, &[]);
    let asked = |worker, url, exit| explained(&place, &["GET", url, "--worker", worker], exit);
    for (worker, url) in [
        ("ci-1", "https://api.example.com/"),
        ("ci-1", "https://api.example.com:8443/"),
        ("ci-1", "https://www.example.com/"),
        ("ci-2", "https://api.example.com/"),
        ("ci-1", "http://plain.test/a"),
        ("ci-1", "https://denied.test/"),
        ("ci-1", "tcp://db.test:5432"),
    ] {
        asked(worker, url, 0);
    }
    for (worker, url) in [
        ("ci-2", "https://www.example.com/"),
        ("ci-2", "https://api.example.com:8443/"),
        ("ci-1", "https://www.example.com:8443/"),
        ("ci-3", "https://api.example.com/"),
        ("ci-1", "http://api.example.com/"),
        ("ci-1", "http://plain.test/b"),
        ("ci-2", "http://plain.test/a"),
        ("ci-1", "https://plain.test/"),
        ("ci-1", "tcp://db.test:5433"),
        ("ci-1", "https://other.example.com/"),
    ] {
        asked(worker, url, 3);
    }
    explained(&place, &["POST", "http://plain.test/b", "--worker", "ci-1"], 0);
    explained(&place, &["POST", "http://plain.test/a", "--worker", "ci-1"], 3);
}

#[test]
fn what_agrees_is_put_into_one_rule_with_its_counts() {
    let text = suggested(
        &place(&[
            tunnel("ci-1", "a.test", 443),
            tunnel("ci-2", "a.test", 443),
            tunnel("ci-2", "b.test", 443),
            tunnel("ci-1", "b.test", 443),
            json!({ "worker": "ci-1", "host": "a.test", "port": 443, "reason": "egress.host_not_allowed" }),
        ]),
        &[],
    );
    assert_eq!(text.matches("[[rule]]").count(), 1, "{text}");
    for line in [
        "# Seen 4 times, 2025-11-21 13:00:00 to 2025-11-21 13:00:03: 4 allowed.\n",
        "id = \"seen-a.test\"\n",
        "workers = { ids = [\"ci-1\", \"ci-2\"] }\n",
        "hosts = [\"a.test\", \"b.test\"]\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn the_same_records_give_the_same_text_whatever_their_order() {
    let mut decisions = vec![
        tunnel("ci-1", "a.test", 443),
        tunnel("ci-2", "b.test", 443),
        request("ci-1", "GET", "plain.test", "/a"),
        request("ci-2", "GET", "plain.test", "/a"),
    ];
    let strip = |text: String| -> String {
        // Times differ, as the records come at other times.
        text.lines()
            .filter(|line| !line.starts_with("# Seen"))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let one = suggested(&place(&decisions), &[]);
    assert_eq!(one, suggested(&place(&decisions), &[]));
    decisions.reverse();
    assert_eq!(strip(one), strip(suggested(&place(&decisions), &[])));
}

#[test]
fn what_must_not_be_opened_is_left_out_and_counted() {
    let deny = |host: &str, reason: &str| json!({ "host": host, "port": 443, "reason": format!("egress.{reason}") });
    let place = place(&[
        deny("169.254.169.254", "address_forbidden"),
        deny("metadata.google.internal", "host_not_allowed"),
        deny("93.184.216.34", "host_not_allowed"),
        deny("tracker.test", "rule_denied"),
        deny("gone.test", "dns_failed"),
        json!({ "host": "inside.test", "port": 443, "scheme": "https", "verdict": "allow", "addresses": ["10.0.0.1"], "reason": "egress.allowed" }),
        json!({ "reason": "egress.request_malformed" }),
        deny("fine.test", "host_not_allowed"),
    ]);
    let text = suggested(&place, &[]);
    assert_eq!(text.matches("[[rule]]").count(), 1, "{text}");
    for said in [
        "hosts = [\"fine.test\"]",
        "#   1 to metadata services or this machine, which are never opened, such as metadata.google.internal:443\n",
        "#   2 to an address instead of a name, such as 169.254.169.254:443, 93.184.216.34:443\n",
        "#   1 that a rule denies, such as tracker.test:443\n",
        "#   1 refused with egress.dns_failed, for which no rule is missing, such as gone.test:443\n",
        "#   1 to names with forbidden addresses, which `[[network.allow]]` opens, such as inside.test:443\n",
        "#   1 that cannot be understood, or of nobody known\n",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

#[test]
fn paths_become_patterns_only_with_several_samples() {
    let mut decisions: Vec<_> =
        (1..=3).map(|id| request("w", "GET", "api.test", &format!("/items/{id}"))).collect();
    decisions.push(request("w", "GET", "api.test", "/users/7"));
    decisions.push(request("w", "GET", "odd.test", "/a%20b"));
    // It is the first rule that allows what both match.
    decisions.push(request("w", "GET", "api.test", "/items/4"));
    decisions.push(request("w", "POST", "api.test", "/items/4"));
    let place = place(&decisions);
    let text = suggested(&place, &[]);
    assert!(text.contains("paths = [\"/items/*\", \"/users/7\"]"), "{text}");
    let asked = |url, exit| explained(&place, &["GET", url, "--worker", "w"], exit);
    asked("http://api.test/items/99", 0);
    assert!(text.contains("# Note: `*` is any segment"), "{text}");
    asked("http://api.test/users/7", 0);
    asked("http://api.test/users/8", 3);
    // What no policy can name is said to be open.
    assert!(text.contains("of a form that a policy cannot name"), "{text}");
    asked("http://odd.test/a%20b", 0);
    explained(&place, &["POST", "http://odd.test/a%20b", "--worker", "w"], 3);
}

fn denied(method: &str, host: &str, path: &str) -> Value {
    let mut record = request("w", method, host, path);
    record["verdict"] = json!("deny");
    record
}

#[test]
fn a_denied_request_whose_path_cannot_be_named_opens_nothing() {
    let mut odd = vec![denied("GET", "api.test", "/fine")];
    for path in ["/**", "/a%20b", "/a//b"] {
        odd.push(denied("DELETE", "api.test", path));
    }
    odd.push(denied("OPTIONS", "api.test", "*"));
    let place = place(&odd);
    let text = suggested(&place, &[]);
    assert!(text.contains("methods = [\"GET\"]\npaths = [\"/fine\"]"), "{text}");
    let said = "#   4 denied with a path that a policy cannot name, such as api.test:80\n";
    assert!(text.contains(said), "{text}");
    explained(&place, &["GET", "http://api.test/fine", "--worker", "w"], 0);
    explained(&place, &["DELETE", "http://api.test/admin/all", "--worker", "w"], 3);
}

#[test]
fn beyond_the_paths_that_are_told_apart_only_the_methods_that_were_seen_are_open() {
    let mut decisions: Vec<_> =
        (0..501).map(|at| request("w", "GET", "api.test", &format!("/p{at}x"))).collect();
    decisions.push(request("w", "POST", "api.test", "/late"));
    decisions.push(request("w", "PUT", "api.test", "/p1x"));
    let place = place(&decisions);
    let text = suggested(&place, &[]);
    assert!(text.contains("with these methods every path is allowed, seen or not"), "{text}");
    let asked = |method, path, exit| {
        let url = format!("http://api.test{path}");
        explained(&place, &[method, &url, "--worker", "w"], exit);
    };
    asked("GET", "/p500x", 0);
    asked("POST", "/late", 0);
    asked("DELETE", "/p1x", 3);
    // What is told apart stays so.
    asked("PUT", "/p1x", 0);
    asked("PUT", "/p2x", 3);
}

#[test]
fn an_odd_path_beyond_those_that_are_told_apart_is_still_allowed() {
    let mut decisions = vec![request("w", "POST", "api.test", "/submit")];
    decisions.extend((0..500).map(|at| request("w", "GET", "api.test", &format!("/p{at}x"))));
    decisions.push(request("w", "GET", "api.test", "//odd"));
    let place = place(&decisions);
    let text = suggested(&place, &[]);
    assert!(!text.contains("paths = ["), "{text}");
    assert!(
        text.contains("but for odd forms where another rule of the host names paths"),
        "{text}"
    );
    explained(&place, &["GET", "http://api.test//odd", "--worker", "w"], 0);
    explained(&place, &["DELETE", "http://api.test/submit", "--worker", "w"], 3);
}

#[test]
fn methods_too_many_to_be_told_apart_are_left_out() {
    let decisions: Vec<_> =
        (0..40).map(|at| request("w", &format!("M{at}"), "api.test", "/a")).collect();
    let text = suggested(&place(&decisions), &[]);
    assert!(text.contains("#   8 with more methods than can be told apart"), "{text}");
    assert!(text.contains("\"M31\"") && !text.contains("\"M32\""), "{text}");
}

#[test]
fn a_tunnel_of_which_only_the_port_was_seen_says_what_it_opens() {
    let connect =
        json!({ "worker": "w", "host": "a.test", "port": 80, "reason": "egress.host_not_allowed" });
    let text = suggested(&place(&[connect]), &[]);
    assert!(text.contains("every method and every path is allowed"), "{text}");
}

#[test]
fn a_base_is_kept_and_only_what_it_lacks_is_added() {
    let place = place(&[
        tunnel("w", "example.com", 443),
        tunnel("w", "new.test", 443),
        tunnel("w", "never.test", 443),
    ]);
    let base = super::place::POLICY.replacen(
        "[[test]]",
        "[[rule]]\nid = \"never\"\neffect = \"deny\"\nhosts = [\"never.test\"]\n\n[[test]]",
        1,
    );
    place.write("base.toml", &base);
    let text = suggested(&place, &["--base", "base.toml"]);
    assert!(text.starts_with(base.trim_end()), "{text}");
    assert!(text.contains("# Allowed already: 1.\n"), "{text}");
    assert!(text.contains("#   1 that the given policy denies whatever is added"), "{text}");
    assert_eq!(text.matches("seen-").count(), 2, "{text}");
    explained(&place, &["GET", "https://new.test/", "--worker", "w"], 0);
}

#[test]
fn what_cannot_stand_beside_a_base_takes_nothing_else_with_it() {
    let place = place(&[
        tunnel("w", "a.new.test", 8443),
        tunnel("w", "b.other.test", 443),
        tunnel("w", "c.new.test", 9443),
        json!({ "host": "example.org", "port": 443, "reason": "egress.host_not_allowed" }),
        json!({ "worker": "w", "host": "example.com", "port": 443, "scheme": "tcp", "reason": "egress.protocol_not_allowed" }),
    ]);
    let opaque = "[[rule]]\nid = \"opaque\"\neffect = \"allow\"\nsuffixes = [\"other.test\"]\n\
                  schemes = [\"tcp\"]\nports = [443]\n\n[[test]]";
    let base = super::place::POLICY.replacen("[[test]]", opaque, 1);
    place.write("base.toml", &base);
    let text = suggested(&place, &["--base", "base.toml"]);
    for (url, exit) in [
        ("https://a.new.test:8443/", 0),
        ("https://c.new.test:9443/", 0),
        ("https://b.other.test/", 3),
        ("tcp://example.com:443", 3),
        ("https://example.com/", 0),
    ] {
        explained(&place, &["GET", url, "--worker", "w"], exit);
    }
    for said in [
        "#   1 of neither TLS nor HTTP where TLS or HTTP was seen too, such as example.com:443\n",
        "such as https://b.other.test:443\n",
        "for test 2 expects deny, such as",
        "such as https://example.org:443\n",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    // What is wrong with it by itself is not put down to what was seen.
    place.write("base.toml", &base.replace("expect = \"deny\"", "expect = \"allow\""));
    let run = place.run(&["suggest", "--base", "base.toml"]).ends_with(1);
    assert!(run.stderr.contains("the given policy cannot be put in force"), "{}", run.stderr);
}

/// A policy with a comment so long that it can be tried but two or three times.
fn long(more: &str) -> String {
    format!("{}\n#{}\n{more}", super::place::POLICY, "x".repeat(3 << 20))
}

#[test]
fn what_many_tests_speak_against_takes_nothing_else_with_it() {
    let seen: Vec<_> = (10..70).map(|at| tunnel("w", &format!("h{at}.test"), 443)).collect();
    let place = place(&seen);
    let test = |at| {
        format!(
            "[[test]]\nworker = {{ id = \"w\" }}\nurl = \"https://h{at}.test/\"\nexpect = \"deny\"\n"
        )
    };
    place.write("base.toml", &long(&(10..70).step_by(5).map(test).collect::<String>()));
    let text = suggested(&place, &["--base", "base.toml"]);
    let (_, text) = text.split_once("# What follows").unwrap();
    assert_eq!(text.matches("cannot stand in the policy").count(), 12, "{text}");
    assert!(!text.contains("not tried"), "{text}");
    for at in 10..70 {
        let named = text.contains(&format!("    \"h{at}.test\",\n"));
        assert_eq!(named, at % 5 != 0, "{at}\n{text}");
    }
}

#[test]
fn what_fails_for_one_worker_after_another_takes_no_other_port_with_it() {
    let seen = ["w1", "w2"]
        .map(|worker| [request(worker, "GET", "a.test", "/a%20b"), tunnel(worker, "a.test", 443)]);
    let place = place(&seen.concat());
    let deny = "[[rule]]\nid = \"no-root\"\neffect = \"deny\"\nhosts = [\"a.test\"]\n\
                schemes = [\"http\"]\npaths = [\"/\"]\n\n[[test]]";
    place.write("base.toml", &super::place::POLICY.replacen("[[test]]", deny, 1));
    let text = suggested(&place, &["--base", "base.toml"]);
    assert!(text.contains("such as http://a.test:80\n"), "{text}");
    for worker in ["w1", "w2"] {
        explained(&place, &["GET", "https://a.test/", "--worker", worker], 0);
    }
}

#[test]
fn what_was_not_tried_is_not_said_to_have_failed() {
    let seen: Vec<_> = (10..18).map(|at| tunnel("w", &format!("h{at}.test"), 443)).collect();
    let place = place(&seen);
    let opaque = "[[rule]]\nid = \"opaque\"\neffect = \"allow\"\nhosts = [\"h10.test\"]\n\
                  schemes = [\"tcp\"]\nports = [443]\n";
    place.write("base.toml", &long(opaque));
    let text = suggested(&place, &["--base", "base.toml"]);
    let (_, text) = text.split_once("# What follows").unwrap();
    let said = "#   8 that were not tried, for too much else cannot stand in the policy, such as";
    assert!(text.contains(said), "{text}");
}

#[test]
fn no_single_request_of_a_worker_keeps_the_others_from_being_suggested() {
    let place = place(&[
        request("w", "GET", "api.test", "/a"),
        request("w", "get", "api.test", "/a"),
        request("w", "*", "api.test", "/a"),
        request("w", "TRacE", "api.test", "/a"),
        tunnel("w", "not-seen.invalid", 443),
        tunnel("w", "not-seen-2.invalid", 443),
    ]);
    let text = suggested(&place, &[]);
    for said in [
        "methods = [\"GET\"]",
        "url = \"https://not-seen-3.invalid/\"",
        "#   2 with a method that no rule can name, such as api.test:80\n",
        "#   1 with a method that is never forwarded, such as api.test:80\n",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

#[test]
fn one_worker_and_a_time_narrow_it_and_nothing_seen_is_a_policy_that_allows_nothing() {
    let place = place(&[tunnel("ci-1", "a.test", 443), tunnel("ci-2", "b.test", 443)]);
    let text = suggested(&place, &["--worker", "ci-2"]);
    assert!(text.contains("b.test") && !text.contains("a.test"), "{text}");
    let text = suggested(&place, &["--since", "2025-11-21T13:00:01Z"]);
    assert!(text.contains("b.test") && !text.contains("a.test"), "{text}");
    let text = suggested(&place, &["--worker", "nobody"]);
    assert!(!text.contains("[[rule]]"), "{text}");
    explained(&place, &["GET", "https://a.test/"], 3);
}

#[test]
fn what_tunnels_turned_out_to_carry_counts_over_what_their_port_promises() {
    let place = place(&[
        json!({ "worker": "w", "host": "a.test", "port": 22, "reason": "egress.host_not_allowed" }),
        json!({ "worker": "w", "host": "b.test", "port": 22, "reason": "egress.host_not_allowed" }),
        tunnel("w", "b.test", 22),
        json!({ "worker": "w", "scheme": "tcp", "host": "b.test", "port": 22, "reason": "egress.protocol_not_allowed" }),
        json!({ "worker": "w", "host": "c.test", "port": 80, "reason": "egress.host_not_allowed" }),
        json!({ "worker": "w", "scheme": "http", "host": "d.test", "port": 80, "verdict": "allow", "reason": "egress.allowed" }),
        request("w", "GET", "d.test", "/x"),
    ]);
    let text = suggested(&place, &[]);
    let asked = |url, exit| explained(&place, &["GET", url, "--worker", "w"], exit);
    asked("tcp://a.test:22", 0);
    asked("https://b.test:22/", 0);
    asked("tcp://b.test:22", 3);
    asked("http://c.test/", 0);
    asked("http://d.test/x", 0);
    asked("http://d.test/y", 3);
    assert!(
        text.contains("of neither TLS nor HTTP where TLS or HTTP was seen too, such as b.test:22"),
        "{text}"
    );
}
