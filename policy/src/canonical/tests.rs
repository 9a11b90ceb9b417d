use crate::policy::{Policy, Revision};

fn revision(text: &str) -> Revision {
    let loaded = Policy::load(text);
    loaded.policy.unwrap_or_else(|| panic!("{:?}\n{text}", loaded.problems)).revision()
}

const BASE: &str = r#"
version = 1
[defaults]
ports = [8443]
[network]
deny = ["203.0.113.0/24", "198.51.100.0/24"]
[[network.allow]]
cidr = "10.20.0.0/16"
rules = ["b", "a"]
[[rule]]
id = "a"
effect = "allow"
hosts = ["a.test", "b.test"]
suffixes = [".c.test"]
tls = "intercept"
methods = ["GET", "POST"]
credentials = ["t"]
[[rule]]
id = "b"
effect = "allow"
hosts = ["d.test"]
ports = [443]
[[rule]]
id = "c"
effect = "deny"
hosts = ["e.test"]
[[credential]]
id = "t"
secret = "local:t"
hosts = ["a.test:8443"]
inject = { header = "Authorization", value = "Bearer {secret}" }
"#;

#[test]
fn what_means_the_same_has_the_same_revision() {
    let base = revision(BASE);
    let same = |from: &str, to: &str| {
        assert!(BASE.contains(from), "{from}");
        assert_eq!(revision(&BASE.replace(from, to)), base, "{from} -> {to}");
    };
    same("[defaults]", "# a comment\n[defaults]");
    same("[defaults]", "[defaults]\nmode = \"enforce\"\nschemes = [\"https\"]\ntls = \"tunnel\"");
    same("[defaults]", "[defaults]\nmax_duration = \"60m\"\nmax_request_bytes = 1073741824");
    same("hosts = [\"a.test\", \"b.test\"]", "hosts = [\"b.test\", \"a.test\", \"b.test\"]");
    same("methods = [\"GET\", \"POST\"]", "methods = [\"POST\", \"GET\"]");
    same("id = \"a\"\neffect = \"allow\"", "effect = \"allow\"\nid = \"a\"");
    same("tls = \"intercept\"", "tls = \"intercept\"\nsni = \"required\"\nech = \"refuse\"");
    same(
        "ports = [443]",
        "ports = [443]\nschemes = [\"https\"]\nlimits = { idle_timeout = \"300s\" }",
    );
    same("[\"203.0.113.0/24\", \"198.51.100.0/24\"]", "[\"198.51.100.0/24\", \"203.0.113.0/24\"]");
    same(
        "rules = [\"b\", \"a\"]",
        "rules = [\"a\"]\n[[network.allow]]\ncidr = \"10.20.0.0/16\"\nrules = [\"b\"]",
    );
    same("secret = \"local:t\"", "secret = \"local:t\"\nrequired = true\nunscannable = \"refuse\"");
    same("\"Authorization\"", "\"authorization\"");
    same(
        "[[credential]]",
        "[[test]]\nurl = \"https://a.test/\"\nexpect = \"deny\"\n[[credential]]",
    );
}

#[test]
fn a_default_and_the_same_said_by_each_rule_are_one() {
    let stated = BASE
        .replace("[defaults]\nports = [8443]", "")
        .replace("suffixes = [\".c.test\"]", "suffixes = [\".c.test\"]\nports = [8443]");
    assert_eq!(revision(&stated), revision(BASE));
}

#[test]
fn what_means_something_else_has_another_revision() {
    let base = revision(BASE);
    let other = |from: &str, to: &str| {
        assert!(BASE.contains(from), "{from}");
        assert_ne!(revision(&BASE.replace(from, to)), base, "{from} -> {to}");
    };
    other("[defaults]", "[defaults]\nmode = \"report\"");
    other("[defaults]", "[defaults]\nmax_duration = \"59m\"");
    other("\"b.test\"", "\"bb.test\"");
    other(".c.test", "c.test");
    other("\"POST\"", "\"PUT\"");
    other("methods = [\"GET\", \"POST\"]\n", "");
    other("methods = [\"GET\", \"POST\"]", "paths = [\"/GET\", \"/POST\"]");
    other("ports = [443]", "ports = [444]");
    other("ports = [443]", "expires = 2027-01-01T00:00:00Z\nports = [443]");
    other("ports = [443]", "ech = \"allow\"\nports = [443]");
    other("ports = [443]", "sni = \"optional\"\nports = [443]");
    other("ports = [443]", "limits = { tunnels = 5 }\nports = [443]");
    other("ports = [443]", "workers = { ids = [\"x\"] }\nports = [443]");
    other("ports = [443]", "workers = { labels = { x = \"y\" } }\nports = [443]");
    other("effect = \"deny\"\nhosts = [\"e.test\"]", "effect = \"deny\"");
    other("203.0.113.0/24", "203.0.112.0/24");
    other("10.20.0.0/16", "10.20.0.0/17");
    other("rules = [\"b\", \"a\"]", "rules = [\"b\"]");
    other("local:t", "file:t");
    other("Bearer {secret}", "Token {secret}");
    other("secret = \"local:t\"", "secret = \"local:t\"\nrequired = false");
    other("secret = \"local:t\"", "secret = \"local:t\"\nunscannable = \"pass\"");
}

#[test]
fn the_order_of_rules_counts() {
    let rule = |id: &str, host: &str| {
        format!("[[rule]]\nid = \"{id}\"\neffect = \"allow\"\nhosts = [\"{host}\"]\n")
    };
    let (a, b) = (rule("a", "a.test"), rule("b", "b.test"));
    let text = |rules: [&str; 2]| format!("version = 1\n{}", rules.concat());
    assert_ne!(revision(&text([&a, &b])), revision(&text([&b, &a])));
}

#[test]
fn a_revision_is_written_in_hexadecimal() {
    let text = revision("version = 1").to_string();
    assert_eq!(text.len(), 64);
    assert!(text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')));
}

#[test]
fn an_outline_has_every_section_and_key_with_defaults_filled_in() {
    let outline = Policy::outline(BASE).expect("a good policy");
    let ids: Vec<_> = outline.sections.iter().map(|section| section.id.as_str()).collect();
    assert_eq!(ids, ["", "a", "b", "c", "t"]);
    let whole = &outline.sections[0];
    assert_eq!(whole.values("mode"), ["enforce"]);
    assert_eq!(whole.values("network.deny"), ["198.51.100.0/24", "203.0.113.0/24"]);
    assert_eq!(whole.values("network.allow"), ["10.20.0.0/16 a", "10.20.0.0/16 b"]);
    let rule = outline.rule("a").expect("rule a");
    assert_eq!(rule.values("hosts"), [".c.test", "a.test", "b.test"]);
    assert_eq!(rule.values("ports"), ["8443"]);
    assert_eq!(rule.values("methods"), ["GET", "POST"]);
    assert_eq!(rule.values("paths"), ["*"]);
    assert_eq!(rule.values("nothing"), [""; 0]);
    assert!(outline.rule("t").is_none(), "a credential is no rule");
    assert!(Policy::outline("version = 2").is_none());
}

#[test]
fn what_has_another_revision_has_another_outline() {
    let base = Policy::outline(BASE).expect("a good policy");
    for (from, to) in [
        ("ports = [443]", "ports = [444]"),
        ("[\"d.test\"]", "[\"d.test\", \"f.test\"]"),
        ("effect = \"deny\"\nhosts", "effect = \"deny\"\nports = [1]\nhosts"),
        ("Bearer {secret}", "Token {secret}"),
        ("\"198.51.100.0/24\"", "\"198.51.100.0/25\""),
    ] {
        assert!(BASE.contains(from), "{from}");
        let other = BASE.replace(from, to);
        assert_ne!(revision(&other), revision(BASE), "{from}");
        assert_ne!(Policy::outline(&other).expect("a good policy"), base, "{from}");
    }
}
