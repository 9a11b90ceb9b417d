//! The signals that `serve` listens to.
//!
//! Those that ask for the end come to a thread of their own, which needs neither the runtime of the
//! proxy nor the log nor a disk. Whatever else stands still, the second of them ends the process,
//! and the third does so at once.

use std::{io, process, thread, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

/// How long the process may take to end in good order once it was asked twice.
const ASKED_TWICE: Duration = Duration::from_secs(10);

/// The signals that ask for the end.
pub(super) struct Signals {
    names: mpsc::UnboundedReceiver<&'static str>,
}

impl Signals {
    /// From here on they no longer end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(entered);
        let (tell, names) = mpsc::unbounded_channel();
        let mut next = async move || {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            // Nobody asks any more where the end is under way.
            let _ = tell.send(name);
        };
        let ending = async move {
            next().await;
            next().await;
            let _ = timeout(ASKED_TWICE, next()).await;
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(ending);
            end();
        })?;
        Ok(Self { names })
    }

    /// Returns the name of the next one, if it has come.
    pub(super) fn asked(&mut self) -> Option<&'static str> {
        self.names.try_recv().ok()
    }

    /// Waits for the next one and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        match self.names.recv().await {
            Some(name) => name,
            // The thread is about to end all.
            None => std::future::pending().await,
        }
    }
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "what stands still cannot be asked to return"
)]
fn end() -> ! {
    process::exit(1)
}

/// Listens for the signal that asks for a reload: without anybody who does, it ends the process. One
/// that comes before anybody waits for it is kept.
pub(super) fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
