//! What one worker has used under one rule.
//!
//! All of it is words that are changed one at a time, without a lock. The figures are in here and
//! not in the permit, so that a new policy changes them for what is live as well. An account says
//! which limit was reached; whose it is and what is answered is for others to know.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use egret_policy::{RuleLimits, Timestamp};

use super::{
    day::{Day, DayBytes, MOST},
    rate::Rate,
};
use crate::clock::Clock;

/// Two clocks read at once: one that only goes forward, and the time of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Since the counting began.
    pub(crate) elapsed: Duration,
    pub(crate) time: Timestamp,
}

impl Moment {
    pub(super) fn day(self) -> Day {
        Day::of(self.time)
    }
}

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// `requests_per_minute`; another one may go on after this time.
    Requests(Duration),
    /// `tunnels`: nobody knows when one will end.
    Tunnels,
    /// A day budget; the next day begins after this time.
    Budget(Duration),
}

#[derive(Debug)]
pub(crate) struct Account {
    figures: Figures,
    requests: Rate,
    tunnels: AtomicU32,
    up: DayBytes,
    down: DayBytes,
}

/// The figures in force; each has a value that stands for none.
#[derive(Debug)]
struct Figures {
    requests_per_minute: AtomicU32,
    tunnels: AtomicU32,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Account {
    pub(super) fn new(limits: &RuleLimits) -> Self {
        Self::with(limits, DayBytes::default(), DayBytes::default())
    }

    /// An account of a process that has ended.
    pub(super) fn restored(limits: &RuleLimits, day: Day, up: u64, down: u64) -> Self {
        Self::with(limits, DayBytes::restored(day, up), DayBytes::restored(day, down))
    }

    fn with(limits: &RuleLimits, up: DayBytes, down: DayBytes) -> Self {
        let account = Self {
            figures: Figures {
                requests_per_minute: AtomicU32::new(0),
                tunnels: AtomicU32::new(NO_COUNT),
                bytes_up: AtomicU64::new(NO_BYTES),
                bytes_down: AtomicU64::new(NO_BYTES),
            },
            requests: Rate::default(),
            tunnels: AtomicU32::new(0),
            up,
            down,
        };
        account.figure(limits);
        account
    }

    /// Puts other figures in force; what was used stays used.
    pub(super) fn figure(&self, limits: &RuleLimits) {
        let Figures { requests_per_minute, tunnels, bytes_up, bytes_down } = &self.figures;
        requests_per_minute.store(limits.requests_per_minute.unwrap_or(0), Ordering::Relaxed);
        tunnels.store(limits.tunnels.unwrap_or(NO_COUNT), Ordering::Relaxed);
        let budget = |bytes: Option<u64>| bytes.map_or(NO_BYTES, |bytes| bytes.min(MOST));
        bytes_up.store(budget(limits.bytes_up_per_day), Ordering::Relaxed);
        bytes_down.store(budget(limits.bytes_down_per_day), Ordering::Relaxed);
    }

    /// Counts one request, if there are bytes left for it.
    pub(super) fn request(&self, now: Moment) -> Result<(), Reached> {
        self.bytes_left(now)?;
        match self.requests_per_minute() {
            Some(figure) => self.requests.take(figure, now.elapsed).map_err(Reached::Requests),
            None => Ok(()),
        }
    }

    /// Says whether a tunnel could be opened, and counts nothing.
    pub(super) fn look(&self, now: Moment) -> Result<(), Reached> {
        self.bytes_left(now)?;
        if let Some(figure) = self.requests_per_minute() {
            self.requests.look(figure, now.elapsed).map_err(Reached::Requests)?;
        }
        let (open, most) =
            (self.tunnels.load(Ordering::Relaxed), self.figures.tunnels.load(Ordering::Relaxed));
        if open < most { Ok(()) } else { Err(Reached::Tunnels) }
    }

    /// Takes the seat of one tunnel; it is given back when what is returned is dropped.
    pub(super) fn seat(self: Arc<Self>) -> Result<TunnelSeat, Reached> {
        let most = self.figures.tunnels.load(Ordering::Relaxed);
        let open = |open: u32| (open < most).then_some(open + 1);
        match self.tunnels.fetch_update(Ordering::Relaxed, Ordering::Relaxed, open) {
            Ok(_) => Ok(TunnelSeat(self)),
            Err(_) => Err(Reached::Tunnels),
        }
    }

    fn requests_per_minute(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.figures.requests_per_minute.load(Ordering::Relaxed))
    }

    fn bytes_left(&self, now: Moment) -> Result<(), Reached> {
        let today = now.day();
        let spent = |bytes: &DayBytes, figure: &AtomicU64| {
            let figure = figure.load(Ordering::Relaxed);
            figure != NO_BYTES && bytes.used(today) >= figure
        };
        if spent(&self.up, &self.figures.bytes_up) || spent(&self.down, &self.figures.bytes_down) {
            return Err(Reached::Budget(today.left(now.time)));
        }
        Ok(())
    }

    /// Returns what was used today, up and down.
    pub(super) fn used(&self, today: Day) -> (u64, u64) {
        (self.up.used(today), self.down.used(today))
    }

    /// Whether forgetting it changes nothing: as a new one is, if nobody else holds it.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.requests.is_whole(now.elapsed) && self.used(now.day()) == (0, 0)
    }
}

/// One open tunnel of a worker under a rule.
#[derive(Debug)]
pub(crate) struct TunnelSeat(Arc<Account>);

impl Drop for TunnelSeat {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The day budgets that one exchange draws on.
pub(crate) struct Budget {
    account: Arc<Account>,
    clock: Arc<dyn Clock>,
}

impl Budget {
    pub(super) fn new(account: Arc<Account>, clock: Arc<dyn Clock>) -> Self {
        Self { account, clock }
    }

    /// Draws on the budget for bytes from the worker, before they are passed on. Returns how many
    /// may be: fewer than asked for only where the budget ends.
    pub(crate) fn draw_up(&self, bytes: u64) -> u64 {
        self.draw(&self.account.up, &self.account.figures.bytes_up, bytes)
    }

    /// Draws on the budget for bytes to the worker, in the same way.
    pub(crate) fn draw_down(&self, bytes: u64) -> u64 {
        self.draw(&self.account.down, &self.account.figures.bytes_down, bytes)
    }

    /// Returns how long it is until the budget begins anew.
    pub(crate) fn next_day(&self) -> Duration {
        let now = self.clock.now();
        Day::of(now).left(now)
    }

    fn draw(&self, used: &DayBytes, figure: &AtomicU64, bytes: u64) -> u64 {
        match figure.load(Ordering::Relaxed) {
            NO_BYTES => bytes,
            budget => used.draw(Day::of(self.clock.now()), budget, bytes),
        }
    }
}

const NO_COUNT: u32 = u32::MAX;
const NO_BYTES: u64 = u64::MAX;
