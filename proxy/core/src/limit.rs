//! Counts what the limits of rules speak of: requests, open tunnels and bytes of a day, each for
//! one worker under one rule.
//!
//! The accounts stand beside the policy, so a reload keeps them; a changed figure holds at once,
//! for what is live too. An account is made when a rule that counts is first used, so the first
//! limit of a rule that had none holds from the next exchange on, and dropped when forgetting it
//! changes nothing. There is a bound on them: above it what needs another one
//! is refused. Nothing here waits, and bytes are charged without a lock.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use egret_policy::{Policy, RuleId, RuleLimits, WorkerId};

use self::account::Account;
pub use self::day::Day;
pub(crate) use self::{
    account::{Budget, Moment, Reached, TunnelSeat},
    denials::{DenialSum, Denials, Over},
    keep::{keep, save},
};
use crate::{clock::Clock, seldom::Seldom, sharded::Sharded};

mod account;
mod day;
mod denials;
mod keep;
mod rate;

/// Where what was used of day budgets is kept for the next start.
///
/// What is saved may be some seconds old, which lets that much pass again after a crash. A store
/// that loses what it was given lets whole budgets pass again, so one that cannot be read must
/// refuse the start.
pub trait BudgetStore: Send + Sync {
    /// Replaces what is kept by `used`, as a whole or not at all. May block.
    fn save(&self, used: &[Used]) -> io::Result<()>;
}

/// What one worker has used of the day budgets of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The worker.
    pub worker: WorkerId,
    /// The rule.
    pub rule: RuleId,
    /// The day.
    pub day: Day,
    /// Bytes from the worker.
    pub up: u64,
    /// Bytes to the worker.
    pub down: u64,
}

/// Why an exchange or a tunnel may not go on now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// A limit of the rule was reached.
    #[error("a limit of rule `{rule}` was reached")]
    Reached { rule: RuleId, limit: Reached },
    /// There is no room to count for another worker and rule.
    #[error("no room for another account")]
    NoAccount,
}

/// All accounts; one of it per proxy.
pub(crate) struct Accounts {
    in_force: ArcSwap<Policy>,
    clock: Arc<dyn Clock>,
    accounts: Sharded<Key, Arc<Account>>,
    count: AtomicUsize,
    most: usize,
}

type Key = (WorkerId, RuleId);

impl Accounts {
    /// Continues with what was used before; the figures are those of the policy in force.
    pub(crate) fn new(policy: Arc<Policy>, clock: Arc<dyn Clock>, before: Vec<Used>) -> Self {
        let accounts = Self {
            in_force: ArcSwap::new(policy),
            clock,
            accounts: Sharded::new(),
            count: AtomicUsize::new(0),
            most: MOST,
        };
        let policy = accounts.in_force.load();
        for Used { worker, rule, day, up, down } in before {
            // Of a rule that is not there now the bytes are kept: it may come back today.
            let limits = policy.limits(&rule).cloned().unwrap_or_default();
            let key = (worker, rule);
            let account = Arc::new(Account::restored(&limits, day, up, down));
            if accounts.accounts.of(&key).insert(key, account).is_none() {
                accounts.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(policy);
        accounts
    }

    /// Counts a request under the rule that allows it, and returns the budget that its bytes draw
    /// on. Without a rule, or under one that counts nothing, there is neither, and no clock is read.
    pub(crate) fn request(
        &self,
        worker: &WorkerId,
        (rule, limits): (Option<&RuleId>, &RuleLimits),
        now: impl FnOnce() -> Moment,
    ) -> Result<Option<Budget>, LimitError> {
        let Some(rule) = rule.filter(|_| limits.are_counted()) else { return Ok(None) };
        let account = self.account(worker, rule, limits)?;
        account.request(now()).map_err(|limit| reached(rule, limit))?;
        Ok(Some(Budget::new(account, self.clock.clone())))
    }

    /// Takes the seat of a tunnel and counts it as a request, as above.
    pub(crate) fn tunnel(
        &self,
        worker: &WorkerId,
        (rule, limits): (Option<&RuleId>, &RuleLimits),
        now: impl FnOnce() -> Moment,
    ) -> Result<Option<(TunnelSeat, Budget)>, LimitError> {
        let Some(rule) = rule.filter(|_| limits.are_counted()) else { return Ok(None) };
        let account = self.account(worker, rule, limits)?;
        let seat = account.clone().seat().map_err(|limit| reached(rule, limit))?;
        account.request(now()).map_err(|limit| reached(rule, limit))?;
        Ok(Some((seat, Budget::new(account, self.clock.clone()))))
    }

    /// Takes the seat of a tunnel in which each request will be counted for itself.
    pub(crate) fn seat(
        &self,
        worker: &WorkerId,
        (rule, limits): (Option<&RuleId>, &RuleLimits),
    ) -> Result<Option<TunnelSeat>, LimitError> {
        let Some(rule) = rule.filter(|_| limits.are_counted()) else { return Ok(None) };
        let seat = self.account(worker, rule, limits)?.seat();
        seat.map(Some).map_err(|limit| reached(rule, limit))
    }

    /// Says whether a tunnel could go on under any of what it may turn out to be, and counts
    /// nothing: as long as it has not been opened there is a status to refuse it with.
    pub(crate) fn look<'a>(
        &self,
        worker: &WorkerId,
        outcomes: impl Iterator<Item = (Option<&'a RuleId>, &'a RuleLimits)>,
        now: Moment,
    ) -> Result<(), LimitError> {
        let mut refused = Ok(());
        for (rule, limits) in outcomes {
            let Some(rule) = rule.filter(|_| limits.are_counted()) else { return Ok(()) };
            let key = (worker.clone(), rule.clone());
            let account = self.accounts.of(&key).get(&key).cloned();
            match account.map_or(Ok(()), |account| account.look(now)) {
                Ok(()) => return Ok(()),
                Err(limit) => refused = refused.and(Err(reached(rule, limit))),
            }
        }
        refused
    }

    /// Puts the figures of `policy` in force. Of a rule that it does not have the old ones stay, for
    /// what may still be live.
    pub(crate) fn figure(&self, policy: &Arc<Policy>) {
        self.in_force.store(policy.clone());
        for shard in self.accounts.all() {
            for ((_, rule), account) in shard.iter() {
                if let Some(limits) = policy.limits(rule) {
                    account.figure(limits);
                }
            }
        }
    }

    /// Drops what is as good as new and in nobody's hands.
    pub(crate) fn sweep(&self, now: Moment) {
        for mut shard in self.accounts.all() {
            let before = shard.len();
            // Clones are made under this lock, so a sole owner stays one.
            shard.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle(now));
            self.count.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }

    /// Returns what was used today, in the order of worker and rule.
    pub(crate) fn used(&self, now: Moment) -> Vec<Used> {
        let today = now.day();
        let mut all = Vec::new();
        for shard in self.accounts.all() {
            for ((worker, rule), account) in shard.iter() {
                let (up, down) = account.used(today);
                if (up, down) != (0, 0) {
                    let (worker, rule) = (worker.clone(), rule.clone());
                    all.push(Used { worker, rule, day: today, up, down });
                }
            }
        }
        all.sort_unstable_by(|one, other| {
            (&one.worker, &one.rule).cmp(&(&other.worker, &other.rule))
        });
        all
    }

    fn account(
        &self,
        worker: &WorkerId,
        rule: &RuleId,
        decided: &RuleLimits,
    ) -> Result<Arc<Account>, LimitError> {
        let key = (worker.clone(), rule.clone());
        let mut shard = self.accounts.of(&key);
        if let Some(account) = shard.get(&key) {
            return Ok(account.clone());
        }
        let room = |count| (count < self.most).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            static NO_ROOM: Seldom = Seldom::new();
            if let Some(unsaid) = NO_ROOM.due() {
                let accounts = self.most;
                tracing::error!(accounts, unsaid, "no room to count for another worker and rule");
            }
            return Err(LimitError::NoAccount);
        }
        // Under the shard's lock: a policy that comes into force now is either the one asked, or
        // finds the account when it brings its figures.
        let policy = self.in_force.load();
        let account = Arc::new(Account::new(policy.limits(rule).unwrap_or(decided)));
        shard.insert(key, account.clone());
        Ok(account)
    }
}

fn reached(rule: &RuleId, limit: Reached) -> LimitError {
    LimitError::Reached { rule: rule.clone(), limit }
}

/// About 20 MB of them. Both halves of a key are the operator's: a worker cannot make one up.
const MOST: usize = 1 << 16;

#[cfg(test)]
mod tests;
