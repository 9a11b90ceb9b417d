//! What runs beside the data path, until the drain has ended: the metrics, the reload, the service
//! manager.
//!
//! None of it ends by itself. What does is gone for good, and is not to be missed without a word
//! while the rest goes on: whoever waits is told which it was.

use std::{collections::HashMap, error::Error};

use tokio::task::{Id, JoinSet};

/// Tasks that egret cannot do without.
#[derive(Default)]
pub(super) struct Beside {
    tasks: JoinSet<()>,
    parts: HashMap<Id, &'static str>,
}

/// One of them has ended.
#[derive(Debug, thiserror::Error)]
#[error("what {part} has ended by itself")]
pub(super) struct Ended {
    part: &'static str,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Ended {
    pub(super) fn of(part: &'static str) -> Self {
        Self { part, source: None }
    }
}

impl Beside {
    /// Runs a task; `part` says what it does.
    pub(super) fn spawn(
        &mut self,
        part: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.parts.insert(self.tasks.spawn(task).id(), part);
    }

    /// Waits until one of them ends, for ever if none does.
    pub(super) async fn ended(&mut self) -> Ended {
        let (id, source) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => (id, None),
            Some(Err(error)) => (error.id(), Some(error.into())),
            None => std::future::pending().await,
        };
        Ended { part: self.parts.get(&id).copied().unwrap_or_default(), source }
    }

    /// Ends all of them.
    pub(super) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn whatever_ends_is_named_and_the_rest_goes_on() {
        let mut beside = Beside::default();
        beside.spawn("waits", pending());
        beside.spawn("returns", async {});
        assert_eq!(beside.ended().await.to_string(), "what returns has ended by itself");
        beside.spawn("panics", async { panic!("on purpose") });
        let ended = beside.ended().await;
        assert_eq!(ended.to_string(), "what panics has ended by itself");
        assert!(ended.source().unwrap().to_string().contains("on purpose"));
        assert_eq!(beside.tasks.len(), 1);
        beside.shutdown().await;
    }
}
