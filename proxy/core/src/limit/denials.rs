//! Denials, counted so that nobody can fill the disk with their records.
//!
//! Each worker has `denials_per_minute` that are recorded one by one; above that they are summed,
//! and one record stands for all of ten seconds. Who was not identified is counted by listener.
//! Only denials come here: what is allowed takes no lock of these and waits for none of them.

use std::{collections::HashMap, num::NonZeroU32, sync::Mutex};

use ulid::Ulid;

use super::{account::Moment, rate::Rate};
use crate::{refusal::Code, sharded::lock};

/// A denial that is not recorded by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// The id of the record that it is summed in.
    pub(crate) id: String,
    /// When the next one would be recorded by itself.
    pub(crate) wait: std::time::Duration,
}

/// The denials of one reason that were not recorded by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DenialSum {
    /// Who was denied; nobody where it is not known, or where there are too many to tell apart.
    pub(crate) worker: Option<Box<str>>,
    /// Where, for those who are not told apart.
    pub(crate) listener: Option<Box<str>>,
    pub(crate) code: Code,
    pub(crate) id: String,
    pub(crate) count: u64,
}

pub(crate) struct Denials {
    per_minute: NonZeroU32,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    workers: HashMap<Box<str>, Source>,
    listeners: HashMap<Box<str>, Source>,
}

/// Where denials come from.
#[derive(Default)]
struct Source {
    rate: Rate,
    /// By reason, of which there are few.
    sums: Vec<(Code, String, u64)>,
}

impl Denials {
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        Self { per_minute, watched: Mutex::default() }
    }

    /// Counts a denial; refused when it is to be summed instead of recorded.
    pub(crate) fn count(
        &self,
        worker: Option<&str>,
        listener: &str,
        code: Code,
        now: Moment,
    ) -> Result<(), Over> {
        let mut watched = lock(&self.watched);
        let source = watched.source(worker, listener);
        let Err(wait) = source.rate.take(self.per_minute, now.elapsed) else { return Ok(()) };
        Err(Over { id: source.sum(code, 1, None), wait })
    }

    /// Takes what has been summed, in order.
    pub(crate) fn take(&self) -> Vec<DenialSum> {
        let mut watched = lock(&self.watched);
        let Watched { workers, listeners } = &mut *watched;
        let mut all = Vec::new();
        for (worker, source) in workers {
            let sums = source.sums.drain(..);
            all.extend(sums.map(|(code, id, count)| DenialSum {
                worker: Some(worker.clone()),
                listener: None,
                code,
                id,
                count,
            }));
        }
        for (listener, source) in listeners {
            let sums = source.sums.drain(..);
            all.extend(sums.map(|(code, id, count)| DenialSum {
                worker: None,
                listener: Some(listener.clone()),
                code,
                id,
                count,
            }));
        }
        all.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// Puts back what could not be recorded.
    pub(crate) fn put_back(&self, sum: DenialSum) {
        let DenialSum { worker, listener, code, id, count } = sum;
        let mut watched = lock(&self.watched);
        let source = watched.source(worker.as_deref(), listener.as_deref().unwrap_or_default());
        source.sum(code, count, Some(id));
    }

    /// Forgets who has not been denied anything for long.
    pub(crate) fn sweep(&self, now: Moment) {
        let keep = |source: &Source| !source.sums.is_empty() || !source.rate.is_whole(now.elapsed);
        let mut watched = lock(&self.watched);
        watched.workers.retain(|_, source| keep(source));
        watched.listeners.retain(|_, source| keep(source));
    }
}

impl Watched {
    /// Where there are too many workers to tell apart, those that are left share their listener's.
    fn source(&mut self, worker: Option<&str>, listener: &str) -> &mut Source {
        let Self { workers, listeners } = self;
        let full = workers.len() >= WORKERS;
        let worker = worker.filter(|id| !full || workers.contains_key(*id));
        let (sources, name) = match worker {
            Some(id) => (workers, id),
            None => (listeners, listener),
        };
        if !sources.contains_key(name) {
            sources.insert(name.into(), Source::default());
        }
        sources.get_mut(name).expect("it is there by now")
    }
}

impl Source {
    /// Adds to the sum of a reason and returns its id; a new sum gets the one that is given.
    fn sum(&mut self, code: Code, more: u64, id: Option<String>) -> String {
        if let Some((_, id, count)) = self.sums.iter_mut().find(|(of, _, _)| *of == code) {
            *count += more;
            return id.clone();
        }
        let id = id.unwrap_or_else(|| Ulid::generate().to_string());
        self.sums.push((code, id.clone(), more));
        id
    }
}

/// Workers that are told apart.
const WORKERS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use egret_policy::Timestamp;

    use super::*;

    const CODE: Code = Code::RateLimited;

    fn at(seconds: u64) -> Moment {
        Moment { elapsed: Duration::from_secs(seconds), time: Timestamp::UNIX_EPOCH }
    }

    fn denials(per_minute: u32) -> Denials {
        Denials::new(NonZeroU32::new(per_minute).unwrap())
    }

    #[test]
    fn what_is_above_the_figure_is_summed_under_one_id() {
        let denials = denials(2);
        let count = |worker| denials.count(Some(worker), "l", CODE, at(0));
        assert_eq!((count("a"), count("a")), (Ok(()), Ok(())));
        let (third, fourth) = (count("a").unwrap_err(), count("a").unwrap_err());
        assert_eq!(third.id, fourth.id);
        assert_eq!(third.wait, Duration::from_secs(30));
        assert_eq!(count("b"), Ok(()), "nobody pays for another");

        let sums = denials.take();
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].worker.as_deref(), sums[0].count), (Some("a"), 2));
        assert_eq!(sums[0].id, third.id);
        assert!(denials.take().is_empty());
        assert_ne!(count("a").unwrap_err().id, third.id, "the next sum is another record");
    }

    #[test]
    fn who_is_not_known_is_summed_by_listener_and_reason() {
        let denials = denials(1);
        let count = |listener, code| denials.count(None, listener, code, at(0));
        assert_eq!(count("x", Code::IdentityRequired), Ok(()));
        assert_eq!(count("y", Code::IdentityRequired), Ok(()));
        for code in [Code::IdentityRequired, Code::IdentityInvalid] {
            assert!(count("x", code).is_err());
        }
        let codes: Vec<_> = denials.take().into_iter().map(|sum| sum.code).collect();
        assert_eq!(codes.len(), 2, "{codes:?}");
    }

    #[test]
    fn what_could_not_be_recorded_is_part_of_the_next_sum() {
        let denials = denials(1);
        let count = || denials.count(Some("a"), "l", CODE, at(0));
        count().unwrap();
        let over = count().unwrap_err();
        let sum = denials.take().remove(0);
        count().unwrap_err();
        denials.put_back(sum);
        let sums = denials.take();
        assert_eq!((sums.len(), sums[0].count), (1, 2));
        assert_ne!(sums[0].id, over.id);
    }

    #[test]
    fn who_has_been_quiet_for_a_minute_is_forgotten() {
        let denials = denials(60);
        denials.count(Some("a"), "l", CODE, at(0)).unwrap();
        denials.sweep(at(0));
        assert_eq!(lock(&denials.watched).workers.len(), 1);
        denials.sweep(at(1));
        assert_eq!(lock(&denials.watched).workers.len(), 0);
    }

    #[test]
    fn workers_beyond_the_bound_share_the_figure_of_their_listener() {
        let denials = denials(1);
        for worker in 0..WORKERS {
            denials.count(Some(&worker.to_string()), "l", CODE, at(0)).unwrap();
        }
        assert_eq!(denials.count(Some("late"), "l", CODE, at(0)), Ok(()));
        assert!(denials.count(Some("later"), "l", CODE, at(0)).is_err());
        let sums = denials.take();
        assert_eq!((sums.len(), sums[0].listener.as_deref()), (1, Some("l")));
    }
}
