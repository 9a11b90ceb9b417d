//! What the environment says, read once and handed down.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The variables that egret knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `$XDG_CONFIG_HOME/egret`, else `~/.config/egret`.
    pub(crate) config_home: Option<PathBuf>,
    /// `$XDG_STATE_HOME/egret`, else `~/.local/state/egret`.
    pub(crate) state_home: Option<PathBuf>,
    /// `EGRET_LOG`.
    pub(crate) log: Option<String>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let home = absolute("HOME");
        let xdg = |name, below_home: &str| {
            let base = absolute(name).or_else(|| home.as_deref().map(|home| home.join(below_home)));
            base.map(|base| base.join("egret"))
        };
        Self {
            config_home: xdg("XDG_CONFIG_HOME", ".config"),
            state_home: xdg("XDG_STATE_HOME", ".local/state"),
            log: env::var("EGRET_LOG").ok().filter(|filter| !filter.is_empty()),
        }
    }
}

/// A variable that holds an absolute path; the XDG specification has others ignored.
fn absolute(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| Path::is_absolute(path))
}
