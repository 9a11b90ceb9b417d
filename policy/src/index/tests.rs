use super::*;

fn name(text: &str) -> HostName {
    HostName::from_wire(text).unwrap()
}

fn rules(index: &Index, host: &str) -> Vec<RuleAt> {
    let mut found = Vec::new();
    index.visit(&Host::from_wire(host).unwrap(), |list| found.extend(list));
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn each_pattern_finds_its_hosts_and_stops_at_label_boundaries() {
    let mut builder = IndexBuilder::default();
    let exact = |text: &str| HostPattern::Exact(Host::from_wire(text).unwrap());
    builder.add(&exact("api.example.com"), 0);
    builder.add(&HostPattern::AtOrBelow(name("example.org")), 1);
    builder.add(&HostPattern::Below(name("example.net")), 2);
    builder.add(&exact("192.0.2.1"), 3);
    builder.add(&HostPattern::AnyName, 4);
    builder.add(&HostPattern::Anything, 5);
    let index = builder.build();
    let check =
        |host: &str, expected: &[RuleAt]| assert_eq!(rules(&index, host), expected, "{host}");
    check("api.example.com", &[0, 4, 5]);
    check("x.api.example.com", &[4, 5]);
    check("example.com", &[4, 5]);
    check("example.org", &[1, 4, 5]);
    check("a.b.example.org", &[1, 4, 5]);
    check("notexample.org", &[4, 5]);
    check("example.org.test", &[4, 5]);
    check("example.net", &[4, 5]);
    check("a.example.net", &[2, 4, 5]);
    check("192.0.2.1", &[3, 5]);
    check("192.0.2.2", &[5]);
    check("[2001:db8::1]", &[5]);
}

#[test]
fn every_name_of_a_large_table_is_found_and_no_other() {
    let host = |n: usize| match n % 3 {
        0 => format!("h{n}.example.com"),
        1 => format!("{n}.{}.example.org", "long".repeat(12)),
        _ => format!("{n}.{}.{}.test", "x".repeat(60), "y".repeat(50)),
    };
    let mut builder = IndexBuilder::default();
    for n in 0..5000 {
        builder.add(&HostPattern::Exact(Host::Name(name(&host(n)))), (n % 7) as RuleAt);
    }
    let index = builder.build();
    for n in 0..5000 {
        assert_eq!(rules(&index, &host(n)), [(n % 7) as RuleAt]);
        assert!(rules(&index, &host(n + 5000)).is_empty());
    }
    let mut met = 0;
    index.combinations(|_, _| met += 1);
    assert_eq!(met, 5001);
}

#[test]
fn equal_lists_are_kept_once() {
    let mut builder = IndexBuilder::default();
    for n in 0..100 {
        let host = HostPattern::AtOrBelow(name(&format!("h{n}.test")));
        builder.add(&host, 3);
        builder.add(&host, 3);
        builder.add(&host, 4);
    }
    let index = builder.build();
    // The other list is the empty one, of the rules for any host.
    assert_eq!(index.lists.ends.len(), 2);
    assert_eq!(index.lists.rules, [3, 4]);
}
