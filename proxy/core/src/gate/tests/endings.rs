//! CONNECT, upgrades, refusals and bodies that break off: who gets which byte, and who is answered.

use tokio::net::{TcpListener, TcpStream};

use super::*;

const CONNECT: &[u8] = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
const UPGRADE: &[u8] = b"GET http://a.example/ws HTTP/1.1\r\nHost: a.example\r\n\
    Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn early_bytes_of_an_opened_tunnel_arrive_in_order() {
    for pieces in
        [&[CONNECT, b"early ", b"and late"][..], &[&[CONNECT, b"early "].concat(), b"and late"]]
    {
        let (origin, reply) = run(Manner::Opens, pieces).await;
        assert!(reply.starts_with(b"HTTP/1.1 200 OK\r\nx-by: service\r\n\r\n"));
        assert!(reply.ends_with(b"tunnel ends"));
        assert_eq!(origin.log.lock().unwrap().raw, b"early and late");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_right_after_connect_gets_its_tunnel() {
    let (origin, reply) = run(Manner::Opens, &[CONNECT]).await;
    assert!(reply.ends_with(b"tunnel ends"));
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn nothing_behind_a_refused_connect_is_served() {
    for manner in [Manner::Refuses, Manner::Forgets] {
        let (origin, reply) = run(manner, &[CONNECT, GET]).await;
        assert_eq!(statuses(&reply), [403]);
        assert!(reply.ends_with(b"said"), "the refusal is cut short");
        assert_eq!(origin.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_upgrade_lets_the_next_request_through() {
    for manner in [Manner::Refuses, Manner::Forgets] {
        let (origin, reply) = run(manner, &[UPGRADE, GET]).await;
        assert_eq!(statuses(&reply), [200, 200]);
        assert_eq!(origin.seen().len(), 2);
    }
}

#[tokio::test]
async fn an_opened_upgrade_carries_raw_bytes() {
    let (origin, reply) = run(Manner::Opens, &[&[UPGRADE, b"frame"].concat(), GET]).await;
    assert_eq!(statuses(&reply), [101]);
    assert_eq!(origin.log.lock().unwrap().raw, [b"frame", GET].concat());
}

#[tokio::test]
async fn an_upgrade_is_held_only_when_it_is_nominated_and_modern() {
    let not_nominated = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nUpgrade: x\r\n\r\n";
    let with_body =
        b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\n\
        Upgrade: x\r\nContent-Length: 2\r\n\r\nhi";
    let old = b"GET http://a.example/ HTTP/1.0\r\nConnection: upgrade, keep-alive\r\n\
        Upgrade: x\r\n\r\n";
    for head in [&not_nominated[..], with_body, old] {
        let mut gate = drained(&[head, GET].concat());
        assert!(matches!(gate.facts.next(), HeadFact::Passed(_)));
        assert!(matches!(gate.facts.next(), HeadFact::Passed(_)), "it was held");
        assert!(gate.released.ends_with(GET));
        gate.released.clear();
    }
}

#[tokio::test]
async fn held_bytes_are_dropped_unless_opened() {
    let early = [CONNECT, b"early"].concat();
    let held = |told: fn(&super::super::Facts)| {
        let drained = drained(&early);
        assert_eq!(drained.released, CONNECT);
        drained.facts.next();
        told(&drained.facts);
        drained.gate.into_parts().1
    };
    assert_eq!(held(|_| {}), "");
    assert_eq!(held(super::super::Facts::refused), "");
    assert_eq!(held(super::super::Facts::opened), "early");
    // An upgrade too is held until it has been answered.
    assert_eq!(drained(&[UPGRADE, GET].concat()).released, UPGRADE);
    // Nobody has taken the verdict yet, so the word was about something else.
    let drained = drained(&early);
    drained.facts.opened();
    assert_eq!(drained.gate.into_parts().1, "");
}

#[tokio::test]
async fn nothing_behind_a_refused_head_is_served() {
    let (origin, reply) = run(Manner::Opens, &[GET, b"GET  / HTTP/1.1\r\n", GET]).await;
    assert_eq!(statuses(&reply), [200, 400]);
    assert_eq!(origin.seen().len(), 2);
    assert!(reply.windows(19).any(|line| line == b"connection: close\r\n"));
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_end_of_the_line() {
    let origin = Origin::new(Manner::Opens);
    let (mut client, server) = duplex(4096);
    origin.serve(server);
    client.write_all(b"GET /\x00").await.unwrap();
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
}

#[tokio::test]
async fn a_refusal_speaks_the_client_s_version_and_gives_no_body_to_head() {
    let (_, reply) =
        run(Manner::Opens, &[b"HEAD http://a.example/ HTTP/1.0\r\nbad name: x\r\n\r\n"]).await;
    assert!(reply.starts_with(b"HTTP/1.0 400"), "{}", String::from_utf8_lossy(&reply));
    assert!(reply.ends_with(b"\r\n\r\n"));
}

/// The kernel resets a connection that is closed with bytes unread, and the reset overtakes what was
/// written. Over TCP only: a stream in memory has no reset.
#[tokio::test]
async fn a_refusal_is_not_lost_to_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for bad in [&b"GET / HTTP/9.9\r\n"[..], CONNECT, &[UPGRADE, b"bad\r\n"].concat()] {
        let origin = Origin::new(Manner::Refuses);
        let mut client = TcpStream::connect(address).await.unwrap();
        origin.serve(listener.accept().await.unwrap().0);
        client.write_all(bad).await.unwrap();
        client.write_all(&[b'x'; 300_000]).await.unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert!(reply.ends_with(b"said"), "{}", String::from_utf8_lossy(&reply));
        // The gate has closed its side, and what the client still sends is no error.
        for _ in 0..10 {
            client.write_all(&[b'x'; 10_000]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
