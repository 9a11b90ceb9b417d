//! What `diff` says, as a document and in words.

use std::collections::BTreeMap;

use egret_policy::{Policy, source::shown};
use serde::Serialize;

use super::{
    Flip, Replay,
    changes::{Change, What},
};
use crate::{
    asked::Outcome,
    failure::count,
    style::{ALLOWED as ADDED, DENIED as REMOVED, STRONG},
    table::Table,
};

/// What is listed at a length that people read; the JSON has all of it.
const VALUES: usize = 12;

#[derive(Serialize)]
pub(super) struct Told<'a> {
    old: String,
    new: String,
    changes: &'a [Change],
    #[serde(flatten)]
    replay: Option<Replayed>,
}

#[derive(Serialize)]
struct Replayed {
    flips: Vec<Counted>,
    judged: u64,
    unjudged: u64,
    left_out: u64,
}

#[derive(Serialize)]
struct Counted {
    count: u64,
    worker: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    method: String,
    target: String,
    old: Outcome,
    new: Outcome,
}

impl<'a> Told<'a> {
    pub(super) fn new(
        old: &Policy,
        new: &Policy,
        changes: &'a [Change],
        replay: Option<Replay>,
    ) -> Self {
        let replay = replay.map(|Replay { flips, judged, unjudged, left_out }| {
            let mut flips: Vec<_> = flips.into_iter().collect();
            // The most frequent first, and one order for equals.
            flips.sort_by(|(one, many), (other, more)| more.cmp(many).then_with(|| one.cmp(other)));
            let flips = flips.into_iter().map(|(flip, count)| counted(flip, count)).collect();
            Replayed { flips, judged, unjudged, left_out }
        });
        Self { old: old.revision().to_string(), new: new.revision().to_string(), changes, replay }
    }

    pub(super) fn drawn(&self) -> String {
        let mut text = String::new();
        if self.changes.is_empty() {
            text += "the policies mean the same\n";
        }
        for change in self.changes {
            text += &drawn_change(change);
        }
        let Some(Replayed { flips, judged, unjudged, left_out }) = &self.replay else {
            return text;
        };
        let requests = count(*judged, "request");
        text += &format!("\n{STRONG}{requests} judged by both{STRONG:#}");
        if *unjudged > 0 {
            text += &format!("; {unjudged} more could not be judged again");
        }
        if flips.is_empty() {
            return text + ": no verdict is another\n";
        }
        text += ":\n";
        let mut table = Table::new(["TIMES", "WORKER", "REQUEST", "OLD", "NEW"]);
        for flip in flips {
            table.row([
                flip.count.to_string(),
                shown(&flip.worker),
                format!("{} {}", shown(&flip.method), shown(&flip.target)),
                drawn_side(&flip.old),
                drawn_side(&flip.new),
            ]);
        }
        text += &table.drawn();
        if *left_out > 0 {
            text += &format!("{left_out} more are too many to be told apart\n");
        }
        text
    }
}

fn counted(flip: Flip, count: u64) -> Counted {
    let Flip { worker, labels, method, target, old, new } = flip;
    Counted { count, worker, labels, method, target, old, new }
}

fn drawn_side(Outcome { verdict, reason, rule }: &Outcome) -> String {
    let why = match rule {
        Some(rule) => format!("rule {rule}"),
        None => reason.code().trim_start_matches("egress.").to_owned(),
    };
    format!("{} ({why})", verdict.as_str())
}

fn drawn_change(change: &Change) -> String {
    let Change { section, id, change, key, old, new } = change;
    let name = if id.is_empty() { (*section).to_owned() } else { format!("{section} `{id}`") };
    let key = match (change, key) {
        (What::Added, _) => return format!("{ADDED}+ {name}{ADDED:#}\n"),
        (What::Removed, _) => return format!("{REMOVED}- {name}{REMOVED:#}\n"),
        (What::Changed, Some("order")) => {
            return "  the order of the rules: the first that allows gives limits\n".to_owned();
        }
        (What::Changed, key) => key.unwrap_or_default(),
    };
    let mut text = format!("  {name}: {key}");
    for (mark, style, values) in [('-', REMOVED, old), ('+', ADDED, new)] {
        for value in values.iter().take(VALUES) {
            text += &format!(" {style}{mark}{}{style:#}", shown(value));
        }
        if values.len() > VALUES {
            text += &format!(" {mark}({} more)", values.len() - VALUES);
        }
    }
    text + "\n"
}
