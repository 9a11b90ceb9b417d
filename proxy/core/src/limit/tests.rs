use std::time::Duration;

use egret_policy::Timestamp;

use super::*;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        at(0).time
    }
}

/// Some seconds after a noon.
fn at(seconds: u64) -> Moment {
    let noon = Timestamp::from_second(20_000 * 86_400 + 43_200).unwrap();
    Moment { elapsed: Duration::from_secs(seconds), time: noon + Duration::from_secs(seconds) }
}

fn worker(id: &str) -> WorkerId {
    WorkerId::parse(id).unwrap()
}

fn rule(id: &str) -> RuleId {
    RuleId::parse(id).unwrap()
}

/// A policy whose rule `counted` has these limits, and whose rule `other` has one tunnel.
fn policy(limits: &str) -> Policy {
    let text = format!(
        "version = 1
        [[rule]]
        id = 'counted'
        effect = 'allow'
        hosts = ['a.test']
        limits = {{ {limits} }}
        [[rule]]
        id = 'other'
        effect = 'allow'
        hosts = ['b.test']
        limits = {{ tunnels = 1 }}"
    );
    Policy::load(&text).policy.unwrap()
}

struct Ledger {
    accounts: Accounts,
}

impl Ledger {
    fn under(limits: &str) -> Self {
        Self::after(limits, vec![])
    }

    fn after(limits: &str, before: Vec<Used>) -> Self {
        Self { accounts: Accounts::new(Arc::new(policy(limits)), Arc::new(Noon), before) }
    }

    fn reload(&self, limits: &str) {
        let policy = Arc::new(policy(limits));
        self.accounts.figure(&policy);
    }

    fn limits(&self, id: &str) -> RuleLimits {
        self.accounts.in_force.load().limits(&rule(id)).unwrap().clone()
    }

    fn request(&self, who: &str, now: Moment) -> Result<Option<Budget>, Reached> {
        let (id, limits) = (rule("counted"), self.limits("counted"));
        self.accounts.request(&worker(who), (Some(&id), &limits), || now).map_err(limit)
    }

    fn tunnel(&self, id: &str) -> Result<Option<(TunnelSeat, Budget)>, Reached> {
        let limits = self.limits(id);
        self.accounts.tunnel(&worker("w"), (Some(&rule(id)), &limits), || at(0)).map_err(limit)
    }

    fn look(&self, ids: &[&str]) -> Result<(), Reached> {
        let all: Vec<_> = ids.iter().map(|id| (rule(id), self.limits(id))).collect();
        let outcomes = all.iter().map(|(id, limits)| (Some(id), limits));
        self.accounts.look(&worker("w"), outcomes, at(0)).map_err(limit)
    }

    fn len(&self) -> usize {
        self.accounts.accounts.all().map(|shard| shard.len()).sum()
    }
}

fn limit(error: LimitError) -> Reached {
    match error {
        LimitError::Reached { limit, .. } => limit,
        LimitError::NoAccount => panic!("there is room for another account"),
    }
}

#[test]
fn workers_share_nothing() {
    let ledger = Ledger::under("requests_per_minute = 1");
    assert!(ledger.request("a", at(0)).is_ok());
    assert_eq!(ledger.request("a", at(0)).err(), Some(Reached::Requests(Duration::from_secs(60))));
    assert!(ledger.request("b", at(0)).is_ok());
    assert!(ledger.request("a", at(60)).is_ok());
}

#[test]
fn rules_that_count_nothing_have_no_account() {
    let ledger = Ledger::under("max_response_bytes = 5");
    assert!(ledger.request("a", at(0)).unwrap().is_none());
    let nothing = RuleLimits::default();
    assert!(ledger.accounts.request(&worker("a"), (None, &nothing), || at(0)).unwrap().is_none());
    assert_eq!(ledger.len(), 0);
}

#[test]
fn a_seat_is_free_again_when_its_tunnel_has_ended() {
    let ledger = Ledger::under("tunnels = 2");
    let (first, _second) = (ledger.tunnel("counted").unwrap(), ledger.tunnel("counted").unwrap());
    assert_eq!(ledger.tunnel("counted").err(), Some(Reached::Tunnels));
    drop(first);
    assert!(ledger.tunnel("counted").is_ok());
}

#[test]
fn a_tunnel_that_is_refused_its_request_keeps_no_seat() {
    let ledger = Ledger::under("tunnels = 1, requests_per_minute = 1");
    drop(ledger.tunnel("counted").unwrap());
    assert!(matches!(ledger.tunnel("counted").err(), Some(Reached::Requests(_))));
    ledger.reload("tunnels = 1");
    assert!(ledger.tunnel("counted").is_ok());
}

#[test]
fn a_connect_is_refused_when_everything_it_may_become_is_at_its_limit() {
    let ledger = Ledger::under("tunnels = 1");
    assert_eq!(ledger.look(&["counted", "other"]), Ok(()));
    let counted = ledger.tunnel("counted").unwrap();
    assert_eq!(ledger.look(&["counted", "counted"]), Err(Reached::Tunnels));
    assert_eq!(ledger.look(&["counted", "other"]), Ok(()));
    let _other = ledger.tunnel("other").unwrap();
    assert_eq!(ledger.look(&["counted", "other"]), Err(Reached::Tunnels));
    drop(counted);
    assert_eq!(ledger.look(&["counted", "other"]), Ok(()));
    assert_eq!(ledger.look(&[]), Ok(()));
}

#[test]
fn bytes_are_drawn_each_way_and_refuse_what_is_new_when_they_are_gone() {
    let ledger = Ledger::under("bytes_up_per_day = 10, bytes_down_per_day = 20");
    let budget = ledger.request("w", at(0)).unwrap().unwrap();
    assert_eq!((budget.draw_up(7), budget.draw_down(15)), (7, 15));
    let second = ledger.request("w", at(0)).unwrap().unwrap();
    assert_eq!((second.draw_up(7), second.draw_down(5)), (3, 5));
    assert_eq!(budget.draw_down(1), 0);
    let noon = Duration::from_secs(43_200);
    assert_eq!(ledger.request("w", at(0)).err(), Some(Reached::Budget(noon)));
    assert!(ledger.request("v", at(0)).is_ok());
    assert!(ledger.request("w", at(43_200)).is_ok(), "the next day begins anew");
}

#[test]
fn a_reload_keeps_what_was_used_and_changes_what_is_live() {
    let ledger = Ledger::under("bytes_up_per_day = 100, requests_per_minute = 2");
    let budget = ledger.request("w", at(0)).unwrap().unwrap();
    assert_eq!(budget.draw_up(60), 60);
    ledger.reload("bytes_up_per_day = 70, requests_per_minute = 4");
    assert_eq!(budget.draw_up(60), 10);
    ledger.reload("bytes_up_per_day = 200, requests_per_minute = 4");
    assert_eq!(budget.draw_up(60), 60);
    // Half of the burst was taken, and half of four is two.
    assert!(ledger.request("w", at(0)).is_ok() && ledger.request("w", at(0)).is_ok());
    assert!(matches!(ledger.request("w", at(0)).err(), Some(Reached::Requests(_))));
}

#[test]
fn an_account_made_for_an_older_decision_has_the_figures_in_force() {
    let ledger = Ledger::under("tunnels = 2");
    let (id, decided) = (rule("counted"), ledger.limits("counted"));
    ledger.reload("tunnels = 1");
    let tunnel = || ledger.accounts.tunnel(&worker("w"), (Some(&id), &decided), || at(0));
    let _first = tunnel().unwrap();
    assert!(tunnel().is_err());
}

#[test]
fn day_budgets_go_on_where_they_were() {
    let ledger = Ledger::under("bytes_up_per_day = 10, bytes_down_per_day = 20");
    let budget = ledger.request("w", at(0)).unwrap().unwrap();
    assert_eq!((budget.draw_up(7), budget.draw_down(15)), (7, 15));
    let used = ledger.accounts.used(at(0));
    let entry = Used {
        worker: worker("w"),
        rule: rule("counted"),
        day: Day::of(at(0).time),
        up: 7,
        down: 15,
    };
    assert_eq!(used, std::slice::from_ref(&entry));
    assert_eq!(ledger.accounts.used(at(43_200)), [], "tomorrow it is no longer of use");

    let gone = Used { rule: rule("gone"), ..entry };
    let next = Ledger::after("bytes_up_per_day = 10", [used, vec![gone.clone()]].concat());
    let budget = next.request("w", at(0)).unwrap().unwrap();
    assert_eq!(budget.draw_up(7), 3);
    assert!(next.accounts.used(at(0)).contains(&gone), "its rule may come back");
    assert!(next.request("w", at(0)).is_err());
    assert!(next.request("w", at(43_200)).is_ok());
}

#[test]
fn only_what_is_as_good_as_new_is_dropped() {
    let ledger = Ledger::under("requests_per_minute = 60, bytes_up_per_day = 10, tunnels = 5");
    let budget = ledger.request("asked", at(0)).unwrap().unwrap();
    ledger.request("drew", at(0)).unwrap().unwrap().draw_up(1);
    let seat = ledger.tunnel("counted").unwrap();
    assert_eq!(ledger.len(), 3);
    ledger.accounts.sweep(at(0));
    assert_eq!(ledger.len(), 3, "bursts are not whole");
    ledger.accounts.sweep(at(1));
    assert_eq!(ledger.len(), 3, "two are held and one has drawn");
    drop((budget, seat));
    ledger.accounts.sweep(at(1));
    assert_eq!(ledger.len(), 1, "the one that has drawn today");
    ledger.accounts.sweep(at(43_200));
    assert_eq!(ledger.len(), 0);
}

#[test]
fn above_the_bound_what_needs_another_account_is_refused() {
    let mut ledger = Ledger::under("requests_per_minute = 2");
    ledger.accounts.most = 2;
    assert!(ledger.request("a", at(0)).is_ok() && ledger.request("b", at(0)).is_ok());
    let (id, limits) = (rule("counted"), ledger.limits("counted"));
    let third = |now| ledger.accounts.request(&worker("c"), (Some(&id), &limits), || now);
    assert_eq!(third(at(0)).err(), Some(LimitError::NoAccount));
    assert!(ledger.request("a", at(0)).is_ok(), "who has one goes on");
    ledger.accounts.sweep(at(120));
    assert!(third(at(120)).is_ok(), "and there is room when others are done");
}
