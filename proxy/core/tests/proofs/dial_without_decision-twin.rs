//! Making the pinned addresses by hand instead of asking policy for them.

use egret_policy::{Answers, Denial, Grant, OwnAddresses, Permit, Pinned};

pub fn pin(permit: Permit, answers: Answers) -> Result<Pinned<Grant>, Denial> {
    let own = OwnAddresses::default();
    let _unused = (&permit, &answers, &own);
    permit.pin(&answers, &own)
}

fn main() {}
