//! A kind of forward proxy that cases can be played against.

use std::{io, net::SocketAddr, path::Path, process::Command, time::Duration};

use egret_testkit::{pki::Files, proxy::Ready};
use rustix::process::Signal;

use crate::{
    case::{
        Policy,
        config::{Change, Settings},
    },
    load::Tuning,
};

pub use self::{
    egret::{Egret, Interception},
    template::{Template, Unusable, known},
};

mod egret;
mod template;

/// What a proxy's adapter has to know to start it.
#[derive(Debug)]
pub struct Setup<'a> {
    /// A private folder, empty at each start.
    pub directory: &'a Path,
    /// The policy of the corpus to express.
    pub policy: Policy,
    /// What the case has set up otherwise.
    pub settings: &'a Settings,
    /// Certificates: the root of the origins, and a CA to intercept with.
    pub certificates: &'a Files,
}

/// Knows how one proxy is configured and started.
pub trait Target: Send + Sync {
    /// Whether this proxy, so configured, has a feature, by its word in `requires`.
    fn has(&self, feature: &str) -> bool;

    /// Returns the name it writes in `Via`; `None` where it writes none and cannot see a loop.
    fn via(&self) -> Option<&str>;

    /// Whether [`Target::command`] can say what these settings say.
    fn expresses(&self, settings: &Settings) -> bool;

    /// Returns lines that an origin would send to pass its own answer off as this proxy's verdict.
    fn forgeries(&self) -> Vec<&str>;

    /// Returns for how long it keeps a tunnel in which nothing moves, as configured here; `None`
    /// where that is not known.
    fn idle_timeout(&self) -> Option<Duration>;

    /// Whether it may remember what a name resolved to, so that it must be started again when a
    /// case changes a name. Saying yes without need only costs time.
    fn caches_names(&self) -> bool;

    /// Writes the configuration and returns the command.
    fn command(&self, setup: &Setup<'_>) -> io::Result<Command>;

    /// Writes the configuration under limits for a load case and returns the command; `None` where
    /// they cannot be set.
    fn tuned(&self, setup: &Setup<'_>, tuning: &Tuning) -> io::Result<Option<Command>>;

    /// Changes the files of a running proxy, and returns the signal that tells it so; `None` where
    /// it does not read them again.
    fn change(&self, setup: &Setup<'_>, change: &Change) -> io::Result<Option<Signal>>;

    /// Returns how it shows that it is ready.
    fn ready(&self) -> Ready;

    /// Returns where a running proxy that was started under limits answers for its metrics, at
    /// `/metrics` in the text format of Prometheus; `None` where it does not.
    fn metrics(&self, directory: &Path) -> Option<SocketAddr>;

    /// Returns where it writes its records below the private folder; `None` where it keeps none
    /// that can be read.
    fn records(&self) -> Option<&Path>;
}
