//! `egret completions` and `egret man`: complete, and silent in whoever reads them.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    place::{Place, not_run},
    verbs,
};

#[test]
fn every_shell_learns_every_verb() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&["completions", shell]).ends_with(0).stdout;
        for verb in verbs(&place) {
            assert!(script.contains(&verb), "{shell} does not know {verb}");
        }
    }
    place.run(&["completions", "csh"]).ends_with(2);
    place.run(&["completions"]).ends_with(2);
}

#[test]
fn bash_takes_its_script_and_completes_a_verb() {
    let place = Place::new();
    let script = "source <(\"$0\" completions bash) && COMP_WORDS=(egret exp) COMP_CWORD=1 && \
                  _egret egret exp egret && echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, env!("CARGO_BIN_EXE_egret")]).current_dir(place.path(""));
    match bash.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "explain", "{said}");
        }
        Err(error) => not_run("bash", &error),
    }
}

#[test]
fn every_verb_has_a_page_and_there_is_no_other() {
    let place = Place::new();
    let pages = || {
        let entries = fs::read_dir(place.path("man")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    for _ in 0..2 {
        place.run(&["man", "man"]).ends_with(0);
    }
    let mut expected = BTreeSet::from(["egret.1".to_owned(), "egret-worker-token.1".to_owned()]);
    let verbs = verbs(&place).into_iter().filter(|verb| verb != "help");
    expected.extend(verbs.map(|verb| format!("egret-{verb}.1")));
    let found = pages();
    assert!(expected.is_subset(&found), "{found:?}");
    // Verbs may have verbs of their own; what is there belongs to one that is listed.
    for page in &found {
        let belongs = |known: &String| page.starts_with(known.trim_end_matches(".1"));
        assert!(expected.iter().any(belongs), "{page}");
    }
    for page in &found {
        is_read_without_a_warning(&place.path("man").join(page));
    }
    let whole = place.run(&["man"]).ends_with(0).stdout;
    assert_eq!(whole, place.read("man/egret.1"));
    place.write("taken", "");
    place.run(&["man", "taken"]).ends_with(1);
}

/// As the manual is shown on a terminal, where its formatter is installed.
fn is_read_without_a_warning(page: &Path) {
    let mut formatter = Command::new("groff");
    formatter.args(["-man", "-Kutf8", "-Tutf8", "-ww", "-z"]).arg(page).stdin(Stdio::null());
    match formatter.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
        }
        Err(error) => not_run("groff", &error),
    }
}
