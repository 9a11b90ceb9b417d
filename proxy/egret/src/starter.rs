//! The files that egret writes for a beginner: a configuration, a policy, and the schemas that
//! editors check them with.
//!
//! What is there is never overwritten; the schemas are the program's own and follow its version.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{failure::Failure, schema, state};

pub(crate) const CONFIG: &str = include_str!("../starter/egret.toml");
pub(crate) const POLICY: &str = include_str!("../starter/policy.toml");

/// The names of the two.
pub(crate) const NAMES: [&str; 2] = ["egret.toml", "policy.toml"];

/// Where the starter files look for their schemas: in the state directory beside them.
const POLICY_SCHEMA: &str = "state/policy.schema.json";

/// The starter policy for another state directory than the one beside it.
pub(crate) fn policy_with_schema_in(state: &Path) -> String {
    let schema = state.join("policy.schema.json");
    POLICY.replacen(POLICY_SCHEMA, &schema.display().to_string(), 1)
}

/// Writes a file unless there is one of that name; only its owner may write it, whatever the umask.
pub(crate) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())
}

/// Makes the state directory and puts the schemas of this version there.
pub(crate) fn prepare_state(directory: &Path) -> Result<(), Failure> {
    state::create(directory)?;
    let schemas = [
        ("policy.schema.json", egret_policy::policy_schema()),
        ("egret.schema.json", schema::CONFIG),
    ];
    for (name, text) in schemas {
        let path = directory.join(name);
        state::replace(&path, text.as_bytes()).map_err(|source| Failure::Write { path, source })?;
    }
    Ok(())
}
