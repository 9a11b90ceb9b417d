//! One timer per connection, moved as seldom as possible.
//!
//! Deadlines mostly move later (every request pushes the idle one), so the timer is left where it
//! is and looks again when it fires. Only an earlier deadline moves it at once.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that may be asked about again and again.
#[derive(Debug, Default)]
pub(super) struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Is ready once the deadline has passed; the task is woken for that, or earlier.
    pub(super) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
