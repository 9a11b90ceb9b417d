//! A suggestion that can be put in force: what stands in its way is taken out of it, and counted.
//!
//! All that was seen is tried at once. Only where that fails is it tried in halves, so that one
//! place that cannot stand beside the given policy, or that one of its tests speaks against, takes
//! no other with it. How much is tried is bounded, since a worker chooses what it asks for.

use egret_policy::{Loaded, Policy, TestOutcome, Timestamp, source::shown};

use super::{Base, Place, Seen, Sight, rules::Rules, text::written};
use crate::failure::Failure;

/// How many bytes of policies are tried; what has not been tried by then is left out.
const TRIED: usize = 64 << 20;

/// Returns the text with all that can stand in it; the rest has been left out.
pub(super) fn proved(base: Option<&Base>, seen: Seen) -> Result<String, Failure> {
    let mut trial = Trial { base, seen, left: TRIED };
    let Err(why) = trial.tried() else { return Ok(trial.text()) };
    let all = std::mem::take(&mut trial.seen.places);
    // Whatever is added, a given policy that is wrong stays so.
    trial.tried().map_err(|why| Failure::Suggestion { why })?;
    trial.keep(all.into_iter().collect(), &why);
    trial.tried().map_err(|why| Failure::Suggestion { why })?;
    Ok(trial.text())
}

/// What is kept so far.
struct Trial<'a> {
    base: Option<&'a Base>,
    seen: Seen,
    left: usize,
}

impl Trial<'_> {
    /// Keeps what can stand beside what has been kept, of places that cannot all, for a reason.
    fn keep(&mut self, mut places: Vec<(Place, Sight)>, why: &str) {
        if places.len() <= 1 || self.left == 0 {
            for (Place { host, port, scheme, .. }, sight) in places {
                let why = format!("that cannot stand in the policy, for {}", shown(why));
                self.seen.leave_out(&why, sight.count_all(), format!("{scheme}://{host}:{port}"));
            }
            return;
        }
        let later = places.split_off(places.len() / 2);
        for half in [places, later] {
            let names: Vec<_> = half.iter().map(|(place, _)| place.clone()).collect();
            self.seen.places.extend(half);
            if let Err(why) = self.tried() {
                let back = names.iter().filter_map(|place| self.seen.places.remove_entry(place));
                let half = back.collect();
                self.keep(half, &why);
            }
        }
    }

    fn text(&self) -> String {
        let taken = |id: &str| self.base.is_some_and(|base| base.outline.rule(id).is_some());
        let rules = Rules::of(&self.seen, taken);
        written(self.base.map(|base| base.text.as_str()), &rules, &self.seen)
    }

    /// Says why what is kept could not be put in force.
    fn tried(&mut self) -> Result<(), String> {
        let text = self.text();
        self.left = self.left.saturating_sub(text.len());
        let Loaded { policy, problems, .. } = Policy::load(&text);
        let Some(policy) = policy else {
            let first = problems.first().map(|problem| problem.message.clone());
            return Err(first.unwrap_or_default());
        };
        let failed = policy.run_tests(Timestamp::now()).into_iter().find(|test| !test.ok);
        let told = |test: TestOutcome| format!("test {} expects {}", test.index + 1, test.expected);
        failed.map(told).map_or(Ok(()), Err)
    }
}
