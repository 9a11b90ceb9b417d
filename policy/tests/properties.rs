//! What holds for every policy and every request, tried on generated ones.

#![allow(clippy::unwrap_used)]

use egret_policy::{
    Answers, Ask, Authority, Denial, Labels, Loaded, Method, OwnAddresses, Policy, Question,
    Reason, Sni, Target, Timestamp, TlsClaim, TunnelAsk, TunnelGrant, Verdict, Worker, WorkerId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const NAMES: [&str; 6] = ["test", "a.test", "b.test", "x.a.test", "y.x.a.test", "other.example"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATHS: [&str; 5] = ["/", "/v1", "/v1/x", "/admin", "/admin/x"];

fn list(key: &'static str, from: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        subsequence(from, 1..=from.len()).prop_map(move |items| format!("{key} = {items:?}\n")),
    ]
}

/// A rule of plain http, so that methods and paths may stand in all of them.
fn rule(effect: &'static str) -> impl Strategy<Value = String> {
    let hosts = subsequence(&NAMES[..], 1..=2);
    let suffixes = subsequence(&[".test", "a.test", ".a.test", "example"][..], 0..=2);
    let workers =
        select(&["", "workers = { ids = [\"w\"] }\n", "workers = { ids = [\"v\"] }\n"][..]);
    let parts = (
        hosts,
        suffixes,
        workers,
        list("methods", &METHODS),
        list("paths", &["/v1/**", "/admin", "/*"]),
    );
    parts.prop_map(move |(hosts, suffixes, workers, methods, paths)| {
        let suffixes = match suffixes.is_empty() {
            true => String::new(),
            false => format!("suffixes = {suffixes:?}\n"),
        };
        format!("effect = \"{effect}\"\nhosts = {hosts:?}\n{suffixes}{workers}{methods}{paths}")
    })
}

fn rules() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof![3 => rule("allow"), 1 => rule("deny")], 0..6)
}

fn text(mode: &str, rules: &[String]) -> String {
    let mut text =
        format!("version = 1\n[defaults]\nmode = \"{mode}\"\nschemes = [\"http\"]\nports = [80]\n");
    for (at, rule) in rules.iter().enumerate() {
        text += &format!("[[rule]]\nid = \"r{at}\"\n{rule}");
    }
    text
}

fn load(mode: &str, rules: &[String]) -> Policy {
    let text = text(mode, rules);
    let Loaded { policy, problems, .. } = Policy::load(&text);
    policy.unwrap_or_else(|| panic!("{problems:?}\n{text}"))
}

fn worker() -> Worker {
    Worker { id: WorkerId::parse("w").unwrap(), labels: Labels::default() }
}

fn decide(policy: &Policy, method: &str, url: &str) -> Result<(), Reason> {
    let (worker, target) = (worker(), Target::absolute(url).unwrap());
    let ask = Ask { worker: &worker, method: Method::parse(method).unwrap(), target: &target };
    policy.decide(&ask, NOW).map(drop).map_err(|denial| denial.reason)
}

/// Rules for tunnels: nothing in them needs a request to be seen.
fn tunnel_rules() -> impl Strategy<Value = String> {
    let rule = (
        select(&["allow", "allow", "allow", "deny"][..]),
        subsequence(&NAMES[..], 1..=2),
        subsequence(&["test", ".a.test"][..], 0..=1),
        select(&["[443]", "[443, 8443]", "[8443]"][..]),
        select(&["[\"https\"]", "[\"https\", \"http\"]", "[\"http\"]", "[]"][..]),
        select(&["", "expires = 1970-01-01T00:00:10Z\n", "expires = 1970-01-01T00:00:20Z\n"][..]),
        select(&["", "sni = \"optional\"\n"][..]),
    );
    vec(rule, 0..6).prop_map(|rules| {
        let mut text = String::new();
        for (at, (effect, hosts, suffixes, ports, schemes, expires, sni)) in
            rules.into_iter().enumerate()
        {
            text +=
                &format!("[[rule]]\nid = \"r{at}\"\neffect = \"{effect}\"\nhosts = {hosts:?}\n");
            text += &format!("ports = {ports}\n");
            match effect {
                "allow" => {
                    text +=
                        &format!("suffixes = {suffixes:?}\nschemes = {schemes}\n{expires}{sni}");
                }
                _ if schemes != "[]" => text += &format!("schemes = {schemes}\n"),
                _ => {}
            }
        }
        text
    })
}

fn load_tunnels(mode: &str, rules: &str) -> Policy {
    let text = format!("version = 1\n[defaults]\nmode = \"{mode}\"\n{rules}");
    let Loaded { policy, problems, .. } = Policy::load(&text);
    policy.unwrap_or_else(|| panic!("{problems:?}\n{text}"))
}

fn tunnel(policy: &Policy, authority: &str, now: Timestamp) -> Result<TunnelGrant, Denial> {
    let authority = Authority::connect(authority).unwrap();
    let permit =
        policy.decide_tunnel(&TunnelAsk { worker: &worker(), authority: &authority }, now)?;
    let answers = Answers { addresses: vec!["140.82.112.6".parse().unwrap()], aliases: vec![] };
    let pinned = permit.pin(&answers, &OwnAddresses::default())?;
    let first = pinned.addresses()[0];
    pinned.reached(first)
}

fn requests() -> impl Iterator<Item = (&'static str, String)> {
    METHODS.into_iter().flat_map(|method| {
        NAMES.into_iter().flat_map(move |name| {
            PATHS.into_iter().map(move |path| (method, format!("http://{name}{path}")))
        })
    })
}

proptest! {
    #[test]
    fn adding_a_deny_never_allows_more(rules in rules(), deny in rule("deny"), at in 0..7usize) {
        for mode in ["enforce", "report"] {
            let before = load(mode, &rules);
            let mut more = rules.clone();
            more.insert(at.min(rules.len()), deny.clone());
            let after = load(mode, &more);
            for (method, url) in requests() {
                let allowed_after = decide(&after, method, &url).is_ok();
                let allowed_before = decide(&before, method, &url).is_ok();
                prop_assert!(!allowed_after || allowed_before, "{} {}", method, url);
            }
        }
    }

    #[test]
    fn removing_an_allow_never_allows_more(rules in rules(), at in 0..6usize) {
        prop_assume!(at < rules.len() && rules[at].starts_with("effect = \"allow\""));
        let mut fewer = rules.clone();
        fewer.remove(at);
        let (before, after) = (load("enforce", &rules), load("enforce", &fewer));
        for (method, url) in requests() {
            // Fewer paths may make a host less strict: that a path has no single meaning is then
            // no longer asked. None of these paths is of that kind.
            prop_assert!(decide(&after, method, &url).is_err() || decide(&before, method, &url).is_ok());
        }
    }

    #[test]
    fn report_mode_lets_through_only_what_no_rule_matched(rules in rules()) {
        let (enforce, report) = (load("enforce", &rules), load("report", &rules));
        for (method, url) in requests() {
            let denied = decide(&enforce, method, &url);
            let reported = decide(&report, method, &url);
            let explicit = matches!(denied, Err(Reason::RuleDenied));
            prop_assert_eq!(reported.is_err(), explicit, "{} {}", method, url);
        }
    }

    #[test]
    fn the_same_text_has_the_same_revision_and_another_rule_another(rules in rules(), more in rule("allow")) {
        let policy = load("enforce", &rules);
        prop_assert_eq!(policy.revision(), load("enforce", &rules).revision());
        prop_assert_ne!(policy.revision(), load("report", &rules).revision());
        let longer = [&rules[..], &[more]].concat();
        prop_assert_ne!(policy.revision(), load("enforce", &longer).revision());
    }

    #[test]
    fn explaining_says_what_deciding_does(rules in rules()) {
        let (policy, worker) = (load("enforce", &rules), worker());
        for (method, url) in requests() {
            let question = Question { worker: &worker, method, url: &url, addresses: &[] };
            let explained = policy.explain(&question, NOW);
            let reason = decide(&policy, method, &url).err().unwrap_or(Reason::Allowed);
            prop_assert_eq!(explained.reason, reason);
        }
    }

    #[test]
    fn a_tunnel_goes_on_as_a_new_one_would(rules in tunnel_rules()) {
        for mode in ["enforce", "report"] {
            let policy = load_tunnels(mode, &rules);
            for name in NAMES {
                let authority = format!("{name}:443");
                let Ok(opened) = tunnel(&policy, &authority, NOW) else { continue };
                for (second, sni) in [(0, true), (10, true), (20, true), (10, false)] {
                    let now = Timestamp::from_second(second).unwrap();
                    let sni = if sni { Sni::Name(name) } else { Sni::Absent };
                    let select = |grant: &TunnelGrant| {
                        let passage = grant.select_tls(TlsClaim { sni, ech: false }, now)?;
                        // The reason of what is only reported stays that of the CONNECT.
                        let allowed = passage.verdict() == Verdict::Allow;
                        Ok::<_, Denial>((passage.rule().cloned(), allowed))
                    };
                    let anew = tunnel(&policy, &authority, now).and_then(|grant| select(&grant));
                    prop_assert_eq!(select(&opened).ok(), anew.ok(), "{} {}", name, second);
                }
            }
        }
    }

    #[test]
    fn report_mode_gives_the_reason_that_enforcing_would(rules in tunnel_rules()) {
        let (enforce, report) = (load_tunnels("enforce", &rules), load_tunnels("report", &rules));
        let worker = worker();
        for name in NAMES {
            for url in [format!("https://{name}/"), format!("tcp://{name}:443")] {
                let question = Question { worker: &worker, method: "GET", url: &url, addresses: &[] };
                let explain = |policy: &Policy| policy.explain(&question, NOW);
                let (enforce, report) = (explain(&enforce), explain(&report));
                prop_assert_eq!(enforce.reason, report.reason, "{}", url);
                prop_assert_eq!(enforce.rule, report.rule, "{}", url);
            }
        }
    }

    #[test]
    fn what_no_rule_names_is_never_allowed(rules in rules(), name in "[a-z]{1,12}\\.[a-z]{2,6}") {
        prop_assume!(!name.ends_with(".test") && !name.ends_with(".example"));
        let policy = load("enforce", &rules);
        let outcome = decide(&policy, "GET", &format!("http://{name}/"));
        prop_assert!(matches!(outcome, Err(Reason::HostNotAllowed)));
    }

    #[test]
    fn loading_never_panics_on_arbitrary_text(text in "\\PC*") {
        prop_assert!(Policy::load(&text).policy.is_none() || text.contains("version"));
    }

    #[test]
    fn loading_never_panics_on_nearly_valid_text(
        rules in rules(),
        cut in 0..2000usize,
        junk in select(&["\"", "]", "[", "{", "=", "\n", "\\", "#", "\u{0}", "\u{e9}", "= 1\n", "''"][..]),
    ) {
        let mut text = text("enforce", &rules);
        let at = text.floor_char_boundary(cut.min(text.len()));
        text.insert_str(at, junk);
        let Loaded { policy, problems, .. } = Policy::load(&text);
        prop_assert_eq!(policy.is_none(), !problems.is_empty());
        for problem in problems {
            prop_assert!(problem.span.end <= text.len() && problem.line >= 1 && problem.column >= 1);
        }
    }

    #[test]
    fn questions_never_panic(rules in rules(), method in "\\PC{0,8}", url in "(https?|tcp|ftp)://\\PC{0,20}") {
        let (policy, worker) = (load("enforce", &rules), worker());
        let question = Question { worker: &worker, method: &method, url: &url, addresses: &[] };
        policy.explain(&question, NOW);
    }
}
