//! `egret import`: what is written is a policy that passes its check.

use super::place::{Place, mode};

const ACL: &str = "version: v1\nservices:\n  - name: crawler\n    project: search\n    \
                   action: report\n    allowed_domains: ['*.example.com']\n";
const SQUID: &str = "acl sites dstdomain .example.com\nacl night time 20:00-23:00\n\
                     http_access allow sites\nhttp_access allow night\nhttp_access deny all\n";

#[test]
fn what_is_made_passes_its_check_and_says_what_it_left_out() {
    let place = Place::new();
    place.write("acl.yaml", ACL);
    place.write("squid.conf", SQUID);
    for (from, file, labels) in [
        ("smokescreen", "acl.yaml", &["--label", "service=crawler"][..]),
        ("squid", "squid.conf", &[]),
    ] {
        let printed = place.run(&["import", from, file]).ends_with(0);
        let said = format!("not taken over of `{file}`: 1\n");
        assert!(printed.stderr.contains(&said), "{}", printed.stderr);
        let policy = format!("{from}.toml");
        let written = place.run(&["import", from, file, "-o", &policy]).ends_with(0);
        assert_eq!((written.stdout.as_str(), place.read(&policy)), ("", printed.stdout));
        assert_eq!(mode(&place.path(&policy)) & 0o022, 0, "others may write it");
        place.run(&["check", &policy]).ends_with(0);
        let explained = |url: &str| {
            let line = ["explain", "GET", url, "--policy", &policy];
            place.run(&[&line[..], labels].concat())
        };
        explained("https://a.example.com/").ends_with(0);
        explained("https://example.org/").ends_with(3);
    }
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    place.write("squid.conf", SQUID);
    place.write("policy.toml", "mine");
    let line = ["import", "squid", "squid.conf", "-o", "policy.toml"];
    let refused = place.run(&line).ends_with(1).says("`policy.toml` is already there");
    assert!(!refused.stderr.contains("egret init"), "{}", refused.stderr);
    assert_eq!(place.read("policy.toml"), "mine");
}

#[test]
fn what_cannot_be_taken_over_is_78_with_its_line() {
    let place = Place::new();
    place.write("squid.conf", "acl a dstdomain a.example\ninclude other.conf\n");
    place
        .run(&["import", "squid", "squid.conf"])
        .ends_with(78)
        .says("squid.conf:2: what is included");
    place.write("acl.yaml", "version: v1\nservices: [\n");
    place.run(&["import", "smokescreen", "acl.yaml"]).ends_with(78).says("acl.yaml:3: ");
    let absent = place.run(&["import", "smokescreen", "absent"]).ends_with(78);
    assert!(!absent.stderr.contains("egret init"), "{}", absent.stderr);
    place.run(&["import", "nginx", "squid.conf"]).ends_with(2);
    // What is only said in comments is bounded as well.
    place.write("full.conf", &"x\n".repeat(1 << 17));
    place.run(&["import", "squid", "full.conf"]).ends_with(78).says("full.conf:65537: with this");
    place.write("long.conf", &"#\n".repeat(5 << 20));
    place.run(&["import", "squid", "long.conf"]).ends_with(78).says("longer than");
}
