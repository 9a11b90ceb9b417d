//! What the environment says, read once and handed down.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::env::variables::{BUILT_UPON, git_settings};

/// The variables that egret knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `$XDG_CONFIG_HOME/egret`, else `~/.config/egret`.
    pub(crate) config_home: Option<PathBuf>,
    /// `$XDG_STATE_HOME/egret`, else `~/.local/state/egret`.
    pub(crate) state_home: Option<PathBuf>,
    /// `EGRET_LOG`.
    pub(crate) log: Option<String>,
    /// `EGRET_TOKEN`, also where it is empty.
    pub(crate) token: Option<OsString>,
    /// `EGRET_TOKEN_FILE`, also where it is empty.
    pub(crate) token_file: Option<PathBuf>,
    /// `GITHUB_ACTIONS` is `true`: what is printed is read by a runner.
    pub(crate) in_github_actions: bool,
    /// What `env` builds upon, by name.
    pub(crate) built_upon: BTreeMap<&'static str, String>,
    /// The settings of git that the environment holds (`GIT_CONFIG_COUNT`), in their order.
    pub(crate) git: Vec<(String, String)>,
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
            token: env::var_os("EGRET_TOKEN"),
            token_file: env::var_os("EGRET_TOKEN_FILE").map(PathBuf::from),
            in_github_actions: env::var_os("GITHUB_ACTIONS").is_some_and(|set| set == "true"),
            // What is not UTF-8 names no host and no option.
            built_upon: BUILT_UPON
                .into_iter()
                .filter_map(|name| Some((name, env::var(name).ok()?)))
                .collect(),
            git: git_settings(|name| env::var(name).ok()),
        }
    }

    /// Returns what a variable holds that `env` builds upon.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.built_upon.get(name).map(String::as_str)
    }
}

/// A variable that holds an absolute path; the XDG specification has others ignored.
fn absolute(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| Path::is_absolute(path))
}
