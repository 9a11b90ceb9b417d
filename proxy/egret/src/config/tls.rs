//! `[tls]`: which authorities are trusted to say who a server is, name servers included.
//!
//! This is the one place where roots are read. A file is read at once and whole, so that it is
//! right before something depends on it; those of the system only where they are needed. The
//! system's are found as its other programs find them, by `SSL_CERT_FILE` and `SSL_CERT_DIR` too.

use std::path::{Path, PathBuf};

use egret_policy::source::{Span, Table, Value};
use egret_proxy::{Roots, RootsError};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::files::{self, FileError};

/// What `roots` says.
#[derive(Debug, Default)]
pub(super) struct Choice {
    source: Source,
    /// Where it says so.
    span: Option<Span>,
    /// The file that it names.
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Default)]
enum Source {
    #[default]
    System,
    Bundled,
    File(Roots),
}

pub(super) fn read(table: &Table<'_>, folder: &Path) -> Choice {
    let Some(value) = table.find("roots") else { return Choice::default() };
    let Some(roots) = value.text() else { return Choice::default() };
    let mut file = None;
    let source = match roots.value {
        "system" => Source::System,
        "bundled" => Source::Bundled,
        "" => {
            value.problem("`roots` is not a path", FIX);
            Source::default()
        }
        path => {
            let path = folder.join(path);
            let source = Source::File(read_file(&value, &path).unwrap_or_default());
            file = Some(path);
            source
        }
    };
    Choice { source, span: Some(roots.span), file }
}

impl Choice {
    /// Returns the roots; none, and a problem, where the system has none.
    pub(super) fn load(self, root: &Table<'_>) -> Roots {
        match self.source {
            Source::File(roots) => roots,
            Source::Bundled => Roots::bundled(),
            Source::System => {
                let found = rustls_native_certs::load_native_certs();
                let errors = found.errors.iter().map(|error| format!(": {error}"));
                match Roots::those_usable(found.certs) {
                    Ok(roots) => roots,
                    Err(_) => {
                        let message = format!(
                            "the system has no trusted roots{}",
                            errors.take(1).collect::<String>()
                        );
                        let fix = "install the package `ca-certificates`, or write \
                                   `roots = \"bundled\"` in `[tls]`";
                        match self.span {
                            Some(span) => root.report().problem(&span, message, fix),
                            None => root.report().missing(root.span(), message, fix),
                        }
                        Roots::default()
                    }
                }
            }
        }
    }
}

fn read_file(value: &Value<'_>, path: &Path) -> Option<Roots> {
    let shown = path.display();
    let read = match files::read_bytes(path) {
        Ok(read) => read,
        Err(error) => {
            let message = match error {
                FileError::Read { source, .. } => format!("`{shown}` cannot be read: {source}"),
                error @ (FileError::Encoding { .. }
                | FileError::Kind { .. }
                | FileError::WritableByOthers { .. }
                | FileError::OwnedByOther { .. }
                | FileError::Long { .. }
                | FileError::FolderOpenToOthers { .. }
                | FileError::FolderOfOther { .. }) => error.to_string(),
            };
            value.problem(message, FIX);
            return None;
        }
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read).collect();
    let certificates = match found {
        Ok(certificates) => certificates,
        Err(error) => {
            let message = format!("`{shown}` is not valid PEM: {error}");
            value.problem(message, "name a file with at least one `BEGIN CERTIFICATE`");
            return None;
        }
    };
    match Roots::exactly(certificates) {
        Ok(roots) => return Some(roots),
        Err(RootsError::Empty) => value.problem(
            format!("`{shown}` holds no certificate"),
            "name a file with at least one `BEGIN CERTIFICATE`",
        ),
        Err(RootsError::Certificate { place, source }) => value.problem(
            format!("certificate {place} of `{shown}` cannot be a root: {source}"),
            "take it out of the file",
        ),
    }
    None
}

const FIX: &str = "write `system`, `bundled`, or the path of a PEM file, relative to this file";
