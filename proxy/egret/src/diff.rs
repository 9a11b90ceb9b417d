//! `egret diff`: in what two policies differ, and for which recorded requests that matters.
//!
//! Policies are compared by what they mean, defaults filled in, so that two texts of one meaning
//! do not differ. Requests are judged by both as `explain` judges; each distinct one is judged
//! once. Memory is bounded: beyond [`KNOWN`] requests the same one may be judged again, and beyond
//! [`FLIPS`] different flips the rest are counted.

use std::collections::{BTreeMap, HashMap};

use egret_policy::{OwnAddresses, Policy, Timestamp};

use self::{changes::Change, told::Told};
use crate::{
    asked::{Asked, Outcome},
    cli, config,
    environment::Environment,
    failure::{Exit, Failure},
    output, policy,
    reasons::is_by_policy,
    records::{Decisions, Judged, Record, Trail},
};

mod changes;
mod told;

/// Distinct requests whose judgement is remembered.
const KNOWN: usize = 100_000;
/// Distinct flips that are told apart.
const FLIPS: usize = 100_000;

/// A request of which the verdict is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Flip {
    worker: String,
    labels: BTreeMap<String, String>,
    method: String,
    target: String,
    old: Outcome,
    new: Outcome,
}

/// What became of the recorded requests.
#[derive(Debug, Default)]
struct Replay {
    flips: HashMap<Flip, u64>,
    judged: u64,
    /// Decisions that no policy can judge again: malformed, of nobody, or refused for what no rule
    /// is about.
    unjudged: u64,
    /// Flips beyond those that are told apart.
    left_out: u64,
}

pub(crate) fn run(args: &cli::Diff, environment: &Environment) -> Result<Exit, Failure> {
    let ((_, old, old_outline), (_, new, new_outline)) =
        (policy::outlined(&args.old)?, policy::outlined(&args.new)?);
    let changes: Vec<Change> = changes::between(&old_outline, &new_outline);
    let replay = match trail(args, environment)? {
        Some(trail) => Some(replay(args, &trail, &old, &new)?),
        None => None,
    };
    let flipped = replay.as_ref().is_some_and(|replay| !replay.flips.is_empty());
    let told = Told::new(&old, &new, &changes, replay);
    if args.json {
        output::json(&told)?;
    } else {
        output::text(&told.drawn())?;
    }
    Ok(if flipped { Exit::Negative } else { Exit::Done })
}

/// The records that are named. Without a name there are none: two policies can be compared where
/// nothing is recorded.
fn trail(args: &cli::Diff, environment: &Environment) -> Result<Option<Trail>, Failure> {
    let directory = match (&args.audit, &args.config) {
        (Some(path), _) => path.clone(),
        (None, Some(file)) => config::to_judge_by(Some(file), environment)?.audit.directory,
        (None, None) => return Ok(None),
    };
    Ok(Some(Trail::open(&directory)?))
}

fn replay(args: &cli::Diff, trail: &Trail, old: &Policy, new: &Policy) -> Result<Replay, Failure> {
    let now = Timestamp::now();
    let mut decisions = Decisions::of(trail, args.since, now)?;
    let mut known: HashMap<Key, Option<Flip>> = HashMap::new();
    let mut replay = Replay::default();
    while let Some(record) = decisions.next()? {
        let Some(asked) = Asked::of(&record).filter(|_| is_of_policy(&record)) else {
            replay.unjudged += 1;
            continue;
        };
        replay.judged += 1;
        let key = Key::of(&asked);
        let flip = match known.get(&key) {
            Some(flip) => flip.clone(),
            None => {
                let flip = flip(&asked, record.target(), old, new, now);
                if known.len() < KNOWN {
                    known.insert(key, flip.clone());
                }
                flip
            }
        };
        let Some(flip) = flip else { continue };
        if replay.flips.len() < FLIPS || replay.flips.contains_key(&flip) {
            *replay.flips.entry(flip).or_default() += 1;
        } else {
            replay.left_out += 1;
        }
    }
    Ok(replay)
}

/// Whether the policy had the say: what was refused for its form stays refused under any.
fn is_of_policy(record: &Record) -> bool {
    let code = record.reason.as_deref().unwrap_or_default();
    record.verdict != Some(Judged::Deny) || is_by_policy(code)
}

/// All that a judgement depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    worker: String,
    method: String,
    url: String,
    protocol: crate::asked::Protocol,
    for_server: bool,
    addresses: Vec<std::net::IpAddr>,
}

impl Key {
    fn of(asked: &Asked) -> Self {
        let Asked { worker, method, url, authority: _, protocol, for_server, addresses } = asked;
        let labels: String = worker.labels.iter().map(|pair| format!(" {pair:?}")).collect();
        let mut addresses = addresses.clone();
        addresses.sort();
        Self {
            worker: format!("{}{labels}", worker.id),
            method: method.clone(),
            url: url.clone(),
            protocol: *protocol,
            for_server: *for_server,
            addresses,
        }
    }
}

fn flip(asked: &Asked, target: String, old: &Policy, new: &Policy, now: Timestamp) -> Option<Flip> {
    let own = OwnAddresses::default();
    let (old, new) = (asked.judged(old, &own, now), asked.judged(new, &own, now));
    if old.verdict == new.verdict {
        return None;
    }
    let labels = asked.worker.labels.iter();
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (worker, method) = (asked.worker.id.to_string(), asked.method.clone());
    Some(Flip { worker, labels, method, target, old, new })
}
