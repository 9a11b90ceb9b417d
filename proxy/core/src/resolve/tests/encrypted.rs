//! Servers behind TLS and HTTPS: verified or not asked, and connections that fail.

use egret_testkit::{
    dns::{
        Protocol,
        secure::{Manner, SecureDns},
    },
    pki::{Flaw, Pki},
};

use super::*;

const SCRIPT: &str = r#"[{"q": "slow.test", "refuse": true},
    {"q": "*.test", "answers": [{"type": "A", "data": "192.0.2.2", "ttl": 0}]},
    {"q": "api.test", "answers": [{"type": "A", "data": "192.0.2.2", "ttl": 0}]}]"#;

/// A good server that carries `dns.test` and its address, and who vouches for it.
struct Scene {
    pki: Pki,
    dns: Dns,
    secure: SecureDns,
}

impl Scene {
    fn new() -> Self {
        let (pki, dns) = (Pki::new().unwrap(), scripted(SCRIPT));
        let good = pki.origin(&["dns.test", "127.0.0.1"], Flaw::None).unwrap();
        let secure = SecureDns::start(&dns, "127.0.0.1".parse().unwrap(), good).unwrap();
        Self { pki, dns, secure }
    }

    fn tls(&self, verified: &str) -> NameServer {
        let transport = Transport::Tls { verified: name(verified) };
        NameServer { address: self.secure.tls(), transport }
    }

    fn https(&self, verified: &str) -> NameServer {
        let path = "/dns-query".to_owned();
        let transport = Transport::Https { verified: name(verified), path };
        NameServer { address: self.secure.https(), transport }
    }

    fn both(&self) -> [NameServer; 2] {
        [self.tls("dns.test"), self.https("dns.test")]
    }

    fn resolver(&self, servers: Vec<NameServer>, timeout: Duration) -> Arc<Resolver> {
        let roots = Roots::exactly([self.pki.root()]).unwrap();
        Arc::new(resolver_trusting(roots, servers, timeout))
    }

    fn asked(&self) -> Vec<Protocol> {
        self.dns.log().iter().map(|query| query.protocol).collect()
    }
}

fn is_unverified(found: &Result<Vec<String>, ResolveError>) -> bool {
    matches!(found, Err(ResolveError::Failed(ServerFault::Certificate(_))))
}

#[tokio::test]
async fn a_verified_server_is_asked_over_its_one_protocol() {
    let scene = Scene::new();
    for (server, protocol) in [
        (scene.tls("dns.test"), Protocol::Tls),
        (scene.tls("127.0.0.1"), Protocol::Tls),
        (scene.https("dns.test"), Protocol::Https),
        (scene.https("127.0.0.1"), Protocol::Https),
    ] {
        scene.dns.reset(Zone::default(), serde_json::from_str(SCRIPT).unwrap());
        let resolver = scene.resolver(vec![server], LONG);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
        assert_eq!(scene.asked(), [protocol; 2]);
    }
    let request = &scene.secure.requests()[0];
    assert_eq!((&*request.method, &*request.content_type), ("POST", "application/dns-message"));
    assert_eq!(request.uri, "https://dns.test/dns-query");
}

#[tokio::test]
async fn a_server_that_is_not_verified_is_asked_nothing() {
    let scene = Scene::new();
    let bad = [
        scene.pki.origin(&["other.test"], Flaw::None).unwrap(),
        scene.pki.origin(&["dns.test"], Flaw::Expired).unwrap(),
        scene.pki.origin(&["dns.test"], Flaw::UnknownIssuer).unwrap(),
    ];
    for certificate in bad {
        scene.secure.set_certificate(certificate);
        for server in scene.both() {
            let found = look_up(&scene.resolver(vec![server], LONG), "api.test").await;
            assert!(is_unverified(&found), "{found:?}");
        }
    }
    assert_eq!(scene.asked(), [], "no question left, encrypted or not");

    let nobody = Arc::new(resolver(vec![scene.tls("dns.test")], LONG));
    assert!(is_unverified(&look_up(&nobody, "api.test").await), "without roots nobody is");
}

#[tokio::test]
async fn a_server_that_is_not_verified_gives_the_next_one_its_turn() {
    let (scene, good) = (Scene::new(), Scene::new());
    let servers = vec![scene.tls("dns.test"), good.tls("dns.test")];
    let resolver = good.resolver(servers, LONG);
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    assert_eq!((scene.asked(), good.asked()), (vec![], vec![Protocol::Tls; 2]));
}

#[tokio::test]
async fn a_crowd_shares_one_connection() {
    let scene = Scene::new();
    for (server, connections) in scene.both().into_iter().zip(1..) {
        let resolver = scene.resolver(vec![server], LONG);
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..50 {
            let resolver = resolver.clone();
            crowd.spawn(async move { look_up(&resolver, &format!("n{n}.x.test")).await });
        }
        while let Some(found) = crowd.join_next().await {
            assert_eq!(found.unwrap(), a("192.0.2.2"));
        }
        assert_eq!(scene.secure.connections(), connections);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let scene = Scene::new();
    scene.secure.set_manner(Manner::CloseAfterAnswer);
    for server in scene.both() {
        let resolver = scene.resolver(vec![server], LONG);
        for _ in 0..5 {
            assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
            // A question that crosses the close on its way is lost with it; this is about the next.
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_costs_that_look_up() {
    let scene = Scene::new();
    for server in scene.both() {
        let resolver = scene.resolver(vec![server], LONG);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
        scene.secure.set_manner(Manner::CloseWhenAsked);
        let found = look_up(&resolver, "api.test").await;
        assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Broken(_)))), "{found:?}");
        scene.secure.set_manner(Manner::Honest);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_costs_that_look_up() {
    let scene = Scene::new();
    for server in scene.both() {
        let resolver = scene.resolver(vec![server], Duration::from_secs(3));
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
        scene.secure.set_manner(Manner::Silent);
        assert_eq!(look_up(&resolver, "api.test").await, Err(ResolveError::Timeout));
        // On the old connection it stays silent for ever; another one is opened.
        scene.secure.set_manner(Manner::Honest);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
    }
    assert_eq!(scene.secure.connections(), 4);
}

#[tokio::test]
async fn a_slow_name_does_not_cost_the_connection() {
    let scene = Scene::new();
    for (server, connections) in scene.both().into_iter().zip(1..) {
        let resolver = scene.resolver(vec![server], Duration::from_secs(3));
        let slow = resolver.clone();
        let slow = tokio::spawn(async move { look_up(&slow, "slow.test").await });
        while !scene.dns.names().contains(&"slow.test".to_owned()) {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
        assert_eq!(slow.await.unwrap(), Err(ResolveError::Timeout));
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
        assert_eq!(scene.secure.connections(), connections);
        scene.dns.reset(Zone::default(), serde_json::from_str(SCRIPT).unwrap());
    }
}

#[tokio::test]
async fn an_answer_that_dribbles_is_read_to_its_end_or_to_the_deadline() {
    let scene = Scene::new();
    for server in scene.both() {
        scene.secure.set_manner(Manner::Dribble(Duration::from_millis(1)));
        let resolver = scene.resolver(vec![server.clone()], LONG);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.2"));
        scene.secure.set_manner(Manner::Dribble(Duration::from_millis(300)));
        let resolver = scene.resolver(vec![server], TIMEOUT);
        assert_eq!(look_up(&resolver, "api.test").await, Err(ResolveError::Timeout));
    }
}
