//! `egret check`.

use serde_json::json;

use super::place::{CONFIG, POLICY, Place, set_mode};

fn keys(value: &serde_json::Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_valid_policy_is_0_a_failing_test_3_and_a_broken_file_78() {
    let place = Place::new();
    place.write("good.toml", POLICY);
    place.write("fails.toml", &POLICY.replace("\"deny\"", "\"allow\""));
    place.write("broken.toml", &POLICY.replace("hosts", "hsots"));
    place.run(&["check", "good.toml"]).ends_with(0).says("valid").says("2 tests passed");
    place.run(&["check", "fails.toml"]).ends_with(3).says("1 of 2 tests failed");
    place.run(&["check", "fails.toml"]).says("test 2 expected allow, got deny");
    place.run(&["check", "broken.toml"]).ends_with(78).says("hsots").says("hosts");
    place.run(&["check", "missing.toml"]).ends_with(78).says("missing.toml");
}

#[test]
fn json_has_exactly_the_promised_shape() {
    let place = Place::new();
    place.write("good.toml", POLICY);
    let good = place.run(&["check", "--json", "good.toml"]).ends_with(0).json();
    assert_eq!(good["ok"], true);
    assert_eq!(good["problems"], json!([]));
    assert_eq!(good["warnings"], json!([]));
    assert_eq!(keys(&good), ["ok", "problems", "tests", "warnings"]);
    let tests = good["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 2);
    for (index, test) in tests.iter().enumerate() {
        assert_eq!(keys(test), ["expected", "got", "index", "ok"]);
        assert_eq!((&test["index"], &test["ok"]), (&json!(index), &json!(true)));
    }

    place.write("fails.toml", &POLICY.replace("\"deny\"", "\"allow\""));
    let fails = place.run(&["check", "--json", "fails.toml"]).ends_with(3).json();
    assert_eq!(fails["ok"], false);
    assert_eq!(fails["problems"], json!([]));
    assert_eq!(fails["tests"][1]["ok"], false);

    place.write("broken.toml", "version = 1\n[[rule]]\nid = \"a\"\neffect = \"alow\"\n");
    let broken = place.run(&["check", "--json", "broken.toml"]).ends_with(78).json();
    assert_eq!(broken["ok"], false);
    assert_eq!(broken["tests"], json!([]));
    let problem = &broken["problems"][0];
    assert_eq!(keys(problem), ["column", "file", "fix", "line", "message"]);
    assert_eq!((&problem["file"], &problem["line"]), (&json!("broken.toml"), &json!(4)));
    assert!(problem["column"].as_u64().unwrap() >= 1);
    assert!(!problem["fix"].as_str().unwrap().is_empty());

    let missing = place.run(&["check", "--json", "missing.toml"]).ends_with(78).json();
    assert_eq!(keys(&missing), ["ok", "problems", "tests", "warnings"]);
    assert_eq!(
        (&missing["ok"], &missing["problems"][0]["file"]),
        (&json!(false), &json!("missing.toml"))
    );
}

#[test]
fn every_problem_is_shown_with_its_place_a_caret_and_a_fix() {
    let place = Place::new();
    place.write("p.toml", "verzion = 1\nversion = 1\n\n[[rule]]\nid = \"a\"\neffct = \"allow\"\n");
    let run = place.run(&["check", "p.toml"]).ends_with(78);
    for text in ["p.toml:1:1", "p.toml:6:1", "^^^^^", "did you mean `effect`?"] {
        assert!(run.stderr.contains(text), "{text:?} is not in\n{}", run.stderr);
    }
}

/// Two thousand of them took half a minute, in which nothing else was judged.
#[test]
fn many_problems_of_one_long_line_are_said_shortly() {
    let place = Place::new();
    let hosts = "\"a b\", ".repeat(2000);
    let text = format!(
        "version = 1\n[[rule]]\nid = \"r\"\neffect = \"allow\"\nhosts = [{hosts}]\nslip = 1\n"
    );
    place.write("p.toml", &text);
    let run = place.run(&["check", "p.toml"]).ends_with(78);
    assert!(run.stderr.len() < 100_000, "{}", run.stderr.len());
    for said in ["\nerror: and 1901 more in p.toml\n", " --> p.toml:5:10\n", " --> p.toml:5:17\n"] {
        assert!(run.stderr.contains(said), "{said:?} is not in\n{}", run.stderr);
    }
    let json = place.run(&["check", "--json", "p.toml"]).ends_with(78).json();
    assert_eq!(json["problems"].as_array().unwrap().len(), 2001);
}

#[test]
fn without_a_file_the_configuration_is_judged_too() {
    let place = Place::ready();
    place.run(&["check"]).ends_with(0).says("policy.toml is valid");
    place.write("egret.toml", &CONFIG.replace("address", "adress"));
    place.run(&["check"]).ends_with(78).says("did you mean `address`?");
    let json = place.run(&["check", "--json"]).ends_with(78).json();
    assert_eq!(json["problems"][0]["file"], "egret.toml");
    // A file that is named is judged alone.
    place.run(&["check", "policy.toml"]).ends_with(0);
    place.run(&["check", "policy.toml", "-c", "egret.toml"]).ends_with(2);
}

#[test]
fn without_any_file_the_embedded_policy_is_judged_and_nothing_is_written() {
    let place = Place::new();
    place.run(&["check"]).ends_with(0).says("4 tests passed");
    place.run(&["explain", "GET", "https://example.com/"]).ends_with(0);
    assert!(!place.path("home").exists());
    // Once the user has one, it is that one.
    place.write("home/.config/egret/policy.toml", "version = 1\n");
    place.run(&["check"]).ends_with(0).says("no tests");
}

#[test]
fn what_serve_would_refuse_is_a_warning() {
    let place = Place::new();
    place.write("p.toml", &POLICY.replacen("[[test]]", "tls = \"intercept\"\n[[test]]", 1));
    let run = place.run(&["check", "--json", "p.toml"]).says("not available in this release");
    let warning = &run.ends_with(0).json()["warnings"][0];
    assert_eq!(keys(warning), ["column", "file", "fix", "line", "message"]);
    assert_eq!((&warning["file"], &warning["line"]), (&json!("p.toml"), &json!(8)));
    assert!(warning["fix"].as_str().unwrap().contains("leave"), "{warning}");
    let counted = "limits = { requests_per_minute = 5, tunnels = 1, bytes_up_per_day = \"1GiB\" }";
    place.write("p.toml", &POLICY.replacen("[[test]]", &format!("{counted}\n[[test]]"), 1));
    assert_eq!(place.run(&["check", "p.toml"]).ends_with(0).stderr, "");
    place.write("p.toml", POLICY);
    set_mode(&place.path("p.toml"), 0o666);
    let run = place.run(&["check", "--json", "p.toml"]).ends_with(0);
    assert!(run.stderr.contains("may be written by others"), "{}", run.stderr);
    let told = run.json();
    assert_eq!((&told["ok"], &told["problems"]), (&json!(true), &json!([])));
    let warning = &told["warnings"][0];
    assert_eq!((&warning["file"], &warning["line"]), (&json!("p.toml"), &json!(1)));
    assert!(warning["message"].as_str().unwrap().contains("may be written by others"));
    assert!(warning["fix"].as_str().unwrap().contains("chmod"), "{warning}");
}
