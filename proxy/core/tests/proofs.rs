//! Shows that the stages cannot be skipped or swapped: each attempt in `proofs/` fails to compile
//! with the error committed beside it, and its twin, which differs in one line, compiles.
//!
//! They are checked by cargo as programs of a crate of their own, outside the workspace, which
//! sees of egret what any crate would see. `EGRET_BLESS=1` writes the errors anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, process::Command};

use serde_json::Value;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn skipping_a_stage_does_not_compile_and_the_right_way_does() {
    let errors = check(&attempts());
    let mut wrong = String::new();
    for attempt in attempts() {
        let twin = errors.get(&twin_of(&attempt)).map_or("", String::as_str);
        if !twin.is_empty() {
            writeln!(wrong, "the twin of `{attempt}` does not compile:\n{twin}").unwrap();
        }
        let found = errors.get(&attempt).map_or("", String::as_str);
        let file = format!("{CRATE}/tests/proofs/{attempt}.error");
        if std::env::var_os("EGRET_BLESS").is_some() {
            fs::write(&file, found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected.is_empty() || found != expected {
            writeln!(wrong, "`{attempt}`\nfails with {found:?}\nand not   {expected:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn each_attempt_differs_from_its_twin_in_one_line() {
    for attempt in attempts() {
        let read = |name| fs::read_to_string(format!("{CRATE}/tests/proofs/{name}.rs")).unwrap();
        let (attempted, twin) = (read(attempt.clone()), read(twin_of(&attempt)));
        let differing = attempted.lines().zip(twin.lines()).filter(|(a, b)| a != b).count();
        assert_eq!((attempted.lines().count(), differing), (twin.lines().count(), 1), "{attempt}");
    }
}

/// The errors of each program, as `error[CODE] line N: message: label`.
fn check(attempts: &[String]) -> BTreeMap<String, String> {
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proofs");
    fs::create_dir_all(&project).unwrap();
    let workspace = Path::new(CRATE).ancestors().nth(2).unwrap();
    fs::copy(workspace.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    fs::write(project.join("Cargo.toml"), manifest(workspace, attempts)).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["check", "--bins", "--keep-going", "--quiet", "--message-format=json"])
        .current_dir(&project)
        // One folder of build products for all of them; what the workspace has built is reused.
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut errors: BTreeMap<String, String> = BTreeMap::new();
    let mut compiled = 0;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let program = line["target"]["name"].as_str().unwrap_or_default().to_owned();
        compiled += usize::from(line["reason"] == "compiler-artifact" && program.ends_with(TWIN));
        let message = &line["message"];
        if message["level"] == "error" && message["spans"].as_array().is_some_and(|s| !s.is_empty())
        {
            let primary =
                message["spans"].as_array().unwrap().iter().find(|s| s["is_primary"] == true);
            let span = primary.unwrap();
            let told = format!(
                "error[{}] line {}: {}: {}\n",
                message["code"]["code"].as_str().unwrap_or_default(),
                span["line_start"],
                message["message"].as_str().unwrap_or_default(),
                span["label"].as_str().unwrap_or_default(),
            );
            errors.entry(program).or_default().push_str(&told);
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(compiled > 0, "nothing was compiled: {stderr}");
    errors
}

fn manifest(workspace: &Path, attempts: &[String]) -> String {
    let mut manifest = format!(
        "[package]\nname = \"proofs\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nhttp = \"1\"\n\
         egret-policy = {{ path = \"{root}/policy\" }}\n\
         egret-proxy = {{ path = \"{root}/proxy/core\" }}\n\
         egret-vault-bridge = {{ path = \"{root}/vault-bridge\" }}\n\n\
         [profile.dev]\ndebug = \"line-tables-only\"\n",
        root = workspace.display(),
    );
    for name in attempts.iter().flat_map(|attempt| [attempt.clone(), twin_of(attempt)]) {
        let path = format!("{CRATE}/tests/proofs/{name}.rs");
        write!(manifest, "\n[[bin]]\nname = \"{name}\"\npath = \"{path}\"\n").unwrap();
    }
    manifest
}

fn attempts() -> Vec<String> {
    let names = fs::read_dir(format!("{CRATE}/tests/proofs")).unwrap();
    let mut attempts: Vec<String> = names
        .filter_map(|entry| {
            let name = entry.unwrap().file_name();
            Some(name.to_str()?.strip_suffix(".rs")?.to_owned())
        })
        .filter(|name| !name.ends_with(TWIN))
        .collect();
    attempts.sort();
    assert!(attempts.len() >= 7, "the attempts are gone");
    attempts
}

fn twin_of(attempt: &str) -> String {
    format!("{attempt}{TWIN}")
}

const TWIN: &str = "-twin";
