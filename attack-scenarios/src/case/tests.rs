use std::collections::BTreeSet;

use super::*;

fn corpus() -> Vec<Case> {
    load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))).expect("the corpus parses")
}

#[test]
fn the_corpus_parses_whole_and_has_unique_ids() {
    let cases = corpus();
    assert_eq!(cases.len(), 756);
    let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids.len(), cases.len());
}

#[test]
fn every_case_of_a_driven_kind_is_driven_or_says_why_not() {
    let driven = ["connect", "absolute", "raw", "dns", "tls", "response", "config", "load"];
    let mut left: Vec<String> = Vec::new();
    for case in corpus() {
        match (&case.input, driven.contains(&case.kind.as_str())) {
            (Input::Undriven(_), true) => left.push(case.id),
            (Input::Undriven(why), false) => assert!(why.starts_with("no driver"), "{why}"),
            (_, true) => {}
            (Input::Tls(_), false) if case.id == "CLK-016" => {}
            (_, false) => panic!("{} is played without a driver", case.id),
        }
    }
    // DNSSEC, HTTP/2 in tunnels, a TLS end without close_notify, compression.
    let known = ["DNS-030", "TLA-018", "TLA-020", "TLA-021", "TLA-026", "RSP-030", "RSP-031"];
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    assert_eq!(left, known);
}

#[test]
fn an_unknown_field_is_an_error() {
    let good = r#"{"id": "X", "family": "f", "kind": "connect", "input": {"authority": "h:1"},
        "expected": "deny", "severity": "low", "why": "w", "source": "s"}"#;
    assert!(Case::parse(good).is_ok());
    let bad = good.replace(r#""why""#, r#""wyh": 1, "why""#);
    assert!(Case::parse(&bad).expect_err("unknown").to_string().contains("wyh"));
    let bad = good.replace(r#""h:1""#, r#""h:1", "port": 1"#);
    assert!(Case::parse(&bad).expect_err("unknown").to_string().contains("port"));
    let other = good.replace(r#""connect""#, r#""fleet""#);
    assert!(!Case::parse(&other).expect("a case").is_driven());
}

#[test]
fn a_setup_that_nobody_translates_is_undriven() {
    let case = |setup: &str| {
        let line = format!(
            r#"{{"id": "X", "family": "f", "kind": "config", "setup": {setup},
            "input": {{"steps": ["CONNECT a.test:443"]}}, "expected": "deny", "severity": "low",
            "why": "w", "source": "s"}}"#
        );
        Case::parse(&line).expect("a case")
    };
    assert!(case(r#"{"allow": []}"#).is_driven());
    assert!(case(r#"{"alow": ["a.test"]}"#).is_driven(), "a slip is what the case is about");
    assert!(!case(r#"{"moon": "full"}"#).is_driven());
    assert!(!case(r#"{"mode": "dream"}"#).is_driven());
    assert!(case(r#"{"reload": "log level only"}"#).is_driven());
    assert!(!case(r#"{"reload": "at midnight"}"#).is_driven());
}
