//! `[tls]`: which certificates are trusted towards origins.
//!
//! In this release no part of egret speaks TLS to an origin. The key is checked all the same, so
//! that a file is right before something depends on it.

use std::path::Path;

use egret_policy::source::{Table, Value};
use rustls_pki_types::{CertificateDer, pem, pem::PemObject};

pub(super) fn check(table: &Table<'_>, folder: &Path) {
    let Some(value) = table.find("roots") else { return };
    let Some(roots) = value.text() else { return };
    match roots.value {
        "system" => {}
        "bundled" => value.problem(
            "`roots = \"bundled\"` is not available in this release",
            "write `system`, or the path of a PEM file",
        ),
        "" => value.problem("`roots` is not a path", "write `system`, or the path of a PEM file"),
        path => check_file(&value, &folder.join(path)),
    }
}

fn check_file(value: &Value<'_>, path: &Path) {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    let shown = path.display();
    match found {
        Ok(certificates) if !certificates.is_empty() => {}
        Ok(_) => value.problem(
            format!("`{shown}` holds no certificate"),
            "name a file with at least one `BEGIN CERTIFICATE`",
        ),
        Err(pem::Error::Io(error)) => value.problem(
            format!("`{shown}` cannot be read: {error}"),
            "write `system`, or the path of a PEM file, relative to this file",
        ),
        Err(error) => value.problem(
            format!("`{shown}` is not valid PEM: {error}"),
            "name a file with at least one `BEGIN CERTIFICATE`",
        ),
    }
}
