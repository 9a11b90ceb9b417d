//! Random squid.confs, against what squid would say: whatever the policy allows, squid allows.
//!
//! The model knows each list by what it means, and judges line by line; the first that matches
//! decides. A list that no rule can say is tried as holding and as not holding.

use super::*;

/// A list: its line, and whether it holds for a request.
type List = (&'static str, fn(&Request) -> bool);

const LISTS: [(&str, List); 11] = [
    ("a", ("dstdomain a.example", |asked| asked.host == "a.example")),
    ("b", ("dstdomain .b.example", |asked| asked.host.ends_with("b.example"))),
    ("safe", ("port 80 443 1025-65535", |asked| [80, 443, 8080].contains(&asked.port))),
    ("ssl", ("port 443", |asked| asked.port == 443)),
    ("web", ("port 80", |asked| asked.port == 80)),
    ("CONNECT", ("method CONNECT", |asked| asked.method == "CONNECT")),
    ("get", ("method GET", |asked| asked.method == "GET")),
    ("net", ("src 10.0.0.0/8", |asked| asked.labels.iter().any(|(name, _)| *name == "net"))),
    ("user", ("proxy_auth REQUIRED", |asked| asked.labels.iter().any(|(name, _)| *name == "user"))),
    ("alice", ("proxy_auth alice", |asked| asked.id == "alice")),
    ("day", ("time 9:00-17:00", |asked| asked.day)),
];

struct Request {
    id: &'static str,
    labels: &'static [(&'static str, &'static str)],
    method: &'static str,
    scheme: &'static str,
    host: &'static str,
    port: u16,
    day: bool,
}

fn requests() -> Vec<Request> {
    let labels: [&[(&str, &str)]; 4] =
        [&[], &[("net", "yes")], &[("user", "yes")], &[("net", "yes"), ("user", "yes")]];
    let mut requests = Vec::new();
    for id in ["alice", "bob"] {
        for labels in labels {
            for (scheme, method) in [("http", "GET"), ("http", "POST"), ("https", "CONNECT")] {
                for host in ["a.example", "b.example", "x.b.example", "c.example"] {
                    for port in [80, 443, 8080, 25] {
                        requests.push(Request {
                            id,
                            labels,
                            method,
                            scheme,
                            host,
                            port,
                            day: false,
                        });
                    }
                }
            }
        }
    }
    requests
}

/// One line of `http_access`: whether it denies, and its conditions with their `!`.
type Access = (bool, Vec<(bool, usize)>);

fn squid_allows(lines: &[Access], asked: &Request) -> bool {
    let holds = |(negated, list): &(bool, usize)| (LISTS[*list].1.1)(asked) != *negated;
    let decides = lines.iter().find(|(_, conditions)| conditions.iter().all(holds));
    match (decides, lines.last()) {
        (Some((denies, _)), _) => !denies,
        (None, Some((denies, _))) => *denies,
        (None, None) => false,
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
        let mut dice = Dice(seed);
        let lines: Vec<Access> = (0..1 + dice.below(6))
            .map(|_| {
                let conditions =
                    (0..dice.below(4)).map(|_| (dice.below(4) == 0, dice.below(LISTS.len())));
                let conditions = conditions.collect();
                (dice.below(2) == 0, conditions)
            })
            .collect();
        let mut text: String =
            LISTS.iter().map(|(name, (list, _))| format!("acl {name} {list}\n")).collect();
        for (denies, conditions) in &lines {
            text += if *denies { "http_access deny all" } else { "http_access allow all" };
            for (negated, list) in conditions {
                text += &format!(" {}{}", if *negated { "!" } else { "" }, LISTS[*list].0);
            }
            text.push('\n');
        }
        let written = made(squid::translate, &text);
        let policy = Policy::load(&written).policy.unwrap();
        for asked in &mut requests {
            let Request { id, labels, method, scheme, host, port, .. } = *asked;
            let url = format!("{scheme}://{host}:{port}/");
            if is_allowed(&policy, (id, labels), method, &url) {
                allowed += 1;
                for day in [true, false] {
                    asked.day = day;
                    assert!(
                        squid_allows(&lines, asked),
                        "case {seed}: {method} {url} as {id} {labels:?}\n{text}\n{written}"
                    );
                }
            }
        }
    }
    // A translation that allows nothing would pass as well.
    assert!(allowed > CASES, "{allowed}");
}

const CASES: u64 = 100;
