//! Day budgets over a restart of `egret serve`.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use super::place::{Place, Serving};

/// A policy that opens one port of loopback for a number of bytes a day.
fn policy(port: u16, bytes: u64) -> String {
    format!(
        "version = 1\n[[rule]]\nid = \"local\"\neffect = \"allow\"\nhosts = [\"127.0.0.1\"]\n\
         schemes = [\"http\"]\nports = [{port}]\nlimits = {{ bytes_down_per_day = {bytes} }}\n\
         [[network.allow]]\ncidr = \"127.0.0.0/8\"\nrules = [\"local\"]\n"
    )
}

/// An origin that answers every request with five bytes.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 3]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            // Until the proxy has it all: a reset would take it away again.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    port
}

fn get(serving: &Serving, port: u16) -> String {
    let mut stream = TcpStream::connect(serving.address).unwrap();
    let request = format!(
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn end(serving: Serving) {
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}

#[test]
fn a_restart_begins_where_the_day_was() {
    let place = Place::ready();
    let port = origin();
    place.write("policy.toml", &policy(port, 10));
    let serving = place.serve(&["serve"]);
    assert!(get(&serving, port).starts_with("HTTP/1.1 200 "));
    end(serving);
    let kept: Value = serde_json::from_str(&place.read("state/budgets.json")).unwrap();
    let entry = &kept["used"][0];
    assert_eq!((&entry["worker"], &entry["rule"]), (&"anonymous".into(), &"local".into()));
    assert_eq!(entry["bytes_down"], 5);

    let serving = place.serve(&["serve"]);
    assert!(get(&serving, port).ends_with("hello"), "five bytes are left");
    let told = get(&serving, port);
    assert!(told.starts_with("HTTP/1.1 429 egress.budget_exhausted "), "{told}");
    assert!(told.contains("\r\nretry-after: "), "{told}");
    end(serving);
    place.write("policy.toml", &policy(port, 15));
    let serving = place.serve(&["serve"]);
    assert!(get(&serving, port).ends_with("hello"), "a larger budget has more left");
    end(serving);
}

#[test]
fn an_end_that_could_not_save_them_is_no_good_end() {
    let place = Place::ready();
    let port = origin();
    place.write("policy.toml", &policy(port, 10));
    let serving = place.serve(&["serve"]);
    assert!(get(&serving, port).starts_with("HTTP/1.1 200 "));
    // In the way of what is saved.
    let new = place.path("state/budgets.json.new");
    fs::create_dir(&new).unwrap();
    serving.signal(Signal::TERM);
    serving.end().ends_with(1).says("save the day budgets").says("counts as not used");
    fs::remove_dir(new).unwrap();
    end(place.serve(&["serve"]));
}

#[test]
fn budgets_that_cannot_be_understood_refuse_the_start() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    end(serving);
    assert!(!place.path("state/budgets.json").exists(), "nothing was used");
    place.write("state/budgets.json", "{\"version\":1,\"used\":[{\"wor");
    place.run(&["serve"]).ends_with(1).says("budgets.json").says("move").says("begins anew");
    place.write("state/budgets.json", "{\"version\":1,\"used\":[]}");
    end(place.serve(&["serve"]));
}
