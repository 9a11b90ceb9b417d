//! Who may import whom, checked over the workspace as cargo sees it.
//!
//! Direct edges of our own crates, edges to libraries that only one crate may have, and what the
//! pure crate reaches at all. A new crate, or a new dependency of the pure one, fails here until
//! somebody has entered it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Each of our packages and what it may import of ours.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("egret-policy", &[]),
    ("egret-vault-bridge", &["egret-policy"]),
    ("egret-proxy", &["egret-policy", "egret-vault-bridge"]),
    ("egret", &["egret-policy", "egret-proxy", "egret-vault-bridge"]),
    (TESTKIT, &[]),
    (ATTACK, &[TESTKIT]),
];

/// What stands around egret in a test: for everybody's tests, and for nothing that is shipped.
const TESTKIT: &str = "egret-testkit";

/// The replay suite: a program beside egret, and a library of its tests.
const ATTACK: &str = "egret-attack";

/// Libraries that may be named by one crate alone, whatever the kind of dependency.
const ONLY: &[(&str, &str)] = &[("hickory-resolver", "egret-proxy")];

/// Every library that the pure crate may name.
const PURE: (&str, &[&str]) =
    ("egret-policy", &["idna", "ipnet", "jiff", "serde", "sha2", "strsim", "thiserror", "toml"]);

/// What must not be reached from the pure crate, however many steps away.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "http",
    "socket2",
    "rustix",
    "rustls",
    "hickory-resolver",
    "tracing",
    "log",
    "getrandom",
    "tempfile",
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .no_deps()
        .other_options(["--locked"].map(String::from))
        .exec()
        .unwrap()
}

fn ours(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

fn direct(package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    let wanted = package.dependencies.iter().filter(|dependency| kinds.contains(&dependency.kind));
    wanted.map(|dependency| dependency.name.clone()).collect()
}

const BUILT: &[DependencyKind] = &[DependencyKind::Normal, DependencyKind::Build];
const ALL: &[DependencyKind] =
    &[DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development];

#[test]
fn our_crates_import_only_what_the_table_allows() {
    let metadata = metadata();
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let names: BTreeSet<_> =
        ours(&metadata).iter().map(|package| package.name.to_string()).collect();
    for package in ours(&metadata) {
        let name = package.name.as_str();
        let allowed = table.get(name).unwrap_or_else(|| panic!("`{name}` is not in the table"));
        let imported: BTreeSet<_> = direct(package, BUILT).intersection(&names).cloned().collect();
        let allowed: BTreeSet<_> = allowed.iter().map(ToString::to_string).collect();
        let beyond: Vec<_> = imported.difference(&allowed).collect();
        assert!(beyond.is_empty(), "`{name}` imports {beyond:?}");
    }
}

#[test]
fn the_testkit_and_the_suite_are_in_nothing_that_is_shipped() {
    for package in ours(&metadata()) {
        let built = direct(package, BUILT);
        assert!(!built.contains(ATTACK), "{} ships the suite", package.name);
        if package.name.as_str() != ATTACK {
            assert!(!built.contains(TESTKIT), "{} ships the testkit", package.name);
        }
    }
}

#[test]
fn proxy_and_fleet_never_import_each_other() {
    for package in ours(&metadata()) {
        let name = package.name.as_str();
        let imports = direct(package, ALL);
        let fleet = |name: &str| name.starts_with("egret-fleet");
        if name == "egret-proxy" {
            assert!(!imports.iter().any(|import| fleet(import)), "{name}: {imports:?}");
        }
        if fleet(name) {
            assert!(!imports.contains("egret-proxy"), "{name}: {imports:?}");
        }
    }
}

#[test]
fn libraries_with_one_owner_have_no_other() {
    for package in ours(&metadata()) {
        for (library, owner) in ONLY {
            let names = direct(package, ALL).contains(*library);
            assert!(!names || package.name.as_str() == *owner, "{} names {library}", package.name);
        }
    }
}

#[test]
fn the_pure_crate_names_only_known_libraries_and_reaches_none_that_acts() {
    let metadata = metadata();
    let (name, allowed) = PURE;
    let package =
        ours(&metadata).into_iter().find(|package| package.name.as_str() == name).unwrap();
    for library in direct(package, BUILT) {
        assert!(allowed.contains(&library.as_str()), "`{name}` names `{library}`");
    }

    // The tree of this package alone: over the whole workspace, features of one crate appear in all.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-p", name, "-e", "normal,build", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let reached: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(reached.contains("toml"), "the walk found nothing: {reached:?}");
    let acting: Vec<_> = IMPURE.iter().filter(|library| reached.contains(*library)).collect();
    assert!(acting.is_empty(), "`{name}` reaches {acting:?}");
}
