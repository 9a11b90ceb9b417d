//! The real binary, run as an operator would: every verb, every exit code, both files.

#![allow(clippy::unwrap_used)]

mod audit;
mod budgets;
mod check;
mod completions;
mod configuration;
mod denials;
mod diff;
mod drain;
mod env;
mod exec;
mod explain;
mod import;
mod init;
mod listen;
mod log;
mod metrics;
mod monitoring;
mod place;
mod recorded;
mod reload;
mod serve;
mod suggest;
mod systemd;
mod tail;
#[path = "../readme/terminal.rs"]
mod terminal;
mod why;
mod worker;

use place::Place;

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let place = Place::new();
    for line in [&["fly"][..], &["serve", "--no-such-flag"], &["explain", "GET"], &[]] {
        place.run(line).ends_with(2);
    }
    place.run(&["--help"]).ends_with(0);
    place.run(&["--version"]).ends_with(0).says(concat!("egret ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_names_the_verbs_that_work_and_no_other() {
    let listed = verbs(&Place::new());
    assert_eq!(
        listed,
        [
            "init",
            "serve",
            "check",
            "explain",
            "audit",
            "env",
            "exec",
            "worker",
            "why",
            "tail",
            "diff",
            "suggest",
            "import",
            "schema",
            "completions",
            "man",
            "help"
        ]
    );
}

/// The verbs that the help lists.
fn verbs(place: &Place) -> Vec<String> {
    let help = place.run(&["--help"]).ends_with(0).stdout;
    help.lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn schemas_are_json_and_know_the_sections() {
    let place = Place::new();
    for (file, section) in [("policy", "rule"), ("config", "listener")] {
        let run = place.run(&["schema", file]).ends_with(0);
        let schema: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        assert!(schema["properties"][section].is_object(), "{section}");
    }
    place.run(&["schema", "other"]).ends_with(2);
}

#[test]
fn colours_are_for_terminals_alone_and_never_with_no_color() {
    let place = Place::new();
    place.write("bad.toml", "version = 1\nrul = 1\n");
    place.write("good.toml", place::POLICY);
    for file in ["bad.toml", "good.toml"] {
        let run = place.run(&["check", file]);
        assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run:?}");
        // What a terminal would get; NO_COLOR has the last word.
        let forced = place.command(&["check", file]).env("CLICOLOR_FORCE", "1").output().unwrap();
        let shown = [forced.stdout, forced.stderr].concat();
        assert!(shown.contains(&0x1b), "{file}: no colour where it was forced");
        let plain = place
            .command(&["check", file])
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        assert!(![plain.stdout, plain.stderr].concat().contains(&0x1b), "{file}");
    }
}
