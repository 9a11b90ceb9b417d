//! Deadlines, on a clock that moves only when everything waits.

use tokio::time::Instant;

use super::*;

struct Silent {
    origin: Origin,
    reply: Vec<u8>,
    took: Duration,
    /// From then until the gate had let go of the stream, the client's side still open.
    lingered: Duration,
}

/// Writes the pieces with pauses between them and waits for the gate to close.
async fn silence(delay: Duration, pieces: &[(u64, &[u8])]) -> Silent {
    let origin = Origin { delay, ..Origin::new(Manner::Refuses) };
    let (mut client, server) = duplex(64 << 10);
    let began = Instant::now();
    let served = origin.serve(server);
    let (mut from, mut to) = tokio::io::split(&mut client);
    let mut reply = Vec::new();
    let writing = async {
        for (pause, piece) in pieces {
            tokio::time::sleep(Duration::from_secs(*pause)).await;
            to.write_all(piece).await.unwrap();
        }
    };
    let (_, read) = tokio::join!(writing, from.read_to_end(&mut reply));
    read.unwrap();
    let took = began.elapsed();
    let _ = served.await.unwrap();
    Silent { origin, reply, took, lingered: began.elapsed() - took }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_ends_in_silence() {
    let silent = silence(Duration::ZERO, &[]).await;
    assert_eq!((silent.reply.as_slice(), silent.took.as_secs()), (&b""[..], 10));
    assert!(silent.origin.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_finished_in_time_is_answered() {
    for (pieces, seconds) in [
        // The first head is timed from the start, a later one from its first byte.
        (&[(7, &b"GET http"[..]), (1, b"://")][..], 10),
        (&[(0, GET), (30, b"G"), (9, b"E")][..], 40),
        (&[(0, &[GET, b"GET "].concat()[..])][..], 10),
    ] {
        let silent = silence(Duration::ZERO, pieces).await;
        assert_eq!(statuses(&silent.reply).last(), Some(&408));
        assert_eq!((silent.took.as_secs(), silent.lingered.as_secs()), (seconds, 2));
        assert_eq!(
            silent.origin.seen().last().map(|seen| seen.fact.clone()),
            Some(HeadFact::Refused(Fault::Timeout))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_in_silence() {
    let silent = silence(Duration::ZERO, &[(5, GET), (30, GET)]).await;
    assert_eq!(statuses(&silent.reply), [200, 200]);
    assert_eq!(silent.took.as_secs(), 5 + 30 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_kept_alive_ends_at_once() {
    let close = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let silent = silence(Duration::ZERO, &[(0, close)]).await;
    assert_eq!(statuses(&silent.reply), [200]);
    assert_eq!(silent.took, Duration::ZERO);
    assert_eq!(silent.lingered, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_answer_is_not_idling() {
    let silent = silence(Duration::from_secs(500), &[(0, GET)]).await;
    assert_eq!(statuses(&silent.reply), [200]);
    assert_eq!(silent.took.as_secs(), 500 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_stops_sending_is_not_swallowed_for_ever() {
    let origin = Origin::new(Manner::Refuses);
    let (mut client, server) = duplex(4096);
    let began = Instant::now();
    let served = origin.serve(server);
    client.write_all(b"\0").await.unwrap();
    let drip = async {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    drip.await;
    served.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let close = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    for (pause, given_up) in [(601, true), (599, false)] {
        let (mut client, server) = duplex(close.len());
        let served = Origin::new(Manner::Refuses).serve(server);
        client.write_all(close).await.unwrap();
        let mut piece = [0; 16];
        loop {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            if client.read(&mut piece).await.unwrap() == 0 {
                break;
            }
        }
        assert_eq!(served.await.unwrap().is_err(), given_up, "after {pause} s");
    }
}
