//! A suggestion that can be put in force: what stands in its way is taken out of it, and counted.
//!
//! All that was seen is tried at once. What tests speak against is taken out by what they ask for.
//! Only where the policy does not load is it tried in halves, so that one place that cannot stand
//! beside the given policy takes no other with it. How much is tried is bounded, since a worker
//! chooses what it asks for.

use std::collections::{BTreeMap, BTreeSet};

use egret_policy::{Loaded, Policy, TestOutcome, Timestamp, source::shown};

use super::{Base, Place, Seen, Sight, rules::Rules, text::written};
use crate::{failure::Failure, remedy::plain};

/// How many bytes of policies are tried; what has not been tried by then is left out.
const TRIED: usize = 8 << 20;
/// How often what tests speak against is taken out before what is left is tried in halves.
const ROUNDS: usize = 8;
const UNTRIED: &str = "that were not tried, for too much else cannot stand in the policy";

/// Returns the text with all that can stand in it; the rest has been left out.
pub(super) fn proved(base: Option<&Base>, seen: Seen) -> Result<String, Failure> {
    let mut trial = Trial { base, seen, left: TRIED };
    let Err(fault) = trial.tried() else { return Ok(trial.text()) };
    let all = std::mem::take(&mut trial.seen.places);
    // Whatever is added, a given policy that is wrong stays so.
    trial.tried().map_err(|fault| Failure::Suggestion { why: fault.told() })?;
    let names = all.keys().cloned().collect();
    trial.seen.places = all;
    trial.stand(names, fault);
    trial.tried().map_err(|fault| Failure::Suggestion { why: fault.told() })?;
    Ok(trial.text())
}

/// What is kept so far.
struct Trial<'a> {
    base: Option<&'a Base>,
    seen: Seen,
    left: usize,
}

/// Who asks for what: worker, scheme and authority.
type Question = (String, &'static str, String);

/// Why what is kept could not be put in force.
enum Fault {
    /// It does not load.
    Problem(String),
    /// These tests failed.
    Tests(Vec<TestOutcome>),
}

impl Trial<'_> {
    /// Makes what is kept stand, of which these places were added last and brought a fault.
    fn stand(&mut self, names: Vec<Place>, mut fault: Fault) {
        let mut before = BTreeMap::new();
        for _ in 0..ROUNDS {
            let Fault::Tests(failed) = &fault else { break };
            if !self.take_out(failed, &mut before) {
                break;
            }
            match self.tried() {
                Ok(()) => return,
                Err(next) => fault = next,
            }
            if self.left == 0 {
                break;
            }
        }
        let back = names.iter().filter_map(|place| self.seen.places.remove_entry(place));
        let back = back.collect();
        self.halve(back, &fault);
    }

    /// Takes out what failed tests ask for, the wider the more often that was of no use `before`.
    /// Returns whether there was any.
    fn take_out(&mut self, failed: &[TestOutcome], before: &mut BTreeMap<Question, usize>) -> bool {
        let mut by_host: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
        for place in self.seen.places.keys() {
            by_host.entry(&place.host).or_default().push(place);
        }
        let mut against: BTreeMap<Place, String> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for test in failed {
            let Some((scheme, authority)) = &test.asked else { continue };
            let host = plain(authority.host());
            let (worker, port) = (test.worker.as_str(), authority.port());
            let question = (worker.to_owned(), scheme.as_str(), authority.to_string());
            if !asked.insert(question.clone()) {
                continue;
            }
            let times = before.entry(question).or_default();
            *times += 1;
            let places = by_host.get(host.as_str()).map(Vec::as_slice).unwrap_or_default();
            let is_theirs = |place: &&&Place| place.worker == worker;
            let is_this = |place: &&&Place| {
                is_theirs(place) && place.port == port && place.scheme == scheme.as_str()
            };
            let mut found: Vec<&&Place> = Vec::new();
            if *times == 1 {
                found = places.iter().filter(is_this).collect();
            }
            if found.is_empty() && *times <= 2 {
                found = places.iter().filter(is_theirs).collect();
            }
            if found.is_empty() {
                found = places.iter().collect();
            }
            for place in found {
                against.entry((*place).clone()).or_insert_with(|| expects(test));
            }
        }
        let found = !against.is_empty();
        for (place, why) in against {
            if let Some(sight) = self.seen.places.remove(&place) {
                self.leave_out(place, &sight, &cannot_stand(&why));
            }
        }
        found
    }

    /// Keeps what can stand beside what has been kept, of places that cannot all, for a reason.
    fn halve(&mut self, mut places: Vec<(Place, Sight)>, fault: &Fault) {
        if places.len() <= 1 {
            for (place, sight) in places {
                self.leave_out(place, &sight, &cannot_stand(&fault.told()));
            }
            return;
        }
        let later = places.split_off(places.len() / 2);
        for half in [places, later] {
            if self.left == 0 {
                for (place, sight) in half {
                    self.leave_out(place, &sight, UNTRIED);
                }
                continue;
            }
            let names = half.iter().map(|(place, _)| place.clone()).collect();
            self.seen.places.extend(half);
            if let Err(fault) = self.tried() {
                self.stand(names, fault);
            }
        }
    }

    fn leave_out(&mut self, place: Place, sight: &Sight, why: &str) {
        let Place { host, port, scheme, .. } = place;
        self.seen.leave_out(why, sight.count_all(), format!("{scheme}://{host}:{port}"));
    }

    fn text(&self) -> String {
        let taken = |id: &str| self.base.is_some_and(|base| base.outline.rule(id).is_some());
        let rules = Rules::of(&self.seen, taken);
        written(self.base.map(|base| base.text.as_str()), &rules, &self.seen)
    }

    /// Says why what is kept could not be put in force.
    fn tried(&mut self) -> Result<(), Fault> {
        let text = self.text();
        self.left = self.left.saturating_sub(text.len());
        let Loaded { policy, problems, .. } = Policy::load(&text);
        let Some(policy) = policy else {
            let first = problems.first().map(|problem| problem.message.clone());
            return Err(Fault::Problem(first.unwrap_or_default()));
        };
        let outcomes = policy.run_tests(Timestamp::now()).into_iter();
        let failed: Vec<_> = outcomes.filter(|test| !test.ok).collect();
        if failed.is_empty() { Ok(()) } else { Err(Fault::Tests(failed)) }
    }
}

impl Fault {
    fn told(&self) -> String {
        match self {
            Self::Problem(message) => message.clone(),
            Self::Tests(failed) => failed.first().map(expects).unwrap_or_default(),
        }
    }
}

fn expects(test: &TestOutcome) -> String {
    format!("test {} expects {}", test.number(), test.expected)
}

fn cannot_stand(why: &str) -> String {
    format!("that cannot stand in the policy, for {}", shown(why))
}
