//! `egret why`: the decision that is on record, and what would have to change for another one.
//!
//! What was decided is told from the record alone. Why it would be decided so again, and what
//! would allow it, is judged by the policy now in force, which may be another than the one of the
//! record; then that is said. Where that policy is not valid, the record is told all the same. Nothing is looked up and nothing is changed.

use std::collections::HashMap;

use egret_policy::{NearRule, OwnAddresses, Timestamp};

use self::told::Told;
use crate::{
    asked::{Asked, Outcome},
    cli,
    config::{self, Origin},
    environment::Environment,
    failure::{Exit, Failure},
    files, output, policy,
    reasons::{Cure, is_by_policy, meaning},
    records::{Backward, Judged, Record, Search, Trail, is_id},
    remedy::{Law, Remedy},
    running::{self, Running},
};

mod told;

/// Completions that are kept until their decisions turn up; further back they are not looked for.
const KEPT: usize = 4096;

/// What is on record about one exchange.
struct Case {
    decision: Record,
    completion: Option<Record>,
}

pub(crate) fn run(args: &cli::Why, environment: &Environment) -> Result<Exit, Failure> {
    let id = id(&args.words)?;
    let trail = Trail::named(&args.source, environment)?;
    let cases = match &id {
        Some(id) => vec![found(&trail, id)?],
        None => last(&trail, args)?,
    };
    // A policy that is being edited says nothing, but the records do.
    let law = law(args, environment);
    let judged_by = law.as_ref().ok();
    let told: Vec<Told> = cases.iter().map(|case| judge(judged_by, case)).collect();
    let revision = judged_by.map(|law| law.policy.revision().to_string());
    if args.json {
        output::json(&told::Document { policy: revision.as_deref(), denials: &told })?;
    } else if told.is_empty() {
        let whose = args.worker.as_ref().map(|id| format!(" of worker `{id}`"));
        let whose = whose.unwrap_or_default();
        output::text(&format!("nothing was denied{whose} in `{}`\n", trail.path().display()))?;
    } else {
        let in_force = judged_by.zip(revision.as_deref());
        let drawn: Vec<_> = told.iter().map(|told| told.drawn(in_force)).collect();
        output::text(&drawn.join("\n"))?;
    }
    law.map(|_| Exit::Done)
}

/// The id among the words that a client showed: a whole status line may be pasted.
fn id(words: &[String]) -> Result<Option<String>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut parts = words.iter().flat_map(|word| word.split(|c: char| !c.is_ascii_alphanumeric()));
    let id = parts.find_map(|part| Some(part.to_ascii_uppercase()).filter(|part| is_id(part)));
    id.map(Some).ok_or_else(|| Failure::NotAnId { text: words.join(" ") })
}

fn found(trail: &Trail, id: &str) -> Result<Case, Failure> {
    let Search { decision, completion, skipped } = Search::id(trail, id)?;
    skipped.tell(trail);
    match (decision, completion) {
        (Some(decision), completion) => Ok(Case { decision, completion }),
        // Retention has taken the decision, or nothing was decided: the end is all there is.
        (None, Some(completion)) => Ok(Case { decision: completion, completion: None }),
        (None, None) => Err(Failure::UnknownId { id: id.to_owned() }),
    }
}

/// The last denials, the newest first.
fn last(trail: &Trail, args: &cli::Why) -> Result<Vec<Case>, Failure> {
    let mut records = Backward::begin(trail)?;
    let mut completions: HashMap<String, Record> = HashMap::new();
    let mut cases = Vec::new();
    let wanted = args.last.unwrap_or(1).max(1);
    while cases.len() < wanted
        && let Some((record, _)) = records.next_record()?
    {
        if !record.is_of(args.worker.as_ref()) {
            continue;
        }
        let id = record.id.clone().unwrap_or_default();
        if record.event == "completion" {
            if completions.len() == KEPT {
                completions.clear();
            }
            completions.insert(id, record);
        } else if record.is_denial() {
            let completion = completions.remove(&id);
            cases.push(Case { decision: record, completion });
        } else {
            completions.remove(&id);
        }
    }
    records.skipped().tell(trail);
    Ok(cases)
}

/// The policy now in force.
fn law(args: &cli::Why, environment: &Environment) -> Result<Law, Failure> {
    let config = config::to_judge_by(args.source.config.path.as_deref(), environment)?;
    let source = match config.origin {
        Origin::File(_) => files::read(&config.policy)?,
        Origin::Embedded => policy::users(environment)?,
    };
    let policy = policy::loaded(&source)?;
    let mut own = OwnAddresses { endpoints: config.own_endpoints(), interfaces: Vec::new() };
    // A port that the system chose is known while the proxy runs.
    if let Ok(Running::Here { listeners }) = running::find(&config.state) {
        own.endpoints.extend(listeners.into_iter().flatten());
    }
    Ok(Law::new(source, policy, own, Timestamp::now()))
}

/// What can be said of a case; of the record alone where there is no policy to judge by.
fn judge(law: Option<&Law>, case: &Case) -> Told {
    let Case { decision, completion } = case;
    let Some(law) = law else {
        return Told::new(decision, completion.as_ref(), None, &[], Vec::new())
            .and_advice(UNJUDGED);
    };
    let code = decision.reason.as_deref().unwrap_or_default();
    let asked = Asked::of(decision).filter(|_| is_by_policy(code));
    let now = asked.as_ref().map(|asked| law.judged(asked));
    // What the policy of today says decides what can be done today.
    let (nearest, remedies) = match asked.as_ref().zip(now.as_ref()) {
        Some((asked, now)) => changes(law, asked, now),
        None => (Vec::new(), Vec::new()),
    };
    let is_denied = now.as_ref().is_some_and(|now| now.verdict != Judged::Allow);
    let is_own = asked.as_ref().is_some_and(|asked| asked.is_own(&law.own));
    let told = |nearest: &[NearRule], remedies| {
        Told::new(decision, completion.as_ref(), now, nearest, remedies)
    };
    if is_own {
        return told(&nearest, remedies).with_advice(OWN);
    }
    // Where nothing can be done for the method as it was written, it may be for another.
    let is_stuck = is_denied && remedies.is_empty();
    if let Some(capitals) = asked.filter(|_| is_stuck).and_then(|asked| asked.in_capitals()) {
        let advice = told::in_capitals(&capitals.method);
        let outcome = law.judged(&capitals);
        if outcome.verdict == Judged::Allow {
            return told(&nearest, remedies).with_advice(&advice);
        }
        let (nearer, remedies) = changes(law, &capitals, &outcome);
        if !remedies.is_empty() {
            return told(&nearer, remedies).led_by(advice);
        }
    }
    told(&nearest, remedies)
}

/// The rules that come closest to a request that was judged so, and what would allow it.
fn changes(law: &Law, asked: &Asked, outcome: &Outcome) -> (Vec<NearRule>, Vec<Remedy>) {
    if outcome.verdict == Judged::Allow {
        return (Vec::new(), Vec::new());
    }
    match meaning(outcome.reason.code()).cure {
        Cure::Rule => (law.nearest(asked), law.remedies(asked)),
        Cure::Network => (Vec::new(), law.openings(asked, outcome.rule.as_deref())),
        Cure::None => (Vec::new(), Vec::new()),
    }
}

const UNJUDGED: &str = "What the policy of now makes of it, and what would allow it, cannot be said: \
    that policy cannot be read or is not valid.";
const OWN: &str = "It is a socket of egret itself or a name server that it asks: those are never \
    opened to workers.";
