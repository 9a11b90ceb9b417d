//! Spending one permit twice: on a request, and on where its answer redirects to.

use egret_policy::{Answers, OwnAddresses, Permit};

pub fn follow(permit: Permit, redirected: Permit, answers: &Answers, own: &OwnAddresses) {
    let _first = permit.pin(answers, own);
    let _second = redirected.pin(answers, own);
}

fn main() {}
