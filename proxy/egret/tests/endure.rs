//! What the real binary keeps under load and through faults: killed, out of room for its records,
//! with a policy that is replaced again and again, at the end of its life, and over time.
//!
//! Runs in a network namespace with origins and a name server of the test. Claims are exact, of
//! every single request: what was answered is on record, what an origin saw had been recorded
//! before, what was refused never got there. Rates are modest, so that two busy processors do;
//! nothing here says how fast egret is. `EGRET_SOAK_SECONDS` sets the length of the soak: 60 by
//! default, 600 for the long form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "endure/ledger.rs"]
mod ledger;
#[path = "endure/load.rs"]
mod load;
#[path = "endure/scene.rs"]
mod scene;
#[path = "endure/standing.rs"]
mod standing;

#[path = "endure/disk.rs"]
mod disk;
#[path = "endure/drain.rs"]
mod drain;
#[path = "endure/kill.rs"]
mod kill;
#[path = "endure/reload.rs"]
mod reload;
#[path = "endure/soak.rs"]
mod soak;

use std::{process::ExitCode, sync::Arc};

use egret_testkit::namespace::Namespace;
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use scene::Stage;

/// A name that states the claim, and how it is shown.
type Claim = (&'static str, fn(&Stage));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(status) => return status,
    };
    // A thousand tunnels have two ends here.
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    // Threads may start from here on.
    let stage = Arc::new(Stage::furnish(entered));
    let claims = [kill::CLAIMS, disk::CLAIMS, drain::CLAIMS, reload::CLAIMS, soak::CLAIMS].concat();
    let trials = claims.into_iter().map(|(name, run)| {
        let stage = stage.clone();
        Trial::test(name, move || {
            run(&stage);
            Ok(())
        })
    });
    // One network, one set of origins, and two processors: the trials take turns.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
