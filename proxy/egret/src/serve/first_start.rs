//! What `serve` does for somebody who has no configuration: a starter policy, and what to try next.
//!
//! What is there is never overwritten.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt, path::Path};

use crate::{config::Config, failure::Failure, starter};

/// Writes the starter policy where none is, and the schemas that it refers to.
pub(super) fn write_starter(config: &Config) -> Result<(), Failure> {
    starter::prepare_state(&config.state)?;
    if let Some(folder) = config.policy.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| Failure::Write { path: folder.to_owned(), source })?;
    }
    let text = starter::policy_with_schema_in(&config.state);
    match starter::write_new(&config.policy, &text) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::Write { path: config.policy.clone(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What somebody who has just started egret wants to know.
pub(super) fn steps(policy: &Path, state: &Path, records: &Path, address: &str) -> Vec<String> {
    vec![
        format!("policy:   {}", policy.display()),
        format!("state:    {}", state.display()),
        format!("records:  {}", records.display()),
        "to allow a host, add a [[rule]] with id, effect = \"allow\" and hosts = [\"…\"] to the \
         policy; it is in force once the file is saved"
            .to_owned(),
        format!("try:      curl -x http://{address} https://example.com/"),
        format!("denied:   curl -i -x http://{address} http://example.org/"),
    ]
}
