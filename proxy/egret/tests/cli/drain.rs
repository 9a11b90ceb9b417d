//! The end of `egret serve`: what was taken in is carried out, nobody is left waiting.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use rustix::process::{Signal, getuid};

use super::{
    place::{CONFIG, Place, Serving},
    serve::{get, local_policy, records},
};

const RECORDS: &str = "state/audit/00000001.jsonl";
const DENIED: &str = "HTTP/1.1 403 egress.host_not_allowed ";

/// A request that leaves its connection open.
fn kept() -> String {
    get("elsewhere.test").replace("Connection: close\r\n", "")
}

fn connect(serving: &Serving) -> TcpStream {
    let stream = TcpStream::connect(serving.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// All that still comes, to the end of the stream.
fn rest(mut stream: impl Read) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// One answer of a connection that stays open.
fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_request_that_was_on_its_way_is_answered_and_a_later_one_is_told() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}[limits]\ndrain_timeout = \"1h\"\n"));
    let serving = place.serve(&["serve"]);
    let (mut fresh, mut silent) = (connect(&serving), connect(&serving));
    let (mut idle, mut again, mut slow) = (connect(&serving), connect(&serving), connect(&serving));
    for stream in [&mut idle, &mut again] {
        stream.write_all(kept().as_bytes()).unwrap();
        let told = answer(stream).to_lowercase();
        assert!(!told.contains("connection: close"), "{told}");
    }
    slow.write_all(b"GET http://elsewhere.test/ HT").unwrap();

    // As long as it stands still, what is sent is on its way.
    serving.signal(Signal::STOP);
    for stream in [&mut fresh, &mut again] {
        stream.write_all(kept().as_bytes()).unwrap();
    }
    serving.signal(Signal::TERM);
    serving.signal(Signal::CONT);
    for stream in [&mut fresh, &mut again] {
        let told = rest(stream);
        assert!(told.starts_with(DENIED), "{told}");
    }
    // Whoever waits only for a next request, or has never said anything, is closed.
    assert_eq!(rest(&mut idle), "");
    assert_eq!(rest(&mut silent), "");
    // By then the last call is over.
    slow.write_all(b"TP/1.1\r\nHost: elsewhere.test\r\n\r\n").unwrap();
    let told = rest(&mut slow);
    assert!(told.starts_with("HTTP/1.1 503 egress.draining "), "{told}");
    assert!(told.to_lowercase().contains("retry-after: "), "{told}");
    serving.end().ends_with(0);
    let lines = records(&place, RECORDS);
    let told: Vec<_> = lines.iter().filter(|line| line["reason"] == "egress.draining").collect();
    assert_eq!(told.len(), 2, "{lines:#?}");
    assert_eq!(told[1]["closed_by"], "drain");
}

/// A stopped process stands for one that is too busy to accept: the kernel takes connections in its
/// name.
#[test]
fn what_waits_at_the_sockets_is_taken_in_before_they_close() {
    let place = Place::ready();
    let path = place.path("proxy.sock");
    let unix = format!(
        "[[listener]]\naddress = \"unix:{}\"\nidentity = [\"peer\"]\n[[worker]]\nid = \"user\"\n\
         uid = {}\n",
        path.display(),
        getuid().as_raw()
    );
    place.write("egret.toml", &format!("{CONFIG}{unix}"));
    let mut serving = place.serve(&["serve"]);
    serving.line();
    serving.signal(Signal::STOP);
    let request = kept();
    let mut over_tcp: Vec<_> = (0..100).map(|_| connect(&serving)).collect();
    let mut over_unix: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    over_tcp.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
    over_unix.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
    serving.signal(Signal::TERM);
    serving.signal(Signal::CONT);
    for stream in over_tcp {
        let told = rest(stream);
        assert!(told.starts_with(DENIED), "{told}");
    }
    for stream in over_unix {
        let told = rest(stream);
        assert!(told.starts_with(DENIED), "{told}");
    }
    serving.end().ends_with(0);
}

#[test]
fn an_open_exchange_is_carried_out_and_its_neighbour_is_cut_at_the_end() {
    let place = Place::ready();
    place.write("egret.toml", &format!("{CONFIG}[limits]\ndrain_timeout = \"5s\"\n"));
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    place.write("policy.toml", &local_policy(port));
    let serving = place.serve(&["serve"]);
    let request = get(&format!("127.0.0.1:{port}")).replace("Connection: close\r\n", "");
    let open = || {
        let mut client = connect(&serving);
        client.write_all(request.as_bytes()).unwrap();
        let (mut origin, _) = origin.accept().unwrap();
        origin.read_exact(&mut [0; 3]).unwrap();
        (client, origin)
    };
    let ((first, mut answers), (mut second, silent)) = (open(), open());

    serving.signal(Signal::TERM);
    // Every answer from here on ends its connection.
    while TcpStream::connect(serving.address).is_ok() {}
    answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").unwrap();
    let told = rest(first);
    assert!(told.starts_with("HTTP/1.1 200 ") && told.ends_with("hello\n"), "{told}");
    assert!(told.to_lowercase().contains("connection: close"), "{told}");
    let error = second.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    serving.end().ends_with(0);
    drop(silent);
    let ends: Vec<_> = records(&place, RECORDS)
        .into_iter()
        .filter(|line| line["event"] == "completion")
        .map(|line| line["closed_by"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ends, ["upstream", "drain"]);
}
