//! The property over records drawn at random, and over messages with a few bytes changed.

use egret_attack::seeds::Changes;

use super::*;

#[test]
fn drawn_answers_hold() {
    let mut changes = Changes::numbered(1);
    for _ in 0..1_500 {
        let spelt: Vec<u8> = (0..3 * changes.below(12)).map(|_| changes.below(256) as u8).collect();
        only_the_chain_is_believed(&spelt);
    }
}

#[test]
fn changed_messages_hold() {
    let mut message = Message::query();
    message.add_answers([record(0, 3, 1), record(1, 3, 2), record(2, 0, 7), record(2, 1, 7)]);
    let seeds = [message.to_vec().unwrap()];
    only_the_chain_is_believed(&seeds[0]);
    let mut changes = Changes::numbered(2);
    for _ in 0..1_500 {
        only_the_chain_is_believed(&changes.change(&seeds));
    }
}
