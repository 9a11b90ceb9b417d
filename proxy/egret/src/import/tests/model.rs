//! Random squid.confs, against what squid would say: whatever the policy allows, squid allows.
//!
//! The model knows each list by what its values mean, and judges line by line; the first that
//! matches decides. A list that no rule can say is tried as holding and as not holding. How the
//! lists are written is random, too: over several lines, before and after their use, with comments
//! that look as if they went on. So are directives that deny besides `http_access`.

use super::*;

/// A value, and whether a request has it.
type Value = (&'static str, fn(&Request) -> bool);

/// A list: its name, its type, and its values.
type List = (&'static str, &'static str, &'static [Value]);

const LISTS: [List; 12] = [
    ("a", "dstdomain", &[("a.example", |asked| asked.host == "a.example")]),
    (
        "sites",
        "dstdomain",
        &[
            (".b.example", |asked| asked.host.ends_with("b.example")),
            ("a.example", |asked| asked.host == "a.example"),
        ],
    ),
    (
        "safe",
        "port",
        &[
            ("80", |asked| asked.port == 80),
            ("443", |asked| asked.port == 443),
            ("1025-65535", |asked| asked.port > 1024),
        ],
    ),
    ("ssl", "port", &[("443", |asked| asked.port == 443), ("8080", |asked| asked.port == 8080)]),
    ("web", "port", &[("80", |asked| asked.port == 80)]),
    ("CONNECT", "method", &[("CONNECT", |asked| asked.method == "CONNECT")]),
    ("get", "method", &[("GET", |asked| asked.method == "GET")]),
    ("net", "src", &[("10.0.0.0/8", |asked| asked.has("net"))]),
    ("user", "proxy_auth", &[("REQUIRED", |asked| asked.has("user"))]),
    (
        "named",
        "proxy_auth",
        &[
            ("alice", |asked| asked.id == "alice"),
            // Whoever shows no proof is no user of this name.
            ("anonymous", |_| false),
        ],
    ),
    ("day", "time", &[("9:00-17:00", |asked| asked.hidden)]),
    // What squid has itself never holds; what is added may.
    ("manager", "url_regex", &[("^cache_object://", |_| false), ("worse", |asked| asked.hidden)]),
];

/// Directives, and whether they may deny what `http_access` allows.
const OTHERS: [(&str, bool); 8] = [
    ("http_port 3128", false),
    ("cache deny all", false),
    ("http_reply_access allow all", false),
    ("adapted_http_access deny day", true),
    ("ssl_bump terminate day", true),
    ("adaptation_access service deny day", true),
    ("icap_access service deny day", true),
    ("redirector_access deny day", true),
];

/// What is no part of the file, wherever it stands.
const NOTHING: [&str; 5] = ["", "\n", "# see C:\\squid\\\n", "  # more \\\r\n", " \t\n"];

struct Request {
    id: &'static str,
    labels: &'static [(&'static str, &'static str)],
    method: &'static str,
    scheme: &'static str,
    host: &'static str,
    port: u16,
    /// What a policy knows nothing of.
    hidden: bool,
}

impl Request {
    fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|(name, _)| *name == label)
    }
}

fn requests() -> Vec<Request> {
    let labels: [&[(&str, &str)]; 4] =
        [&[], &[("net", "yes")], &[("user", "yes")], &[("net", "yes"), ("user", "yes")]];
    let mut requests = Vec::new();
    for id in ["alice", "bob", "anonymous"] {
        for labels in labels {
            for (scheme, method) in [("http", "GET"), ("http", "POST"), ("https", "CONNECT")] {
                for host in ["a.example", "b.example", "x.b.example", "c.example"] {
                    for port in [80, 443, 8080, 25] {
                        let hidden = false;
                        requests.push(Request { id, labels, method, scheme, host, port, hidden });
                    }
                }
            }
        }
    }
    requests
}

/// One line of `http_access`: whether it denies, and its conditions with their `!`.
type Access = (bool, Vec<(bool, usize)>);

/// A file, and what it means: how many values each list has, and the lines.
struct Case {
    text: String,
    values: Vec<usize>,
    lines: Vec<Access>,
    /// Whether another directive denies what is hidden.
    others_deny: bool,
}

impl Case {
    fn squid_allows(&self, asked: &Request) -> bool {
        if self.others_deny && asked.hidden {
            return false;
        }
        let holds = |(negated, list): &(bool, usize)| {
            let values = &LISTS[*list].2[..self.values[*list]];
            values.iter().any(|(_, has)| has(asked)) != *negated
        };
        let decides = self.lines.iter().find(|(_, conditions)| conditions.iter().all(holds));
        match (decides, self.lines.last()) {
            (Some((denies, _)), _) => !denies,
            (None, Some((denies, _))) => *denies,
            (None, None) => false,
        }
    }

    fn rolled(dice: &mut Dice) -> Self {
        let mut lines: Vec<Access> = (0..dice.below(6))
            .map(|_| {
                let conditions =
                    (0..dice.below(4)).map(|_| (dice.below(4) == 0, dice.below(LISTS.len())));
                let conditions = conditions.collect();
                (dice.below(2) == 0, conditions)
            })
            .collect();
        // What most files do, and what a lost value does most harm to: a deny, and an allow.
        if dice.below(4) != 0 {
            let long: Vec<_> = (0..LISTS.len()).filter(|list| LISTS[*list].2.len() > 1).collect();
            lines.insert(0, (true, vec![(false, long[dice.below(long.len())])]));
        }
        lines.extend([(false, vec![(false, 0)]), (false, vec![(false, 1)])]);
        if dice.below(2) == 0 {
            lines.push((true, Vec::new()));
        }
        let mut before = String::new();
        let mut after = String::new();
        let mut values = Vec::new();
        for (name, kind, all) in LISTS {
            // The first value is always there, so every list is.
            let count = if dice.below(4) == 0 { 1 } else { all.len() };
            values.push(count);
            before += &format!("acl {name} {kind} {}", all[0].0);
            let mut is_open = true;
            for (value, _) in &all[1..count] {
                let nothing = NOTHING[dice.below(NOTHING.len())];
                match (dice.below(3), is_open) {
                    (0, true) => before += &format!(" {value}"),
                    (1, true) => before += &format!(" \\\n{nothing}  {value}"),
                    (_, _) => {
                        is_open = false;
                        let name =
                            if dice.below(2) == 0 { name.to_owned() } else { name.to_uppercase() };
                        after += &format!("{nothing}acl {name} {kind} {value}\n");
                    }
                }
            }
            before.push('\n');
        }
        let mut others_deny = false;
        for at in [&mut before, &mut after] {
            if dice.below(4) == 0 {
                let (directive, denies) = OTHERS[dice.below(OTHERS.len())];
                *at += &format!("{directive}\n");
                others_deny |= denies;
            }
        }
        let mut access = String::new();
        for (denies, conditions) in &lines {
            access += NOTHING[dice.below(NOTHING.len())];
            access += if *denies { "http_access deny all" } else { "http_access allow all" };
            for (negated, list) in conditions {
                access += &format!(" {}{}", if *negated { "!" } else { "" }, LISTS[*list].0);
            }
            access.push('\n');
        }
        Self { text: format!("{before}{access}{after}"), values, lines, others_deny }
    }
}

/// A small generator: the seed is the number of the case, so a failure names it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn whatever_is_allowed_squid_allows() {
    let mut requests = requests();
    let mut allowed = 0;
    for seed in 0..CASES {
        let case = Case::rolled(&mut Dice(seed));
        let written = made(squid::translate, &case.text);
        let policy = Policy::load(&written).policy.unwrap();
        for asked in &mut requests {
            let Request { id, labels, method, scheme, host, port, .. } = *asked;
            let url = format!("{scheme}://{host}:{port}/");
            if is_allowed(&policy, (id, labels), method, &url) {
                allowed += 1;
                for hidden in [true, false] {
                    asked.hidden = hidden;
                    assert!(
                        case.squid_allows(asked),
                        "case {seed}: {method} {url} as {id} {labels:?}\n{}\n{written}",
                        case.text
                    );
                }
            }
        }
    }
    // A translation that allows nothing would pass as well.
    assert!(allowed > CASES, "{allowed}");
}

const CASES: u64 = 150;
