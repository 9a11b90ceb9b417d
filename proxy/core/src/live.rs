//! The one index of everything that is live, and the one call that cuts it.
//!
//! Every client connection and every exchange is entered here by worker and rule *before* its
//! rights are checked, so a revocation either finds the entry or is seen by the check: it cannot
//! fall between the two. Cutting cancels a token; whoever owns the sockets drops them with a
//! reset. The index holds no sockets and waits for nothing.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use egret_policy::{Authority, CredentialId, RuleId, Target, Timestamp, Worker, WorkerId};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    metrics::Metrics,
    record::ClosedBy,
    sharded::{Sharded, lock},
};

const SHARDS: usize = 32;

/// The index; one per proxy.
pub(crate) struct Live {
    shards: [Mutex<HashMap<u64, Entry>>; SHARDS],
    next: AtomicU64,
    /// Connections by worker, for `connections_per_worker`.
    by_worker: Sharded<WorkerId, Arc<AtomicUsize>>,
    metrics: Arc<Metrics>,
}

/// What an entry may do now, so that a new policy can decide it again. The peer is there once it
/// has been reached.
#[derive(Clone)]
pub(crate) enum Standing {
    /// Nothing is granted yet, or the connection is idle between two requests.
    Nothing,
    /// A tunnel; `selected` is what its first bytes were, once they are known.
    Tunnel {
        worker: Arc<Worker>,
        authority: Authority,
        peer: Option<SocketAddr>,
        selected: Option<Selected>,
    },
    /// A request under way.
    Request { asked: Arc<Asked>, peer: Option<SocketAddr> },
}

/// What a worker asked for, in canonical form.
pub(crate) struct Asked {
    pub(crate) worker: Arc<Worker>,
    pub(crate) method: Box<str>,
    pub(crate) target: Target,
}

/// What the first bytes of a tunnel were.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selected {
    /// A ClientHello; `named` when its server name is the host of the tunnel.
    Tls { named: bool, ech: bool },
    /// Plain HTTP, where each request stands for itself.
    Http,
    /// Anything else.
    Opaque,
}

struct Entry {
    cut: Cut,
    worker: Option<WorkerId>,
    rule: Option<RuleId>,
    credentials: Box<[CredentialId]>,
    standing: Standing,
    expires: Option<Timestamp>,
}

/// Whose entries a cut is about.
#[derive(Debug, Clone)]
pub enum Selector {
    /// Everything.
    All,
    /// Everything of one worker.
    Worker(WorkerId),
    /// Everything that one rule allowed.
    Rule(RuleId),
    /// Everything that carries one credential.
    Credential(CredentialId),
}

impl Live {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(0),
            by_worker: Sharded::new(),
            metrics,
        })
    }

    /// Enters something that `cut` can end.
    pub(crate) fn enter(self: &Arc<Self>, cut: &Cut) -> Registration {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            cut: cut.clone(),
            worker: None,
            rule: None,
            credentials: Box::default(),
            standing: Standing::Nothing,
            expires: None,
        };
        self.shard(id).insert(id, entry);
        Registration { live: self.clone(), id }
    }

    /// Counts a connection of `worker`; `None` when it has `limit` of them already.
    pub(crate) fn seat(self: &Arc<Self>, worker: &WorkerId, limit: usize) -> Option<Seat> {
        let mut counts = self.by_worker.of(worker);
        let count = counts.entry(worker.clone()).or_default().clone();
        // Under the shard's lock, so that a count is never dropped between look-up and increment.
        if count.load(Ordering::Relaxed) >= limit {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Some(Seat { live: self.clone(), worker: worker.clone(), count })
    }

    /// Cuts what `selector` names and returns how many entries that were.
    pub(crate) fn cut(&self, selector: &Selector, by: ClosedBy) -> usize {
        self.cut_where(by, |entry| match selector {
            Selector::All => true,
            Selector::Worker(worker) => entry.worker.as_ref() == Some(worker),
            Selector::Rule(rule) => entry.rule.as_ref() == Some(rule),
            Selector::Credential(credential) => entry.credentials.contains(credential),
        })
    }

    /// Cuts, by policy, all of the workers that are `gone`, and whatever stands where `lost` says
    /// that it may not any more.
    pub(crate) fn cut_losers(
        &self,
        gone: &HashSet<WorkerId>,
        lost: impl Fn(&Standing) -> bool,
    ) -> usize {
        self.cut_where(ClosedBy::Policy, |entry| {
            let is_gone = entry.worker.as_ref().is_some_and(|worker| gone.contains(worker));
            is_gone || lost(&entry.standing)
        })
    }

    /// Cuts every entry whose rule has expired by `now`.
    pub(crate) fn cut_expired(&self, now: Timestamp) -> usize {
        self.cut_where(ClosedBy::Policy, |entry| entry.expires.is_some_and(|at| at <= now))
    }

    fn cut_where(&self, by: ClosedBy, chosen: impl Fn(&Entry) -> bool) -> usize {
        let began = Instant::now();
        let mut cut = 0;
        for shard in &self.shards {
            for entry in lock(shard).values() {
                if chosen(entry) {
                    entry.cut.now(by);
                    self.metrics.cut.of(by).add(1);
                    cut += 1;
                }
            }
        }
        if cut > 0 {
            self.metrics.cutting.observe(began.elapsed());
        }
        cut
    }

    /// Returns how many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        lock(&self.shards[id as usize % SHARDS])
    }
}

/// Keeps an entry in the index until dropped.
pub(crate) struct Registration {
    live: Arc<Live>,
    id: u64,
}

impl Registration {
    /// Names the worker, before anybody checks what it may do.
    pub(crate) fn identify(&self, worker: &WorkerId) {
        self.change(|entry| entry.worker = Some(worker.clone()));
    }

    /// Records what was granted, before the grant is checked against the policy now in force.
    pub(crate) fn stand(
        &self,
        rule: Option<&RuleId>,
        credentials: &[CredentialId],
        standing: Standing,
    ) {
        self.change(|entry| {
            entry.rule = rule.cloned();
            entry.credentials = credentials.into();
            entry.standing = standing;
        });
    }

    /// Records when the rule that granted this ends. What is not known to have begun by then is
    /// checked by whoever begins it.
    pub(crate) fn until(&self, expires: Option<Timestamp>) {
        if expires.is_some() {
            self.change(|entry| entry.expires = expires);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.live.shard(self.id).get_mut(&self.id) {
            change(entry);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.live.shard(self.id).remove(&self.id);
    }
}

/// One counted connection of a worker.
pub(crate) struct Seat {
    live: Arc<Live>,
    worker: WorkerId,
    count: Arc<AtomicUsize>,
}

impl Seat {
    pub(crate) fn worker(&self) -> &WorkerId {
        &self.worker
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.live.by_worker.of(&self.worker);
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            counts.remove(&self.worker);
        }
    }
}

/// Ends one client connection and all that hangs on it; the first cause is the one recorded.
#[derive(Clone, Default)]
pub struct Cut(Arc<CutState>);

#[derive(Default)]
struct CutState {
    token: CancellationToken,
    by: OnceLock<ClosedBy>,
}

impl Cut {
    pub(crate) fn now(&self, by: ClosedBy) {
        // The cause is there before anybody can see the cancellation.
        let _ = self.0.by.set(by);
        self.0.token.cancel();
    }

    pub(crate) fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.0.token.clone().cancelled_owned()
    }

    /// Whether anybody has begun to cut.
    pub(crate) fn is_made(&self) -> bool {
        self.0.by.get().is_some()
    }

    /// Returns who cut, if anybody has.
    pub(crate) fn by(&self) -> Option<ClosedBy> {
        self.0.token.is_cancelled().then(|| self.0.by.get().copied()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str) -> WorkerId {
        WorkerId::parse(id).unwrap()
    }

    #[test]
    fn a_cut_reaches_the_worker_named_and_nobody_else() {
        let live = Live::new(Arc::default());
        let (first, second) = (Cut::default(), Cut::default());
        let (a, b) = (live.enter(&first), live.enter(&second));
        a.identify(&worker("a"));
        b.identify(&worker("b"));

        assert_eq!(live.cut(&Selector::Worker(worker("a")), ClosedBy::Revoked), 1);

        assert_eq!(first.by(), Some(ClosedBy::Revoked));
        assert_eq!(second.by(), None);
    }

    #[test]
    fn the_first_cause_is_kept() {
        let cut = Cut::default();
        cut.now(ClosedBy::Revoked);
        cut.now(ClosedBy::Drain);
        assert_eq!(cut.by(), Some(ClosedBy::Revoked));
    }

    #[test]
    fn what_has_expired_is_cut_and_what_has_not_is_not() {
        let live = Live::new(Arc::default());
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let cuts = [Cut::default(), Cut::default(), Cut::default()];
        let entries = [live.enter(&cuts[0]), live.enter(&cuts[1]), live.enter(&cuts[2])];
        entries[0].until(Some(at(10)));
        entries[1].until(Some(at(11)));

        assert_eq!(live.cut_expired(at(10)), 1);

        assert_eq!(cuts.map(|cut| cut.by()), [Some(ClosedBy::Policy), None, None]);
    }

    #[test]
    fn a_dropped_registration_leaves_nothing_behind() {
        let live = Live::new(Arc::default());
        let registration = live.enter(&Cut::default());
        registration.identify(&worker("a"));
        assert_eq!(live.len(), 1);
        drop(registration);
        assert_eq!(live.len(), 0);
        assert_eq!(live.cut(&Selector::All, ClosedBy::Drain), 0);
    }

    #[test]
    fn a_reload_cuts_by_policy_whoever_is_gone_and_whatever_has_lost() {
        let live = Live::new(Arc::default());
        let cuts = [Cut::default(), Cut::default(), Cut::default()];
        let entries = cuts.each_ref().map(|cut| live.enter(cut));
        for (entry, id) in entries.iter().zip(["gone", "lost", "kept"]) {
            entry.identify(&worker(id));
        }
        let authority = Authority::connect("a.test:443").unwrap();
        let lost = worker("lost");
        let worker = Arc::new(Worker { id: lost.clone(), labels: Default::default() });
        let tunnel = Standing::Tunnel { worker, authority, peer: None, selected: None };
        entries[1].stand(None, &[], tunnel);

        let gone = HashSet::from([WorkerId::parse("gone").unwrap()]);
        let has_lost = |standing: &Standing| match standing {
            Standing::Tunnel { worker, .. } => worker.id == lost,
            Standing::Nothing | Standing::Request { .. } => false,
        };
        assert_eq!(live.cut_losers(&gone, has_lost), 2);

        let policy = Some(ClosedBy::Policy);
        assert_eq!(cuts.map(|cut| cut.by()), [policy, policy, None]);
    }

    #[test]
    fn seats_are_limited_by_worker_and_given_back() {
        let live = Live::new(Arc::default());
        let seat = live.seat(&worker("a"), 1).unwrap();
        assert!(live.seat(&worker("a"), 1).is_none());
        assert!(live.seat(&worker("b"), 1).is_some());
        drop(seat);
        assert!(live.seat(&worker("a"), 1).is_some());
    }
}
