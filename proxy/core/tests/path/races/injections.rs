//! What takes a right away, and the same about somebody else.

use egret_policy::{RuleId, WorkerId};
use egret_proxy::{ClosedBy, Selector};

use super::play::{BYSTANDER, OTHER_RULE, Play, RULE, WORKER};

/// One way in which a right ends.
pub(super) struct Injection {
    pub(super) name: &'static str,
    /// What a completion says that it ended.
    pub(super) closed_by: &'static str,
    /// Takes the right away.
    pub(super) strike: fn(&Play<'_>) -> usize,
    /// Does the same to somebody or something that has no part in the play.
    pub(super) miss: fn(&Play<'_>) -> usize,
}

/// In the order of the columns of the table.
pub(super) const INJECTIONS: [Injection; 5] = [
    Injection {
        name: "a_cut_of_its_worker",
        closed_by: "quarantine",
        strike: |play| cut_worker(play, WORKER),
        miss: |play| cut_worker(play, BYSTANDER),
    },
    Injection {
        name: "a_cut_of_its_rule",
        closed_by: "limit",
        strike: |play| cut_rule(play, RULE),
        miss: |play| cut_rule(play, OTHER_RULE),
    },
    Injection {
        name: "the_end_of_its_rule",
        closed_by: "policy",
        strike: |play| {
            play.clock.pass_the_rules_end();
            0
        },
        miss: |play| {
            play.clock.pass_the_other_rules_end();
            0
        },
    },
    Injection {
        name: "the_removal_of_its_worker",
        closed_by: "revoked",
        strike: |play| remove(play, WORKER),
        miss: |play| remove(play, BYSTANDER),
    },
    Injection {
        name: "a_policy_that_denies_it",
        closed_by: "policy",
        strike: |play| play.replace_policy_without(RULE),
        miss: |play| play.replace_policy_without(OTHER_RULE),
    },
];

fn cut_worker(play: &Play<'_>, worker: &str) -> usize {
    let selector = Selector::Worker(WorkerId::parse(worker).unwrap());
    play.scene.handle.cut(&selector, ClosedBy::Quarantine)
}

fn cut_rule(play: &Play<'_>, rule: &str) -> usize {
    let selector = Selector::Rule(RuleId::parse(rule).unwrap());
    play.scene.handle.cut(&selector, ClosedBy::Limit)
}

fn remove(play: &Play<'_>, worker: &str) -> usize {
    // The order that the interface asks for: refused first, cut second.
    play.roster.remove(worker);
    play.scene.handle.remove_worker(&WorkerId::parse(worker).unwrap())
}
