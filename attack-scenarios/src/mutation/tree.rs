//! A copy of the sources in which a mutation is applied and built.
//!
//! It stands in the target folder and is kept, so that only what a mutation changes is compiled
//! again; libraries are those that the workspace has built already. The binary has another name,
//! so that a broken egret can never be taken for the real one.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::Mutation;

/// The copy.
#[derive(Debug)]
pub struct Tree {
    workspace: PathBuf,
    target: PathBuf,
    root: PathBuf,
}

/// Why there is no mutated binary.
#[derive(Debug)]
pub enum NotBuilt {
    /// A text is not there, or not once.
    NotApplied(String),
    /// The compiler refused it.
    NotCompiled(String),
    /// A file could not be read or written, or cargo not be started.
    Failed(io::Error),
}

impl std::fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotApplied(why) => write!(f, "does not apply: {why}"),
            Self::NotCompiled(said) => write!(f, "does not build:\n{said}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotBuilt {}

impl From<io::Error> for NotBuilt {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Tree {
    /// Brings the copy up to date with a workspace.
    pub fn of(workspace: &Path) -> io::Result<Self> {
        let workspace = workspace.canonicalize()?;
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
            .current_dir(&workspace)
            .output()?;
        let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        })?;
        let target = PathBuf::from(metadata["target_directory"].as_str().unwrap_or("target"));
        let tree = Self { root: target.join("mutations/tree"), workspace, target };
        tree.renew()?;
        Ok(tree)
    }

    /// Applies a mutation, builds, takes it back, and returns the binary.
    pub fn build(&self, mutation: &Mutation) -> Result<PathBuf, NotBuilt> {
        let changed = mutation.applied(&self.workspace).map_err(NotBuilt::NotApplied)?;
        for (file, text) in &changed {
            fs::write(self.root.join(file), text)?;
        }
        let built = cargo()
            .args(["build", "--quiet", "--locked", "--package", "egret", "--bin", BINARY])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_INCREMENTAL", "0")
            .output();
        for (file, _) in &changed {
            fs::copy(self.workspace.join(file), self.root.join(file))?;
        }
        let built = built?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(NotBuilt::NotCompiled(said));
        }
        // Kept apart: the next build would replace it while it is played.
        let binary = self.root.with_file_name(BINARY);
        fs::copy(self.target.join("debug").join(BINARY), &binary)?;
        Ok(binary)
    }

    fn renew(&self) -> io::Result<()> {
        let mut files = BTreeSet::new();
        for name in ["Cargo.toml", "Cargo.lock"] {
            files.insert(PathBuf::from(name));
        }
        for folder in ["attack-scenarios", "policy", "proxy", "vault-bridge"] {
            list(&self.workspace, Path::new(folder), &mut files)?;
        }
        for file in &files {
            let mut text = fs::read(self.workspace.join(file))?;
            if file == Path::new(MANIFEST) {
                text = renamed(&text);
            }
            let copy = self.root.join(file);
            // What has not changed keeps its time, by which cargo tells what to build.
            if fs::read(&copy).is_ok_and(|before| before == text) {
                continue;
            }
            if let Some(folder) = copy.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(copy, text)?;
        }
        let mut copied = BTreeSet::new();
        list(&self.root, Path::new(""), &mut copied)?;
        for gone in copied.difference(&files) {
            fs::remove_file(self.root.join(gone))?;
        }
        Ok(())
    }
}

/// The manifest of the binary, with another name for it.
fn renamed(manifest: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(manifest);
    let bin = format!("\n[[bin]]\nname = \"{BINARY}\"\npath = \"src/main.rs\"\n");
    (text.replacen("[package]\n", "[package]\nautobins = false\n", 1) + &bin).into_bytes()
}

/// Every file below a folder, from the root; what cargo builds is left out.
fn list(root: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if !entry.path().join(BUILD_MARK).exists() {
                list(root, &path, files)?;
            }
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

/// The cargo that built this program, or the one in PATH.
fn cargo() -> Command {
    Command::new(option_env!("CARGO").unwrap_or("cargo"))
}

/// What cargo leaves in a folder of build products.
const BUILD_MARK: &str = "CACHEDIR.TAG";
const BINARY: &str = "egret-mutated";
const MANIFEST: &str = "proxy/egret/Cargo.toml";
