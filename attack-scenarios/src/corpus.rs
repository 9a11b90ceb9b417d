//! The cases as they are built in: those that were given, and our own.
//!
//! So that the program needs no folder beside it. A test compares this list with the folders.

use crate::case::{Case, Malformed};

macro_rules! files {
    ($folder:literal: $($family:literal),* $(,)?) => {
        &[$(($family, include_str!(concat!("../", $folder, "/", $family, ".jsonl")))),*]
    };
}

/// What was given: families that other suites have too.
const GIVEN: &[(&str, &str)] = files!["cases":
    "authority-mismatch",
    "baseline-allow",
    "connect-upgrade",
    "cred-binding",
    "cred-echo",
    "cred-leak",
    "dns-abuse",
    "dns-rebind",
    "expect-1xx",
    "fleet-attest",
    "fleet-control",
    "fleet-lease",
    "fleet-pair",
    "h2",
    "header-collision",
    "hop-by-hop",
    "host-control-bytes",
    "host-idna",
    "host-match",
    "host-syntax",
    "http-syntax",
    "ip-boundary-allow",
    "ip-literal-forms",
    "ip-literal-plain",
    "ip-special-v4",
    "ip-special-v6",
    "ip-transition",
    "load",
    "metadata",
    "policy-config",
    "port",
    "smuggle-chunked",
    "smuggle-cl-te",
    "smuggle-content-length",
    "tls-authority",
    "trace-echo",
    "upstream-response",
    "upstream-tls",
    "url-scheme",
    "url-tricks",
    "vault",
];

/// What was added here, each for something that no given case would have seen.
const OWN: &[(&str, &str)] = files!["cases-own": "load", "policy-config", "survivors"];

/// Returns every case, file by file.
pub fn embedded() -> Result<Vec<Case>, Malformed> {
    let files = GIVEN.iter().chain(OWN);
    let lines = files.flat_map(|(_, text)| text.lines()).filter(|line| !line.trim().is_empty());
    lines.map(Case::parse).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_file_of_the_folders_is_built_in() {
        for (folder, files) in [("cases", GIVEN), ("cases-own", OWN)] {
            let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
            let there: BTreeSet<String> = fs::read_dir(&folder)
                .expect("the folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            let built: BTreeSet<String> =
                files.iter().map(|(family, _)| format!("{family}.jsonl")).collect();
            assert_eq!(there, built, "{folder}");
        }
    }
}
