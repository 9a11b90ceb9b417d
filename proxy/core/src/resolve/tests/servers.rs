//! Several servers, and families that differ.

use super::*;

const GOOD: &str =
    r#"[{"q": "api.test", "answers": [{"type": "A", "data": "192.0.2.2", "ttl": 0}]}]"#;

fn code(code: &str) -> String {
    format!(
        r#"[{{"q": "api.test", "answers": [], "rcode": "{code}"}},
            {{"q": "api.test", "qtype": "AAAA", "answers": [], "rcode": "{code}"}}]"#
    )
}

#[tokio::test]
async fn a_server_without_an_answer_gives_the_next_one_its_turn() {
    for failing in ["SERVFAIL", "REFUSED"] {
        let (first, second) = (scripted(&code(failing)), scripted(GOOD));
        let servers = vec![cleartext(first.address()), cleartext(second.address())];
        let found = look_up(&resolver(servers, LONG), "api.test").await;
        assert_eq!(found, a("192.0.2.2"), "{failing}");
        let alone = resolver(vec![cleartext(first.address())], LONG);
        let found = look_up(&alone, "api.test").await;
        assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Code(_)))), "{found:?}");
    }
}

#[tokio::test]
async fn a_server_that_knows_is_not_outvoted() {
    let second = scripted(GOOD);
    for first in [
        code("NXDOMAIN"),
        r#"[{"q": "api.test", "answers": [{"type": "CNAME", "data": "api.test"}]}]"#.to_owned(),
    ] {
        let first = scripted(&first);
        let servers = vec![cleartext(first.address()), cleartext(second.address())];
        let found = look_up(&resolver(servers, LONG), "api.test").await;
        assert!(matches!(found, Err(ResolveError::NoSuchName | ResolveError::Answer(_))));
    }
    assert!(second.log().is_empty(), "{:?}", second.log());
}

#[tokio::test]
async fn a_silent_server_is_asked_last_for_a_while() {
    let (first, second) = (scripted(GOOD), scripted(GOOD));
    first.set_silent(true);
    let servers = vec![cleartext(first.address()), cleartext(second.address())];
    let resolver = resolver(servers, Duration::from_secs(3));
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    let before = first.log().len();
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    assert_eq!(first.log().len(), before);
    second.set_silent(true);
    first.set_silent(false);
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"), "and it may come back");
}

#[tokio::test]
async fn whoever_owns_a_name_does_not_choose_the_server() {
    let fails = r#"{"q": "evil.test", "rcode": "SERVFAIL", "answers": []},
                   {"q": "slow.test", "refuse": true},"#;
    let first = scripted(&GOOD.replacen('[', &format!("[{fails}"), 1));
    let second = scripted(&GOOD.replace("api.test", "*.test").replacen(
        '[',
        r#"[{"q": "evil.test", "answers": [{"type": "A", "data": "192.0.2.9"}]},"#,
        1,
    ));
    let servers = vec![cleartext(first.address()), cleartext(second.address())];
    let resolver = Arc::new(resolver(servers, Duration::from_secs(6)));
    assert_eq!(look_up(&resolver, "evil.test").await, a("192.0.2.9"));
    let slow = resolver.clone();
    let slow = tokio::spawn(async move { look_up(&slow, "slow.test").await });
    while !first.names().contains(&"slow.test".to_owned()) {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    while !second.names().contains(&"slow.test".to_owned()) {
        sleep(Duration::from_millis(5)).await;
    }
    slow.abort();
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    assert!(!second.names().contains(&"api.test".to_owned()));
}

#[tokio::test]
async fn a_family_that_fails_counts_as_empty_beside_one_that_answered() {
    let with = |aaaa: &str| {
        format!(
            r#"[{{"q": "api.test", "answers": [{{"type": "A", "data": "192.0.2.2"}}]}},
                {{"q": "api.test", "qtype": "AAAA", "answers": [], {aaaa}}}]"#
        )
    };
    for aaaa in [r#""drop": true"#, r#""rcode": "SERVFAIL""#, r#""rcode": "NXDOMAIN""#] {
        let server = scripted(&with(aaaa));
        let resolver = resolver(vec![cleartext(server.address())], Duration::from_secs(3));
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"), "{aaaa}");
    }
    let lies = r#""chain": 17, "final": "192.0.2.9""#;
    let server = scripted(&with(lies));
    let resolver = resolver(vec![cleartext(server.address())], LONG);
    let found = look_up(&resolver, "api.test").await;
    assert!(matches!(found, Err(ResolveError::Answer(_))), "{found:?}");
}

#[tokio::test]
async fn no_address_at_all_is_told_from_no_answer() {
    let server = scripted(r#"[{"q": "api.test", "answers": []}]"#);
    let empty = resolver(vec![cleartext(server.address())], LONG);
    assert_eq!(look_up(&empty, "api.test").await, Err(ResolveError::NoAddress));
    server.set_silent(true);
    let silent = resolver(vec![cleartext(server.address())], TIMEOUT);
    assert_eq!(look_up(&silent, "api.test").await, Err(ResolveError::Timeout));
}
