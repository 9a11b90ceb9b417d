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

const README: &str = include_str!("../../../../README.md");

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

/// The table of the README is the one of the help, in other lines.
#[test]
fn exit_codes_are_those_of_the_readme() {
    let help = Place::new().run(&["--help"]).ends_with(0).stdout;
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    let codes = codes.lines().take_while(|line| line.starts_with("  "));
    let codes: Vec<_> = codes.flat_map(str::split_whitespace).collect();
    let (_, table) = README.split_once("| exit code | meaning |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let table: Vec<_> =
        rows.flat_map(|row| row.split([' ', '|'])).filter(|word| !word.is_empty()).collect();
    assert_eq!(codes, table);
}

#[test]
fn the_verbs_that_take_no_configuration_are_those_that_the_readme_names() {
    let place = Place::new();
    let (_, said) = README.split_once("\nAll but ").unwrap();
    let (but, _) = said.split_once(" take `-c FILE`").unwrap();
    let but: Vec<_> = but.split('`').skip(1).step_by(2).collect();
    for verb in verbs(&place) {
        let line = match verb.as_str() {
            "help" => continue,
            "audit" => vec!["audit", "verify", "--help"],
            "worker" => vec!["worker", "token", "--help"],
            verb => vec![verb, "--help"],
        };
        let help = place.run(&line).ends_with(0).stdout;
        assert_eq!(help.contains("  -c, --config <FILE>"), !but.contains(&&*verb), "{verb}");
    }
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
