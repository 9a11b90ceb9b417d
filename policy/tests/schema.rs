//! The schema for editors and the reader of policies know the same keys.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use egret_policy::{Policy, Reason, policy_schema};
use serde_json::Value;

/// The keys of an object of the schema, by its path from the root.
fn schema_keys(pointer: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(policy_schema()).unwrap();
    let object = schema.pointer(pointer).unwrap();
    assert_eq!(object["additionalProperties"], Value::Bool(false), "{pointer}");
    object["properties"].as_object().unwrap().keys().cloned().collect()
}

/// The keys that the reader knows where `zzzz` stands: it lists them when it meets a stray one.
fn reader_keys(text: &str) -> BTreeSet<String> {
    let loaded = Policy::load(&format!("version = 1\n{text}"));
    let stray = loaded.problems.iter().find(|problem| problem.message.contains("`zzzz`")).unwrap();
    let (_, keys) = stray.fix.split_once(": ").unwrap();
    keys.split(", ").map(str::to_owned).collect()
}

fn check(pointer: &str, text: &str) {
    assert_eq!(schema_keys(pointer), reader_keys(text), "{pointer}");
}

#[test]
fn every_table_has_the_same_keys_in_both() {
    check("", "zzzz = 1");
    check("/definitions/defaults", "[defaults]\nzzzz = 1");
    check("/definitions/network", "[network]\nzzzz = 1");
    check("/definitions/unlock", "[[network.allow]]\nzzzz = 1");
    check("/definitions/rule", "[[rule]]\neffect = 'allow'\nzzzz = 1");
    check("/definitions/rule", "[[rule]]\neffect = 'deny'\nzzzz = 1");
    check("/definitions/rule/properties/workers", "[[rule]]\nworkers = { zzzz = 1 }");
    check("/definitions/limits", "[[rule]]\neffect = 'allow'\nlimits = { zzzz = 1 }");
    check("/definitions/credential", "[[credential]]\nzzzz = 1");
    check("/definitions/test", "[[test]]\nzzzz = 1");
    check("/definitions/test/properties/worker", "[[test]]\nworker = { zzzz = 1 }");
    for (way, value) in [("basic", "basic"), ("sigv4", "sigv4"), ("oauth2", "oauth2")] {
        let pointer = format!("/definitions/inject/properties/{way}");
        check(&pointer, &format!("[[credential]]\ninject = {{ {value} = {{ zzzz = 1 }} }}"));
    }
    let ways = ["header = 'x'", "placeholder = 'xxxxxxxx'"];
    let known =
        ways.map(|way| reader_keys(&format!("[[credential]]\ninject = {{ {way}, zzzz = 1 }}")));
    assert_eq!(schema_keys("/definitions/inject"), &known[0] | &known[1]);
}

#[test]
fn every_definition_is_used_and_every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                let reference = object.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let schema: Value = serde_json::from_str(policy_schema()).unwrap();
    let mut found = BTreeSet::new();
    references(&schema, &mut found);
    let defined = schema["definitions"].as_object().unwrap().keys();
    let defined: BTreeSet<_> = defined.map(|name| format!("#/definitions/{name}")).collect();
    assert_eq!(found, defined);
}

#[test]
fn codes_are_unique_and_keep_their_form() {
    let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for code in codes {
        let name = code.strip_prefix("egress.").unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
    }
}
