//! What cases about load stand on: bad networks, crowds, clients that are timed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use egret_testkit::{
    client::Client,
    crowd::Crowd,
    meter::{Connections, Meter, Pattern},
    origin::{Answer, BlackHole, Plan, Service, Step, Toxic},
    packets::Own,
    workers::{Ask, Outcome, Pace, Workers},
};

use crate::{Claim, World, fixtures::WAIT};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_black_hole_swallows_connection_attempts", black_hole),
    ("nothing_reaches_an_address_that_is_swallowed", swallowed),
    ("a_small_volume_is_soon_full", small_volume),
    ("toxics_spoil_one_address_and_no_other", toxics),
    ("an_origin_that_forgets_keeps_nothing", forgets),
    ("a_crowd_notes_who_was_ended_and_how", crowd),
    ("a_meter_counts_what_was_answered_otherwise_as_failed", meter),
    ("workers_tell_what_became_of_each_request", workers),
];

const HERE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
const THERE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 77);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn http(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, 80))
}

fn black_hole(_: &World) {
    let hole = BlackHole::open(http(THERE)).unwrap();
    let error = TcpStream::connect_timeout(&http(THERE), Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    TcpStream::connect_timeout(&http(HERE), WAIT).expect("its neighbour answers");
    drop(hole);
    TcpStream::connect_timeout(&http(THERE), WAIT).expect("the wildcard listener is back");
}

fn swallowed(world: &World) {
    world.origin.reset(Plan::good(&world.pki).unwrap());
    let from = Ipv4Addr::new(127, 8, 8, 8);
    let mut crowd = Crowd::open_from(from, http(HERE), 1, GET.to_vec(), 0).unwrap();
    let gone = world.entered.swallow(from).unwrap();
    // Nothing that it sends arrives either.
    crowd.advance(GET.len());
    let heard =
        |all: &[egret_testkit::origin::Connection]| all.iter().any(|one| !one.wire().is_empty());
    assert!(!world.origin.wait_until(Duration::from_millis(300), heard));
    crowd.sweep();
    assert_eq!(crowd.open_count(), 1, "nobody was told");
    drop(gone);
    assert!(crowd.wait_until(WAIT, |all| all[0].received > 0), "sent again once it is back");
}

fn small_volume(world: &World) {
    let folder = world.entered.directory().join("small");
    fs::create_dir_all(&folder).unwrap();
    let volume = world.entered.small_volume(&folder, 1 << 16).unwrap();
    fs::write(folder.join("fits"), vec![0; 1 << 10]).unwrap();
    let error = fs::write(folder.join("full"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    drop(volume);
    assert!(!folder.join("fits").exists(), "it is gone with its volume");
}

fn toxics(world: &World) {
    let ask = |address| {
        let mut stream = TcpStream::connect_timeout(&http(address), WAIT).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        stream.write_all(GET).unwrap();
        let (mut heard, begin) = (Vec::new(), Instant::now());
        let end = stream.read_to_end(&mut heard).map_err(|error| error.kind());
        (heard.len(), end.map(|_| ()), begin.elapsed())
    };
    let (whole, idle, _) = ask(HERE);
    assert_eq!(idle, Err(ErrorKind::WouldBlock), "kept alive");
    let spoil = |toxic| {
        let mut plan = Plan::good(&world.pki).unwrap();
        plan.toxics.insert(THERE.into(), toxic);
        world.origin.reset(plan);
        assert_eq!(ask(HERE).0, whole);
        ask(THERE)
    };
    let (length, end, _) = spoil(Toxic::LimitData(10));
    assert_eq!((length, end), (10, Ok(())));
    let (length, end, _) = spoil(Toxic::ResetAfter(10));
    assert_eq!((length, end), (10, Err(ErrorKind::ConnectionReset)));
    let (length, _, took) = spoil(Toxic::Bandwidth(whole * 4));
    assert!(length == whole && took > Duration::from_millis(200), "{length} in {took:?}");
}

fn forgets(world: &World) {
    let mut plan = Plan::good(&world.pki).unwrap();
    plan.forgets = true;
    plan.services.insert(80, Service::Echo);
    world.origin.reset(plan);
    let mut stream = TcpStream::connect_timeout(&http(HERE), WAIT).unwrap();
    stream.write_all(b"echo").unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"echo");
    assert!(world.origin.connections().iter().all(|one| one.wire().is_empty()));
    drop(stream);
    assert!(world.origin.wait_until(WAIT, <[_]>::is_empty));
}

fn crowd(world: &World) {
    let mut crowd = Crowd::open(http(HERE), 20, GET.to_vec(), 5).unwrap();
    assert!(!crowd.wait_until(Duration::from_millis(200), |all| all[0].received > 0));
    assert_eq!(crowd.advance(GET.len()), 20);
    assert!(crowd.wait_until(WAIT, |all| all.iter().all(|one| one.heard.ends_with(b"ok"))));
    assert_eq!((crowd.answered(200), crowd.open_count(), crowd.longest()), (20, 20, None));
    world.origin.reset(Plan::good(&world.pki).unwrap());
    assert!(crowd.wait_for_the_end(WAIT));
    assert!(crowd.longest().is_some());
}

fn meter(_: &World) {
    let client = Client::new(http(HERE), Own::default());
    let pattern = |statuses| Pattern {
        request: GET.to_vec(),
        statuses,
        clients: 2,
        rate: 50,
        connections: Connections::Mixed,
    };
    let played = |statuses| {
        let meter = Meter::start(&client, &pattern(statuses));
        std::thread::sleep(Duration::from_millis(300));
        meter.finish()
    };
    let good = played(&[200]);
    assert!(good.failures.is_empty() && good.times.len() > 5, "{good:?}");
    let other = played(&[403]);
    assert!(other.times.is_empty() && !other.failures.is_empty(), "{other:?}");
}

fn workers(world: &World) {
    let answer = Answer::with(|request| match request.target() {
        b"/1" => vec![Step::Reset],
        b"/2" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok".to_vec()),
            Step::Close,
        ],
        _ => vec![Step::Send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec())],
    });
    world.origin.reset(Plan::good(&world.pki).unwrap().answering(answer));
    let ask = |number| Ask::Request(format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n").into());
    let pace = Pace { workers: 2, rate: 100, connections: Connections::Kept };
    let running = Workers::start(&Client::new(http(HERE), Own::default()), pace, 1, ask);
    assert!(running.wait_for(6, WAIT));
    let mut asked = running.finish();
    asked.sort_by_key(|one| one.number);
    let numbers: Vec<u64> = asked.iter().map(|one| one.number).collect();
    assert_eq!(numbers[..6], [1, 2, 3, 4, 5, 6]);
    assert!(matches!(asked[0].outcome, Outcome::Broken(0)), "{asked:?}");
    assert!(matches!(asked[1].outcome, Outcome::Broken(40)), "{asked:?}");
    assert!(asked[2..].iter().all(|one| one.status() == 403 && !one.is_served()), "{asked:?}");
    assert!(!asked[2].reused && asked[4].reused, "{asked:?}");
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let running = Workers::start(&Client::new(nobody, Own::default()), pace, 1, ask);
    assert!(running.wait_for(1, WAIT));
    assert!(matches!(running.finish()[0].outcome, Outcome::NotConnected));
}
