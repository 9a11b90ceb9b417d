//! `egret worker token`.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::place::{POLICY, Place};

#[test]
fn a_token_is_random_text_for_urls_and_its_digest_is_that_of_its_bytes() {
    let place = Place::new();
    let mut tokens = BTreeSet::new();
    for _ in 0..4 {
        let made = place.run(&["worker", "token", "ci-1", "--json"]).ends_with(0).json();
        let token = made["token"].as_str().unwrap();
        assert_eq!(token.len(), 43, "256 bits");
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(token.bytes().all(fits), "{token}");
        let digest: String =
            Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(made["token_sha256"], digest);
        assert_eq!(made["id"], "ci-1");
        assert!(tokens.insert(token.to_owned()), "twice the same");
    }
}

#[test]
fn the_lines_that_are_shown_are_a_worker_that_the_configuration_takes() {
    let place = Place::new();
    let line =
        ["worker", "token", "ci-1", "--label", "pool=build", "--label", "odd \"key\"=a\\\u{7f}b"];
    let told = place.run(&line).ends_with(0).stdout;
    let entry = told.split_once("[[worker]]").unwrap().1.split_once("\n\n").unwrap().0;
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\nidentity = [\"token\"]\n";
    let config = format!("version = 1\nstate_dir = \"state\"\n{listener}[[worker]]{entry}\n");
    place.write("egret.toml", &config);
    place.write("policy.toml", POLICY);
    place.run(&["check"]).ends_with(0);
    let token = told.lines().nth(1).unwrap();
    assert_eq!(told.matches(token).count(), 2, "once to keep, once in the URL: {told}");
    let mut env = place.command(&["env", "--worker", "ci-1", "--json"]);
    // The port is not known yet; the token is not what is wrong.
    let run: super::place::Run = env.env("EGRET_TOKEN", token).output().unwrap().into();
    run.ends_with(3);
    let run: super::place::Run = env.env("EGRET_TOKEN", "other").output().unwrap().into();
    run.ends_with(78).says("the token is not that of worker `ci-1`");
    assert!(!place.path("state").exists(), "something was written");
}

#[test]
fn who_could_not_show_a_token_gets_none() {
    let place = Place::new();
    for id in ["anonymous", "a:b", "", "a b"] {
        place.run(&["worker", "token", id]).ends_with(2);
    }
    place.run(&["worker", "token"]).ends_with(2);
    place.run(&["worker"]).ends_with(2);
    place.run(&["worker", "token", "a@b"]).ends_with(0).says("http://a%40b:");
}

#[test]
fn what_keeps_a_configuration_from_taking_the_worker_is_said_where_it_is_named() {
    let place = Place::ready();
    let made = |id: &str, line: &[&str]| {
        let run = place.run(&[&["worker", "token", id][..], line].concat()).ends_with(0);
        assert!(run.stdout.contains("token_sha256 = "), "{}", run.stdout);
        run.stderr
    };
    let said = made("ci-1", &["-c", "egret.toml"]);
    assert!(said.contains("no listener in egret.toml takes `token`"), "{said}");
    assert_eq!(made("ci-1", &[]), "");
    let worker = "[[worker]]\nid = \"ci-1\"\nsource = [\"10.0.0.0/8\"]\n";
    let kinds = "\"source\", \"token\"";
    let config = place.read("egret.toml").replace("\"anonymous\"", kinds);
    place.write("egret.toml", &(config + worker));
    let said = made("ci-1", &["-c", "egret.toml"]);
    assert!(said.contains("worker `ci-1` is in egret.toml already"), "{said}");
    assert_eq!(made("ci-2", &["-c", "egret.toml"]), "");
    place.run(&["worker", "token", "ci-1", "-c", "absent"]).ends_with(78);
}
