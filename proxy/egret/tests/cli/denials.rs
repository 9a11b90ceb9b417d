//! What `serve` says of denials where somebody sees it, and where nobody does.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use rustix::process::Signal;

use super::{place::Place, terminal::Terminal};

/// A port that is free, as `listening.json` says once it is taken.
fn address(place: &Place) -> SocketAddr {
    let text = place.read("state/listening.json");
    let listening: serde_json::Value = serde_json::from_str(&text).unwrap();
    listening["listeners"][0].as_str().unwrap().parse().unwrap()
}

fn ask(address: SocketAddr, host: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn a_terminal_is_told_each_denial_once_with_the_lines_that_would_allow_it() {
    let place = Place::ready();
    let terminal = Terminal::start(place.command(&["serve"]));
    terminal.wait_for("listening ");
    let address = address(&place);
    ask(address, "elsewhere.test");
    terminal.wait_for("✗ denied GET elsewhere.test:80/ of anonymous: egress.host_not_allowed");
    terminal.wait_for("hosts = [\"elsewhere.test\"]");
    ask(address, "elsewhere.test");
    ask(address, "another.test");
    terminal.wait_for("hosts = [\"another.test\"]");
    let said = terminal.end();
    assert_eq!(said.matches("denied GET elsewhere.test").count(), 1, "{said}");
}

#[test]
fn where_no_terminal_is_nothing_is_said_of_denials() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    ask(serving.address, "elsewhere.test");
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    assert!(!run.stderr.contains("elsewhere.test"), "{}", run.stderr);
}
