use super::*;

#[test]
fn the_phrases_of_the_corpus_are_understood_with_their_figures() {
    let table = [
        ("open 2000 connections, 1 header byte every 5 s", Attack::SlowHeads { connections: 2000 }),
        (
            "POST with Content-Length 1 MB, 1 body byte every 10 s, x 500",
            Attack::SlowBodies { connections: 500 },
        ),
        (
            "open 300 tunnels, 1 byte of the ClientHello every s",
            Attack::SlowHellos { connections: 300 },
        ),
        (
            "GET 100 MB, read 1 byte/s, x 500",
            Attack::SlowRead { body: 100_000_000, rate: 1, connections: 500 },
        ),
        ("open 5000 connections that say nothing", Attack::Silent { connections: 5000 }),
        ("open cap+1000 connections", Attack::OverCap { extra: 1000 }),
        (
            "worker A opens 90% of the cap : worker B sends 10 rps",
            Attack::Greedy { percent: 90, rate: 10 },
        ),
        ("1e6 distinct denied hosts", Attack::DistinctHosts { count: 1_000_000 }),
        ("ulimit -n 256; 500 connections", Attack::Descriptors { limit: 256, connections: 500 }),
        ("log and audit volume full", Attack::DiskFull),
        ("SYN dropped by upstream", Attack::BlackHole),
        ("RST after 1 kB of 10 kB", Attack::ResetInside { after: 1000, of: 10_000 }),
        ("toxiproxy bandwidth 8 kB/s", Attack::Toxic(Toxic::Bandwidth(8000))),
        ("toxiproxy latency 300 ms", Attack::Toxic(Toxic::Latency(Duration::from_millis(300)))),
        ("toxiproxy limit_data 100 bytes", Attack::Toxic(Toxic::LimitData(100))),
        (
            "SIGTERM with 100 tunnels and 50 requests in flight",
            Attack::Drain { tunnels: 100, requests: 50 },
        ),
        ("kill -9 under load; restart", Attack::Kill),
        ("open/close 1e6 tunnels", Attack::Churn { count: 1_000_000 }),
        ("64 threads on one hot host", Attack::HotHost { clients: 64 }),
        (
            "1000 connections x 60 kB headers never finished",
            Attack::BigHeads { connections: 1000, bytes: 60_000 },
        ),
        ("50000 rps of denied CONNECTs", Attack::DeniedFlood { rate: 50_000 }),
        ("client FIN before upstream connect completes", Attack::EarlyEnd),
        ("200 requests to an origin that never answers", Attack::NeverAnswers { requests: 200 }),
        ("reload 100 times at 5000 rps", Attack::Reload { times: 100, rate: 5000 }),
        ("reload with a syntax error", Attack::BrokenReload),
        ("50 clients vanish without FIN or RST", Attack::Vanish { clients: 50 }),
    ];
    for (steps, attack) in table {
        assert_eq!(Attack::read("", &[steps.to_owned()]), Ok(attack), "{steps}");
    }
}

#[test]
fn what_is_not_understood_is_said() {
    for steps in ["a panic in one task", "SIGSTOP 60 s, SIGCONT", "sing a song"] {
        let why = Attack::read("", &[steps.to_owned()]).expect_err(steps);
        assert!(why.starts_with("no driver"), "{why}");
    }
}
