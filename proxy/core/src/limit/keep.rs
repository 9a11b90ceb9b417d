//! What is done every ten seconds, and once more at the end: sums of denials are recorded and
//! accounts dropped that nobody needs; and apart from that, since a disk may stand still under it,
//! day budgets are saved.
//!
//! Nothing waits for this, and nothing of it can refuse an exchange. What fails is said and tried
//! again the next time; what fails at the end is for whoever ends the proxy to tell.

use std::{io, iter, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{BudgetStore, DenialSum, Denials, Used};
use crate::{
    caused::caused,
    proxy::{Budgets, Shared},
    record::{self, RecordError},
};

const EVERY: Duration = Duration::from_secs(10);

/// Records sums of denials and drops what nobody needs until `ended`; all that was denied by then
/// is recorded on return.
pub(crate) async fn keep(shared: Arc<Shared>, ended: CancellationToken) {
    let mut ticks = ticks();
    loop {
        let last = is_last(&mut ticks, &ended).await;
        record_denials(&shared).await;
        let now = shared.moment();
        shared.accounts.sweep(now);
        shared.denials.sweep(now);
        if last {
            return;
        }
    }
}

/// Saves the day budgets until `ended`; all that was used by then is saved on return, or is not for
/// this reason. A save begins when the one before has ended, however long that takes.
pub(crate) async fn save(
    shared: Arc<Shared>,
    budgets: Budgets,
    ended: CancellationToken,
) -> io::Result<()> {
    let Budgets { used: mut saved, store } = budgets;
    let mut ticks = ticks();
    loop {
        let last = is_last(&mut ticks, &ended).await;
        let done = save_changed(&shared, &store, &mut saved).await;
        if last {
            return done;
        }
        if let Err(error) = done {
            tracing::error!(error = %caused(&error), "save the day budgets");
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next round; whether it is the last.
async fn is_last(ticks: &mut Interval, ended: &CancellationToken) -> bool {
    tokio::select! {
        _ = ticks.tick() => false,
        () = ended.cancelled() => true,
    }
}

async fn record_denials(shared: &Shared) {
    let Shared { denials, recorder, clock, .. } = shared;
    let summed = |sum: DenialSum| async move { record::summed(recorder, &**clock, &sum).await };
    if let Err(Unrecorded { denials, source: error }) = record_each(denials, summed).await {
        tracing::error!(error = %caused(&error), denials, "denials could not be recorded");
    }
}

/// What is summed on, and why.
struct Unrecorded {
    denials: u64,
    source: RecordError,
}

/// Records what is summed. One failure stands for all: the next would wait as long, and nothing of
/// it is lost as long as it stays summed.
async fn record_each<F: Future<Output = Result<(), RecordError>>>(
    denials: &Denials,
    mut record: impl FnMut(DenialSum) -> F,
) -> Result<(), Unrecorded> {
    let mut sums = denials.take().into_iter();
    while let Some(sum) = sums.next() {
        let Err(source) = record(sum.clone()).await else { continue };
        let mut unrecorded = 0;
        for sum in iter::once(sum).chain(sums) {
            unrecorded += sum.count;
            denials.put_back(sum);
        }
        return Err(Unrecorded { denials: unrecorded, source });
    }
    Ok(())
}

/// Saves what was used of day budgets, if that has changed.
async fn save_changed(
    shared: &Shared,
    store: &Arc<dyn BudgetStore>,
    saved: &mut Vec<Used>,
) -> io::Result<()> {
    let used = shared.accounts.used(shared.moment());
    if used == *saved {
        return Ok(());
    }
    let (store, using) = (store.clone(), used.clone());
    spawn_blocking(move || store.save(&using)).await.unwrap_or_else(|error| Err(error.into()))?;
    *saved = used;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use egret_policy::Timestamp;

    use super::*;
    use crate::{limit::Moment, refusal::Code};

    /// Three workers with two denials each that have no record of their own.
    fn summed() -> Denials {
        let denials = Denials::new(NonZeroU32::MIN);
        let now = Moment { elapsed: Duration::ZERO, time: Timestamp::UNIX_EPOCH };
        for worker in ["a", "b", "c"] {
            for _ in 0..3 {
                let _ = denials.count(Some(worker), "l", Code::RateLimited, now);
            }
        }
        denials
    }

    #[tokio::test]
    async fn records_that_cannot_be_written_are_tried_once_for_all_sums() {
        let denials = summed();
        let mut tries = 0;
        let Unrecorded { denials: told, source: _ } = record_each(&denials, |_| {
            tries += 1;
            std::future::ready(if tries == 1 { Ok(()) } else { Err(RecordError::Failing) })
        })
        .await
        .unwrap_err();
        assert_eq!((tries, told), (2, 4));
        let left: Vec<_> = denials.take().iter().map(|sum| sum.count).collect();
        assert_eq!(left, [2, 2], "what was not recorded stays summed");
    }
}
