//! What is done every ten seconds, and once more at the end: sums of denials are recorded, day
//! budgets saved, and accounts dropped that nobody needs.
//!
//! Nothing waits for this, and nothing of it can refuse an exchange. What fails is said and tried
//! again the next time.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{BudgetStore, Used};
use crate::{proxy::Shared, record};

const EVERY: Duration = Duration::from_secs(10);

/// Keeps the counts until `ended`; all that was counted by then is saved and recorded on return.
pub(crate) async fn keep(
    shared: Arc<Shared>,
    store: Arc<dyn BudgetStore>,
    ended: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut saved = shared.accounts.used(shared.moment());
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = ended.cancelled() => true,
        };
        record_denials(&shared).await;
        save(&shared, &store, &mut saved).await;
        let now = shared.moment();
        shared.accounts.sweep(now);
        shared.denials.sweep(now);
        if last {
            return;
        }
    }
}

async fn record_denials(shared: &Shared) {
    for sum in shared.denials.take() {
        if let Err(error) = record::summed(&shared.recorder, &*shared.clock, &sum).await {
            tracing::error!(%error, count = sum.count, "denials could not be recorded");
            shared.denials.put_back(sum);
        }
    }
}

/// Saves what was used of day budgets, if that has changed.
async fn save(shared: &Shared, store: &Arc<dyn BudgetStore>, saved: &mut Vec<Used>) {
    let used = shared.accounts.used(shared.moment());
    if used == *saved {
        return;
    }
    let (store, using) = (store.clone(), used.clone());
    match spawn_blocking(move || store.save(&using)).await {
        Ok(Ok(())) => *saved = used,
        Ok(Err(error)) => tracing::error!(%error, "save the day budgets"),
        Err(error) => tracing::error!(%error, "save the day budgets"),
    }
}
