//! More names than any server answers.

use super::*;

/// Nothing below `flood.test` is ever answered; all else is.
const SCRIPT: &str = r#"[{"q": "*.flood.test", "refuse": true},
    {"q": "*.test", "answers": [{"type": "A", "data": "192.0.2.2", "ttl": 60}]}]"#;

async fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < deadline, "it never came to that");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_flood_below_one_domain_leaves_room_for_all_other_names() {
    let server = scripted(SCRIPT);
    let resolver = Arc::new(resolver(vec![cleartext(server.address())], LONG));
    assert_eq!(look_up(&resolver, "kept.flood2.test").await, a("192.0.2.2"));
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..flights::MOST_OF_A_DOMAIN {
        let resolver = resolver.clone();
        flood.spawn(async move { look_up(&resolver, &format!("x{n}.y.flood.test")).await });
    }
    let flooded = flights::MOST_OF_A_DOMAIN + 1;
    until(|| server.names().len() == flooded).await;

    assert_eq!(look_up(&resolver, "one.more.flood.test").await, Err(ResolveError::Crowded));
    assert_eq!(server.names().len(), flooded, "and nothing was asked for it");
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    assert_eq!(look_up(&resolver, "kept.flood2.test").await, a("192.0.2.2"));

    flood.abort_all();
    while flood.join_next().await.is_some() {}
    server.reset(
        Zone::default(),
        serde_json::from_str(
            r#"[{"q": "*.test", "answers": [{"type": "A", "data": "192.0.2.2"}]}]"#,
        )
        .unwrap(),
    );
    assert_eq!(look_up(&resolver, "x0.flood.test").await, a("192.0.2.2"), "room is given back");
}

#[tokio::test]
async fn a_flood_of_one_worker_is_refused_to_that_worker_alone() {
    let server = scripted(r#"[{"q": "*.test", "refuse": true}]"#);
    let resolver = Arc::new(resolver(vec![cleartext(server.address())], LONG));
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..flights::MOST / 2 {
        let resolver = resolver.clone();
        flood.spawn(async move { look_up(&resolver, &format!("x.d{n}.test")).await });
    }
    until(|| server.names().len() == flights::MOST / 2).await;

    let crowded = Err(ResolveError::CrowdedBy(worker("one")));
    assert_eq!(look_up(&resolver, "api.test").await, crowded);
    // Both ask for the same name; the one who has no room does not take it from the other.
    server.reset(
        Zone::default(),
        serde_json::from_str(
            r#"[{"q": "*.test", "answers": [{"type": "A", "data": "192.0.2.2"}]}]"#,
        )
        .unwrap(),
    );
    let (refused, served) =
        tokio::join!(look_up(&resolver, "api.test"), look_up_for("two", &resolver, "api.test"));
    assert_eq!(refused, crowded);
    assert_eq!(served, a("192.0.2.2"));
}

#[tokio::test]
async fn one_look_up_serves_a_crowd_and_outlives_who_began_it() {
    let script = r#"[{"q": "api.test", "delay_ms": 200, "answers": [{"type": "A", "data": "192.0.2.2", "ttl": 0}]}]"#;
    let server = scripted(script);
    let resolver = Arc::new(resolver(vec![cleartext(server.address())], LONG));
    let began = resolver.clone();
    let first = tokio::spawn(async move { look_up(&began, "api.test").await });
    until(|| server.log().len() == 2).await;
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let resolver = resolver.clone();
        crowd.spawn(async move { look_up(&resolver, "api.test").await });
    }
    first.abort();
    while let Some(found) = crowd.join_next().await {
        assert_eq!(found.unwrap(), a("192.0.2.2"));
    }
    assert!(server.log().len() <= 4, "asked once by who began, once for all others");
}
