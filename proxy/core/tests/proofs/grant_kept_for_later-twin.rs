//! Keeping a copy of a grant beyond the exchange it was given for.

use egret_policy::Grant;

pub fn keep(grant: Grant) -> (Grant, Option<Grant>) {
    (grant, None)
}

fn main() {}
