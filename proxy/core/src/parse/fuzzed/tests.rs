//! The property over the corpus and many small changes of it.

use egret_attack::seeds::{Changes, Seeds};

use super::*;

#[test]
fn the_corpus_and_its_changes_hold() {
    let seeds = Seeds::corpus().expect("the cases that are built in parse").targets;
    seeds.iter().for_each(|seed| accepted_targets_mean_one_thing(seed));
    let mut changes = Changes::numbered(1);
    let mut accepted = 0;
    for _ in 0..10_000 {
        let bytes = changes.change(&seeds);
        accepted_targets_mean_one_thing(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let taken = Authority::connect(&text).is_ok() || Target::absolute(&text).is_ok();
        accepted += usize::from(taken);
    }
    assert!(accepted > 1_000, "only {accepted} are accepted: the changes are too coarse");
}
