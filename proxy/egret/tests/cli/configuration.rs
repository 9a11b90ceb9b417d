//! Which configuration is used, and what a bad one looks like.

use rustix::process::Signal;

use super::place::{CONFIG, POLICY, Place, set_mode};

#[test]
fn the_file_that_is_named_wins_then_the_one_here_then_the_users() {
    let place = Place::new();
    let broken = |key: &str| CONFIG.replace("state_dir", key);
    place.write("home/.config/egret/egret.toml", &broken("users"));
    place.run(&["check"]).ends_with(78).says("unknown key `users`");
    place.write("egret.toml", &broken("here"));
    place.run(&["check"]).ends_with(78).says("unknown key `here`");
    place.write("named.toml", &broken("named"));
    place.run(&["check", "-c", "named.toml"]).ends_with(78).says("unknown key `named`");
    place.run(&["serve", "-c", "missing.toml"]).ends_with(78).says("missing.toml");
}

#[test]
fn xdg_directories_come_before_home() {
    let place = Place::new();
    place.write("xdg/egret/egret.toml", "version = 7\n");
    let check = |variable: &str| {
        let output = place.command(&["check"]).env("XDG_CONFIG_HOME", variable).output().unwrap();
        output.status.code()
    };
    assert_eq!(check(&place.path("xdg").display().to_string()), Some(78));
    // Relative ones are ignored, as the specification says.
    assert_eq!(check("xdg"), Some(0));
}

#[test]
fn without_a_home_there_is_no_place_for_the_state() {
    let place = Place::new();
    let output = place.command(&["serve"]).env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("XDG_STATE_HOME"), "{said}");
}

#[test]
fn problems_have_file_line_column_caret_and_fix() {
    let place = Place::new();
    place.write("egret.toml", &format!("{CONFIG}\n[limts]\nconnections = 1\n"));
    place.write("policy.toml", POLICY);
    let run = place.run(&["serve"]).ends_with(78);
    for text in ["egret.toml:9:2", "unknown key `limts`", "^^^^^", "did you mean `limits`?"] {
        assert!(run.stderr.contains(text), "{text:?} is not in\n{}", run.stderr);
    }
}

#[test]
fn parts_that_are_not_built_are_unknown_keys() {
    let place = Place::new();
    for section in ["[tls]\nintercept_ca = {}", "[control]", "[vault.local]"] {
        place.write("egret.toml", &format!("{CONFIG}\n{section}\n"));
        place.run(&["check"]).ends_with(78).says("unknown key");
    }
}

/// Falling through to the defaults would run another policy than the operator's.
#[test]
fn a_configuration_that_cannot_be_looked_at_is_not_passed_over() {
    let place = Place::new();
    std::os::unix::fs::symlink("egret.toml", place.path("egret.toml")).unwrap();
    place.run(&["check"]).ends_with(78).says("read `egret.toml`");
    place.run(&["serve"]).ends_with(78).says("read `egret.toml`");
}

/// Root may read everything, so where root runs the tests somebody else runs egret.
#[test]
fn a_file_that_may_not_be_read_is_77() {
    let place = Place::ready();
    set_mode(&place.path("policy.toml"), 0o000);
    for verb in ["serve", "check"] {
        let mut command = place.as_somebody(&[verb]);
        if rustix::process::geteuid().is_root() {
            // The state directory is theirs to make.
            set_mode(&place.path("."), 0o1777);
        }
        let output = command.env("HOME", place.path(".")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(77), "{said}");
        assert!(said.contains("policy.toml"), "{said}");
        assert!(said.contains("run as a user who may read it"), "{said}");
    }
}

#[test]
fn what_is_in_the_way_of_a_start_comes_with_its_fix() {
    for (directory, exit, fix) in [
        ("policy.toml", 78, "name a file in it"),
        ("state/budgets.json", 1, "move `./state/budgets.json` away"),
        ("state/audit.key", 1, "move `./state/audit.key` and the records away"),
    ] {
        let place = Place::ready();
        let _ = std::fs::remove_file(place.path(directory));
        std::fs::create_dir(place.path("state")).unwrap();
        set_mode(&place.path("state"), 0o700);
        std::fs::create_dir(place.path(directory)).unwrap();
        set_mode(&place.path(directory), 0o700);
        place.run(&["serve"]).ends_with(exit).says(fix);
    }
    let place = Place::ready();
    place.write("state", "");
    place.run(&["serve"]).ends_with(1).says("name another `state_dir`");
    place.run(&["audit", "verify", "nowhere"]).ends_with(1).says("name the directory or the files");
}

/// The system's roots are looked for where something is verified by them, and not before.
#[test]
fn a_system_without_roots_is_told_how_to_get_some() {
    let place = Place::ready();
    let check = |file: &str| {
        let output = place.command(&["check"]).env("SSL_CERT_FILE", place.path(file)).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("none.pem").0, Some(0));
    place
        .write("egret.toml", &format!("{CONFIG}[dns]\nservers = [\"tls://192.0.2.1#dns.test\"]\n"));
    let (status, said) = check("none.pem");
    assert_eq!(status, Some(78), "{said}");
    for text in ["the system has no trusted roots", "none.pem", "`roots = \"bundled\"`"] {
        assert!(said.contains(text), "{text:?} is not in\n{said}");
    }
    place.write("roots.pem", &egret_testkit::pki::Pki::new().unwrap().root_pem());
    let (status, said) = check("roots.pem");
    assert_eq!(status, Some(0), "{said}");
}

/// Whoever writes them says who every name server is.
#[test]
fn trusted_roots_that_others_may_write_are_refused_like_a_policy() {
    let place = Place::ready();
    place.write("roots.pem", &egret_testkit::pki::Pki::new().unwrap().root_pem());
    place.write("egret.toml", &format!("{CONFIG}[tls]\nroots = \"roots.pem\"\n"));
    place.run(&["check"]).ends_with(0).says("is valid");
    set_mode(&place.path("roots.pem"), 0o666);
    place.run(&["serve"]).ends_with(78).says("roots.pem` may be written by others");
    place.run(&["check"]).ends_with(0).says("roots.pem` may be written by others");
    set_mode(&place.path("roots.pem"), 0o644);
    let serving = place.serve(&["serve"]);
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}
