//! The property over the corpus and many small changes of it.

use egret_attack::seeds::{Changes, Seeds};

use super::*;

#[test]
fn the_corpus_and_its_changes_hold() {
    let seeds = Seeds::corpus().expect("the cases that are built in parse").connections;
    seeds.iter().for_each(|seed| only_well_formed_messages_pass(seed));
    let mut changes = Changes::numbered(1);
    for _ in 0..1_000 {
        let mut bytes = changes.change(&seeds);
        if changes.below(3) == 0 {
            // A second message behind the first.
            bytes.extend(changes.change(&seeds));
        }
        only_well_formed_messages_pass(&bytes);
    }
}

#[test]
fn the_strict_reader_takes_good_messages_and_no_others() {
    let good = b"PUT http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
    assert!(strict::read(good).is_ok());
    let refused = |from: &str, to: &str| {
        let bad = String::from_utf8_lossy(good).replacen(from, to, 1);
        assert!(strict::read(bad.as_bytes()).is_err(), "{bad}");
    };
    refused("Host", "Host ");
    refused("Host", " Host");
    refused("\r\nHost", "\nHost");
    refused("Host", "X-Host");
    refused("3", "+3");
    refused("3", "3\r\nTransfer-Encoding: chunked");
    refused("3", "2");
    refused("HTTP/1.1", "HTTP/1.2");
    refused("PUT ", "PUT  ");
}
