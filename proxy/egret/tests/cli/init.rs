//! `egret init`.

use std::fs;

use super::place::{Place, mode};

#[test]
fn what_init_writes_is_valid_and_passes_its_tests() {
    let place = Place::new();
    place.run(&["init"]).ends_with(0).says("egret.toml").says("policy.toml").says("state");
    assert_eq!(mode(&place.path("state")), 0o700);
    let run = place.run(&["check"]).ends_with(0);
    assert!(run.stderr.is_empty(), "a warning for a beginner: {}", run.stderr);
    place.run(&["explain", "GET", "https://example.com/"]).ends_with(0);
    place.run(&["explain", "GET", "https://example.org/"]).ends_with(3);
}

#[test]
fn the_schema_that_a_starter_file_names_is_there() {
    let place = Place::new();
    place.run(&["init", "new/folder"]).ends_with(0);
    for (file, of) in [("egret.toml", "config"), ("policy.toml", "policy")] {
        let text = place.read(&format!("new/folder/{file}"));
        let name = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
        let schema = place.read(&format!("new/folder/{name}"));
        assert_eq!(schema, place.run(&["schema", of]).stdout);
    }
}

#[test]
fn init_never_overwrites_and_names_what_is_there() {
    for name in ["egret.toml", "policy.toml"] {
        let place = Place::new();
        place.write(name, "mine");
        place.run(&["init"]).ends_with(1).says(&format!("`./{name}` is already there"));
        assert_eq!(place.read(name), "mine");
        let others = fs::read_dir(place.path(".")).unwrap().count();
        assert_eq!(others, 1, "something was written beside {name}");
    }
    // A link to nowhere is somebody's file too.
    let place = Place::new();
    std::os::unix::fs::symlink("nowhere", place.path("policy.toml")).unwrap();
    place.run(&["init"]).ends_with(1).says("`./policy.toml` is already there");
    assert!(!place.path("nowhere").exists());
}

#[test]
fn others_may_not_write_what_init_wrote_whatever_the_umask() {
    let place = Place::new();
    let line = format!("umask 0; exec {} init", env!("CARGO_BIN_EXE_egret"));
    let status = std::process::Command::new("sh")
        .args(["-c", &line])
        .current_dir(place.path("."))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let schemas = ["state/policy.schema.json", "state/egret.schema.json"];
    for name in [&["egret.toml", "policy.toml"], &schemas[..]].concat() {
        assert_eq!(mode(&place.path(name)), 0o644, "{name}");
    }
}

/// A checkout may bring links where egret writes.
#[test]
fn a_schema_takes_the_place_of_a_link_and_is_not_written_through_it() {
    let place = Place::new();
    place.write("kept", "keep this");
    place.write("state/note", "");
    for name in ["policy.schema.json", "egret.schema.json.new"] {
        std::os::unix::fs::symlink(place.path("kept"), place.path("state").join(name)).unwrap();
    }
    place.run(&["init"]).ends_with(0);
    assert_eq!(place.read("kept"), "keep this");
    assert!(place.read("state/policy.schema.json").starts_with('{'));
}
