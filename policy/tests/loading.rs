//! A policy loads in about the time that it takes to read it, whatever it repeats.
//!
//! The bounds are far above what a slow machine needs, and far below what comparing each entry
//! with each other would take.

// A test harness reads the clock, which the pure crate itself may not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use egret_policy::Policy;

fn loads(text: &str, what: &str) {
    let began = Instant::now();
    let loaded = Policy::load(text);
    let took = began.elapsed();
    assert_eq!(loaded.problems, [], "{what}");
    assert!(took < Duration::from_secs(20), "{what} took {took:?}");
}

#[test]
fn a_credential_for_many_hosts() {
    let hosts: Vec<_> = (0..40_000).map(|at| format!("h{at}.example.com")).collect();
    let text = format!(
        "version = 1\n[[rule]]\nid = \"a\"\neffect = \"allow\"\nhosts = {hosts:?}\n\
         tls = \"intercept\"\ncredentials = [\"one\", \"two\"]\n\
         [[credential]]\nid = \"one\"\nsecret = \"local:one\"\nhosts = {hosts:?}\n\
         inject = {{ header = \"authorization\" }}\n\
         [[credential]]\nid = \"two\"\nsecret = \"local:two\"\nhosts = {hosts:?}\n\
         inject = {{ header = \"x-api-key\" }}\n"
    );
    loads(&text, "a credential for many hosts");
}

#[test]
fn many_workers_at_one_host() {
    for ways in [["tunnel", "tunnel"], ["tunnel", "intercept"]] {
        let mut text = "version = 1\n".to_owned();
        for at in 0..20_000 {
            write!(
                text,
                "[[rule]]\nid = \"r{at}\"\neffect = \"allow\"\nhosts = [\"a.example.com\"]\n\
                 workers = {{ ids = [\"w{at}\"] }}\ntls = \"{}\"\n",
                ways[at % 2]
            )
            .unwrap();
        }
        loads(&text, "many workers at one host");
    }
}
