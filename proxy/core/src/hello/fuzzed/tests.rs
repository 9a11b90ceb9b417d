//! The property over the corpus and many small changes of it.

use egret_attack::seeds::{Changes, Seeds};

use super::*;

#[test]
fn the_corpus_and_its_changes_hold() {
    let seeds = Seeds::corpus().expect("the cases that are built in parse").hellos;
    seeds.iter().for_each(|seed| first_bytes_are_told_once_and_for_all(seed));
    let mut changes = Changes::numbered(1);
    let mut told = 0;
    for _ in 0..1_000 {
        let bytes = changes.change(&seeds);
        first_bytes_are_told_once_and_for_all(&bytes);
        told += usize::from(matches!(classify(&bytes), FirstBytes::Tls(_)));
    }
    assert!(told > 100, "only {told} are a hello: the changes are too coarse");
}
