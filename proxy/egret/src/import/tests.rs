//! What is allowed under the policy that was made, next to what is not.

use egret_policy::{Labels, Question, Timestamp, Worker, WorkerId};

use super::*;

mod model;

type Translate = fn(&str, &mut Page) -> Result<(), Refused>;

/// Who asks: an id and labels.
type Who<'a> = (&'a str, &'a [(&'a str, &'a str)]);

const NOBODY: Who<'_> = ("nobody", &[]);

/// Returns the text that is made; it loads.
#[track_caller]
fn made(translate: Translate, text: &str) -> String {
    let mut page = Page::new("test");
    if let Err(Refused { line, problem }) = translate(text, &mut page) {
        panic!("line {line}: {problem}\n{text}");
    }
    let text = page.written();
    let Loaded { problems, .. } = Policy::load(&text);
    assert!(problems.is_empty(), "{problems:?}\n{text}");
    text
}

#[track_caller]
fn refused(translate: Translate, text: &str) -> (usize, String) {
    let Err(Refused { line, problem }) = translate(text, &mut Page::new("test")) else {
        panic!("taken: {text}");
    };
    (line, problem)
}

fn is_allowed(policy: &Policy, (id, labels): Who<'_>, method: &str, url: &str) -> bool {
    let id = WorkerId::parse(id).unwrap();
    let worker = Worker { id, labels: Labels::from_iter(labels.iter().copied()) };
    let question = Question { worker: &worker, method, url, addresses: &[] };
    policy.explain(&question, Timestamp::UNIX_EPOCH).verdict == "allow"
}

#[track_caller]
fn check(policy: &str, who: Who<'_>, allowed: &[&str], denied: &[&str]) {
    let loaded = Policy::load(policy).policy.unwrap();
    for (urls, expected) in [(allowed, true), (denied, false)] {
        for url in urls {
            let (method, url) = url.split_once(' ').unwrap_or(("GET", url));
            assert_eq!(is_allowed(&loaded, who, method, url), expected, "{method} {url}\n{policy}");
        }
    }
}

const ACL: &str = "\
---
version: v1
services:
  - name: crawler
    project: search
    action: enforce
    allowed_domains: &shared
      - api.example.com
      - '*.example.net'
      - no host
  - name: old
    project: search
    action: report
    allowed_domains: *shared
  - name: free
    project: search
    action: open
default:
  project: security
  action: enforce
  allowed_domains: [default.example.com]
global_allow_list:
  - everywhere.example.com
global_deny_list:
  - '*.bad.example.net'
";

#[test]
fn a_service_of_smokescreen_reaches_its_domains_and_no_other() {
    let policy = made(smokescreen::translate, ACL);
    let everywhere = ["http://everywhere.example.com/", "https://everywhere.example.com/"];
    let shared = ["https://api.example.com/", "https://a.b.example.net/", everywhere[0]];
    let never = [
        "https://example.net/",
        "https://apiXexample.com/",
        "https://x.bad.example.net/",
        "https://default.example.com/",
        "https://api.example.com:8443/",
    ];
    check(&policy, ("c", &[("service", "crawler")]), &shared, &never);
    check(&policy, ("c", &[("service", "old")]), &shared, &never);
    let free = ["https://default.example.com/", "https://example.org/", everywhere[1]];
    check(&policy, ("f", &[("service", "free")]), &free, &never[2..3]);
    let default = [everywhere[0], "https://default.example.com/"];
    check(&policy, ("d", &[("service", "default")]), &default, &shared[..2]);
    // Who has no label is no service: it was not known to Smokescreen either.
    check(&policy, NOBODY, &[], &[&default[..], &shared[..]].concat());
    for said in ["`no host` is not a host", "in `report`", "line 10"] {
        assert!(policy.contains(said), "{said}\n{policy}");
    }
}

#[test]
fn a_default_of_smokescreen_that_is_open_is_left_out() {
    let open = "version: v1\ndefault: {name: d, project: p, action: open}\n";
    let policy = made(smokescreen::translate, open);
    check(&policy, ("d", &[("service", "d")]), &[], &["https://example.com/"]);
    assert!(policy.contains("not taken over, line 2: the default is `open`"), "{policy}");
}

#[test]
fn what_smokescreen_would_deny_is_not_lost_with_a_line_that_is_not_understood() {
    let check = |text: &str, expected_line, expected: &str| {
        let (line, problem) = refused(smokescreen::translate, text);
        assert!(line == expected_line && problem.contains(expected), "{line}: {problem}");
    };
    check("version: v1\nglobal_deny_list:\n  - good.example\n  - 'b*d'\n", 4, "`b*d`");
    check("version: v1\nglobal_deny_list: bad.example\n", 2, "no list");
    check("version: v2\n", 1, "only version v1");
    check("services: []\n", 1, "no `version: v1`");
    check("version: v1\nservices:\n  - project: p\n", 3, "no `name`");
    check("version: v1\nversion: v1\n", 2, "`version` is there twice");
    let merged = "<<: {global_deny_list: [bad.example]}";
    check(&format!("version: v1\n{merged}\n"), 2, "`<<` puts other keys in");
    check(&format!("version: v1\nservices:\n  - {merged}\n"), 3, "`<<` puts other keys in");
    check("version: v1\nGlobal_deny_list: [bad.example]\n", 2, "`Global_deny_list` is not under");
    let denied = "allowed_domains: [a.example]\n    denied_domains: [b.a.example]";
    let service = format!("version: v1\nservices:\n  - name: s\n    {denied}\n");
    check(&service, 5, "`denied_domains` of `s` is not understood");
    let default = format!("version: v1\ndefault:\n    {denied}\n");
    check(&default, 4, "`denied_domains` of `default` is not understood");
    check("", 1, "nothing in the file");
    check("- a\n", 1, "no table");
}

#[test]
fn a_short_text_does_not_become_a_large_one() {
    let mut text = "version: v1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
    }
    let (_, problem) = refused(smokescreen::translate, &text);
    assert!(problem.contains("aliases"), "{problem}");
    let (_, problem) = refused(smokescreen::translate, &"[".repeat(20));
    assert!(problem.contains("deeper"), "{problem}");
    refused(smokescreen::translate, &"[".repeat(100_000));
    let (_, problem) = refused(smokescreen::translate, "version: v1\na: &a [*a]\n");
    assert!(!problem.is_empty());
}

#[test]
fn a_list_that_is_named_again_and_again_is_too_much() {
    let hosts = |prefix: &str| -> String {
        (0..1000).map(|number| format!("{prefix}a{number}.example\n")).collect()
    };
    let squid = |lines: usize| {
        let allow = "http_access allow g\n".repeat(lines);
        format!("{}{allow}", hosts("acl g dstdomain "))
    };
    let smokescreen = |services: usize| {
        let names: String = (0..services).map(|n| format!("- {{name: s{n}}}\n")).collect();
        format!("version: v1\nglobal_allow_list:\n{}services:\n{names}", hosts("- "))
    };
    let few = made(squid::translate, &squid(2));
    check(&few, NOBODY, &["http://a999.example/"], &["http://a1000.example/"]);
    let (line, problem) = refused(squid::translate, &squid(10_000));
    assert!((1010..1030).contains(&line) && problem.contains("in parts"), "{line}: {problem}");
    made(smokescreen::translate, &smokescreen(2));
    let (line, problem) = refused(smokescreen::translate, &smokescreen(10_000));
    assert!((1050..1080).contains(&line) && problem.contains("in parts"), "{line}: {problem}");
    // Bounds of ports are compared with every allow, labels are written in each.
    let ports: String = (1..1000).map(|n| format!("acl p port {n}\n")).collect();
    let access = "http_access deny !p\nhttp_access allow p\n".repeat(1000);
    refused(squid::translate, &format!("{ports}{access}"));
    let labels: String =
        (0..1000).map(|n| format!("acl s{n} src 10.0.0.1\nhttp_access deny !s{n}\n")).collect();
    let allow = "http_access allow CONNECT\n".repeat(1000);
    refused(squid::translate, &format!("{labels}{allow}"));
    // What is only said counts as well.
    let mut page = Page::new("test");
    assert!(squid::translate(&"x\n".repeat(1 << 17), &mut page).is_ok());
    assert_eq!(page.full(), Some((1 << 16) + 1));
}

/// The file that comes with squid, with two lines of the operator's.
const SQUID: &str = "\
acl localnet src 0.0.0.1-0.255.255.255
acl localnet src 10.0.0.0/8             # RFC 1918
acl localnet src fc00::/7
acl SSL_ports port 443
acl Safe_ports port 80 21 443 1025-65535
acl allowed dstdomain .example.com \\
    api.example.net
acl banned dstdomain .bad.example.com
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localhost manager
http_access deny manager
http_access deny to_localhost
http_access deny banned
http_access allow localnet allowed
http_access deny all
http_access allow all
http_port 3128
";

#[test]
fn the_usual_squid_conf_keeps_its_sense() {
    let policy = made(squid::translate, SQUID);
    let allowed = ["http://example.com/", "https://a.example.com/", "https://api.example.net/"];
    let never = [
        "https://x.api.example.net/",
        "https://bad.example.com/",
        "http://x.bad.example.com/",
        "https://example.com:8443/",
        "http://example.com:8080/",
        "https://example.org/",
    ];
    check(&policy, ("w", &[("localnet", "yes")]), &allowed, &never);
    check(&policy, NOBODY, &[], &allowed);
    for said in [
        "Label `localnet = \"yes\"`: for workers whose `source` is in 0.0.0.1-0.255.255.255, \
         10.0.0.0/8, fc00::/7",
        "http_port (18)",
        "never reached, line 16",
        "egret has no cache manager",
    ] {
        assert!(policy.contains(said), "{said}\n{policy}");
    }
}

/// What the tests below allow, and what each keeps denied.
const WORSE: (&[&str], &[&str]) = (
    &["http://www.example.com/", "https://www.example.com/"],
    &["http://worse.example.com/", "https://worse.example.com/"],
);

#[test]
fn lines_are_put_together_as_squid_does_it() {
    let lists = "acl good dstdomain .example.com\nacl bad dstdomain worse.example.com\n";
    let access = "http_access deny bad\nhttp_access allow good\nhttp_access deny all\n";
    let continued = |values: &str| {
        format!("acl good dstdomain .example.com\nacl bad dstdomain {values}\n{access}")
    };
    for text in [
        format!("{lists}# see C:\\squid\\\n{access}"),
        format!("{lists}  # see C:\\squid\\\r\n{access}"),
        continued("evil.example.com \\\n# the second one\n  worse.example.com"),
        continued("evil.example.com \\\n\n \t\n  # more\\\nworse.example.com"),
        // The blanks that begin a line are not part of it, so this is one name.
        continued("wor\\\n   se.example.com"),
        continued("evil.example.com \\\r\nworse.example.com # and no other"),
    ] {
        let policy = made(squid::translate, &text);
        check(&policy, NOBODY, WORSE.0, WORSE.1);
    }
    // No break between words for squid, so it is no name, and what it would deny is not known.
    let policy = made(squid::translate, &continued("a.example.com\u{a0}worse.example.com"));
    check(&policy, NOBODY, &[], WORSE.1);
    // What follows a carriage return is not there for squid.
    let text = "acl good dstdomain a.example\rb.example\nhttp_access allow good\n";
    check(&made(squid::translate, text), NOBODY, &["http://a.example/"], &["http://b.example/"]);
    for text in [
        "acl a dstdomain a.example\nhttp_access allow a \\\n# the end\n".to_owned(),
        format!("acl a dstdomain a.example\n# {}http_access deny a\n", " ".repeat(5000)),
        "acl a dstdomain a.example\nhttp_access allow a\0b\n".to_owned(),
    ] {
        let (line, problem) = refused(squid::translate, &text);
        assert_eq!(line, 2, "{problem}");
    }
}

#[test]
fn a_list_of_squid_is_the_same_before_and_after_its_last_value() {
    let with = |text: &str| {
        let good = "acl good dstdomain .example.com\n";
        let end = "http_access allow good\nhttp_access deny all\n";
        made(squid::translate, &format!("{good}{text}{end}"))
    };
    for text in [
        "acl bad dstdomain a.example\nhttp_access deny bad\nacl bad dstdomain worse.example.com\n",
        "acl Bad dstdomain a.example\nacl bad dstdomain worse.example.com\nhttp_access deny BAD\n",
    ] {
        check(&with(text), NOBODY, WORSE.0, WORSE.1);
    }
    let risky = "acl risky port 8080\nhttp_access deny risky\nacl RISKY port 443\n";
    check(&with(risky), NOBODY, &WORSE.0[..1], &WORSE.0[1..]);
    // The first line that names a list comes before it: what squid does then, no rule says.
    let early = "http_access deny CONNECT early\nacl early port 8443\n";
    check(&with(early), NOBODY, &[], WORSE.0);
    for text in ["http_access deny\n", "http_access allow ${process_name}\n"] {
        assert_eq!(refused(squid::translate, text).0, 1);
    }
}

#[test]
fn a_user_whose_name_stands_for_everybody_here_is_left_out() {
    let with = |user: &str, rule: &str| {
        let lists = format!("acl u proxy_auth {user}\nacl good dstdomain .example.com\n");
        made(squid::translate, &format!("{lists}http_access {rule}\nhttp_access allow u good\n"))
    };
    let anonymous = ("anonymous", &[][..]);
    check(&with("alice", "allow good u"), ("alice", &[]), WORSE.0, &[]);
    for user in ["anonymous", "alice anonymous", "alice\nacl u proxy_auth anonymous"] {
        for rule in ["allow u good", "deny !u"] {
            check(&with(user, rule), anonymous, &[], WORSE.0);
        }
    }
}

#[test]
fn a_list_that_squid_has_already_is_no_longer_moot_with_values_of_ones_own() {
    let with = |values: &str| {
        let good = "acl good dstdomain .example.com\n";
        let end = "http_access deny manager\nhttp_access allow good\n";
        made(squid::translate, &format!("{good}{values}{end}"))
    };
    let stock =
        "acl manager url_regex -i ^cache_object:// +i ^https?://[^/]+/squid-internal-mgr/\n";
    for values in ["", stock, "acl manager proto cache_object\n"] {
        check(&with(values), NOBODY, WORSE.0, &[]);
    }
    let more = format!("{stock}acl Manager url_regex -i worse\n{stock}");
    for values in ["acl manager url_regex -i worse\n", "acl manager proto HTTP\n", &more] {
        check(&with(values), NOBODY, &[], WORSE.1);
    }
}

#[test]
fn what_squid_asks_for_besides_the_host_is_asked_for_here() {
    let lists = "acl a dstdomain a.example\nacl u proxy_auth alice bob\nacl r proxy_auth REQUIRED\n\
                 acl get method GET TRACE\nacl p port 8080\nacl day time 9:00-17:00\n\
                 acl re url_regex ^http://a\nacl net dst 93.184.216.0/24\nacl f dstdomain \"/x\"\n";
    let with = |rule: &str| made(squid::translate, &format!("{lists}http_access allow {rule}\n"));
    let (http, https) = ("http://a.example/", "https://a.example/");
    check(&with("a"), NOBODY, &[http, https], &["http://b.example/", "http://a.example:8080/"]);
    check(&with("a u"), ("alice", &[]), &[http, https], &[]);
    check(&with("a u"), ("carol", &[]), &[], &[http, https]);
    check(&with("a r"), ("carol", &[("r", "yes")]), &[http, https], &[]);
    check(&with("a r"), ("carol", &[]), &[], &[http, https]);
    check(&with("a get"), NOBODY, &[http], &["POST http://a.example/", https]);
    check(&with("a CONNECT"), NOBODY, &[https], &[http]);
    check(&with("a p"), NOBODY, &["http://a.example:8080/", "https://a.example:8080/"], &[https]);
    for rule in ["a day", "a re", "a net", "a f", "a !u", "a unknown", "all", "f", "!a"] {
        let policy = with(rule);
        check(&policy, ("alice", &[("r", "yes")]), &[], &[http, https]);
        assert!(policy.contains("not taken over, line 10"), "{rule}\n{policy}");
    }
}

#[test]
fn a_deny_of_squid_that_no_rule_says_takes_the_allows_after_it_along() {
    let lists = "acl a dstdomain a.example\nacl b dstdomain b.example\nacl day time 9:00-17:00\n";
    let policy = made(
        squid::translate,
        &format!("{lists}http_access allow a\nhttp_access deny day\nhttp_access allow b\n"),
    );
    check(&policy, NOBODY, &["https://a.example/"], &["https://b.example/"]);
    assert!(policy.contains("line 5 may deny some of it\n# [[rule]]"), "{policy}");
}

#[test]
fn a_directive_that_may_deny_puts_every_allow_in_doubt_wherever_it_stands() {
    let lists = "acl a dstdomain a.example\n";
    let allow = "http_access allow a\nhttp_access deny all\n";
    for (line, is_taken) in [
        ("http_reply_access allow all", true),
        ("http_port 3128", true),
        ("cache deny all", true),
        ("http_reply_access deny all", false),
        ("http_reply_access allow a", false),
        ("adapted_http_access deny a", false),
        ("url_rewrite_program /x", false),
        ("ssl_bump terminate a", false),
        ("adaptation_access service deny a", false),
        ("redirector_access deny a", false),
        ("icap_access class deny a", false),
        ("configuration_includes_quoted_values on", false),
        ("http_port 3128 accel", false),
        ("HTTP_ACCESS deny a", false),
        ("what_comes_next deny a", false),
    ] {
        for text in [format!("{lists}{line}\n{allow}"), format!("{lists}{allow}{line}\n")] {
            let policy = made(squid::translate, &text);
            let url = &["https://a.example/"][..];
            let (allowed, denied) = if is_taken { (url, &[][..]) } else { (&[][..], url) };
            check(&policy, NOBODY, allowed, denied);
            assert_eq!(policy.contains("may deny some of it\n# [[rule]]"), !is_taken, "{policy}");
        }
    }
}

#[test]
fn an_address_that_squid_denies_is_denied_to_every_name() {
    let policy = made(
        squid::translate,
        "acl d dst 93.184.216.34/255.255.255.0 2001:db8::/32\nacl a dstdomain a.example\n\
         http_access deny d\nhttp_access allow a\n",
    );
    assert!(policy.contains("deny = [\"93.184.216.0/24\", \"2001:db8::/32\"]"), "{policy}");
}

#[test]
fn what_may_hide_a_deny_refuses_the_file() {
    for (text, line, expected) in [
        ("\ninclude /etc/squid/conf.d/*.conf\n", 2, "write its lines"),
        ("if ${process_number} = 1\n", 1, "only sometimes"),
        ("http_access\n", 1, "`allow` or `deny`"),
        ("acl a\n", 1, "a name and a type"),
    ] {
        let (found, problem) = refused(squid::translate, text);
        assert!(found == line && problem.contains(expected), "{found}: {problem}");
    }
}

#[test]
fn nothing_of_the_file_gets_out_of_its_comment() {
    let policy = made(
        squid::translate,
        "acl a\u{7}b dstdomain x\u{1b}[2J.example\nhttp_access allow a\u{7}b\r\n\
         x\u{85}[[rule]] y\nhttp_access deny all\n",
    );
    assert!(!policy.contains(['\u{7}', '\u{1b}', '\u{85}', '\r']), "{policy:?}");
    let odd = "\"a\\n[[rule]]\\nid = 1\"";
    let domains = format!("[{{domain: {odd}, {odd}: 1}}]");
    let acl = format!("version: v1\nservices:\n  - {{name: a, allowed_domains_mitm: {domains}}}\n");
    assert!(!made(smokescreen::translate, &acl).contains("\n[[rule]]"));
    let acl = format!("version: v1\nservices:\n  - {{name: {odd}, {odd}: 1}}\n");
    assert!(!refused(smokescreen::translate, &acl).1.contains('\n'));
}
