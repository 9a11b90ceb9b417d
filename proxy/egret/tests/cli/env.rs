//! `egret env`, and what shells make of it.

use std::{
    fs::{self, File},
    process::{Command, Output},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use sha2::{Digest, Sha256};

use super::place::{CONFIG, Place, Run, Serving, set_mode};

/// A worker with the token `t0p-Secret`, and listeners for it and for everybody.
fn place() -> Place {
    let place = Place::ready();
    let digest: String = Sha256::digest("t0p-Secret").iter().map(|b| format!("{b:02x}")).collect();
    let config = CONFIG.replace("127.0.0.1:0", "127.0.0.1:3128");
    place.write(
        "egret.toml",
        &format!(
            "{config}[[listener]]\naddress = \"0.0.0.0:3129\"\nidentity = [\"token\"]\n\
             [[worker]]\nid = \"ci-1\"\ntoken_sha256 = \"{digest}\"\n"
        ),
    );
    place
}

fn run(command: &mut Command) -> Run {
    let output: Output = command.output().unwrap();
    output.into()
}

const ANYBODY: &str = "http://127.0.0.1:3128";
const WORKER: &str = "http://ci-1:t0p-Secret@127.0.0.1:3129";

#[test]
fn a_shell_that_evaluates_it_has_the_proxy_in_its_environment() {
    let place = place();
    let script = r#"eval "$("$0" env)" && env"#;
    let shown = run(place.shell(script).env("PATH", "/usr/bin:/bin")).ends_with(0);
    for name in ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        shown.has_line(&format!("{name}={ANYBODY}"));
    }
    shown.has_line("no_proxy=localhost,127.0.0.1,::1");
    shown.has_line("NODE_USE_ENV_PROXY=1");
    assert!(!shown.stdout.contains("CERT"), "{}", shown.stdout);
}

#[test]
fn what_was_set_is_kept_byte_for_byte_and_twice_is_once() {
    let place = place();
    let odd = "-Da='b c'  -Dd=$HOME\"`e\\";
    let once = r#"eval "$("$0" env)" && env | sort"#;
    let twice = r#"eval "$("$0" env)" && eval "$("$0" env)" && env | sort"#;
    let back = r#"eval "$("$0" env)" && eval "$("$0" env --unset)" && env | sort"#;
    let plain = "env | sort";
    let [once, twice, back, plain] = [once, twice, back, plain].map(|script| {
        let mut shell = place.shell(script);
        shell.env("PATH", "/usr/bin:/bin").env("JAVA_TOOL_OPTIONS", odd);
        run(shell.env("NO_PROXY", ".corp")).ends_with(0)
    });
    assert_eq!(once.stdout, twice.stdout);
    once.has_line("NO_PROXY=.corp,localhost,127.0.0.1,::1");
    assert!(once.stdout.contains(&format!("JAVA_TOOL_OPTIONS={odd} -Dhttp.proxyHost=")));
    once.has_line("GIT_CONFIG_COUNT=1");
    // The lower case was not there and stays: what is in it was the operator's.
    let back = back.stdout.replace("no_proxy=.corp\n", "");
    let back = back.replace("GLOBAL_AGENT_NO_PROXY=.corp\n", "");
    assert_eq!(back, plain.stdout);
}

#[test]
fn a_token_comes_from_the_variable_or_from_a_file_of_ones_own() {
    let place = place();
    let proxy = |command: &mut Command| {
        let run = run(command).ends_with(0);
        run.json()["set"]["HTTPS_PROXY"].as_str().unwrap().to_owned()
    };
    let line = ["env", "--worker", "ci-1", "--json"];
    assert_eq!(proxy(place.command(&line).env("EGRET_TOKEN", "t0p-Secret")), WORKER);
    assert_eq!(proxy(place.command(&["env", "--json"]).env("EGRET_TOKEN", "t0p-Secret")), WORKER);
    for text in ["t0p-Secret", "t0p-Secret\n", "t0p-Secret\r\n"] {
        place.write("token", text);
        for mode in [0o600, 0o400, 0o440] {
            set_mode(&place.path("token"), mode);
            assert_eq!(proxy(place.command(&line).env("EGRET_TOKEN_FILE", "token")), WORKER);
        }
    }
    let with_mode = |mode| {
        set_mode(&place.path("token"), mode);
        run(place.command(&line).env("EGRET_TOKEN_FILE", "token"))
    };
    for mode in [0o660, 0o602, 0o620, 0o666] {
        with_mode(mode).ends_with(78).says("chmod 600 token");
    }
    // As secrets are mounted: others may read what they may not exchange.
    for mode in [0o604, 0o444, 0o644] {
        let read = with_mode(mode).ends_with(0).says("every user may read the token file `token`");
        assert_eq!(read.json()["set"]["HTTPS_PROXY"], WORKER);
    }
    assert!(!with_mode(0o640).ends_with(0).stderr.contains("may read"));
}

#[test]
fn a_token_that_is_of_no_use_is_refused_and_never_printed() {
    let place = place();
    let refused = |name: &str, value: &str, said: &str| {
        let refused = run(place.command(&["env"]).env(name, value)).ends_with(78).says(said);
        assert_eq!(refused.stdout, "");
        assert!(!refused.stderr.contains("t0p"), "{}", refused.stderr);
    };
    refused("EGRET_TOKEN", "", "EGRET_TOKEN is empty");
    refused("EGRET_TOKEN", "t0p Secret", "white space");
    refused("EGRET_TOKEN", "t0p\nSecret", "white space");
    refused("EGRET_TOKEN", &"t0p".repeat(500), "longer than");
    refused("EGRET_TOKEN", "t0p-secret", "none of a worker");
    refused("EGRET_TOKEN_FILE", "absent", "read the token file `absent`");
    place.write("empty", "\n");
    set_mode(&place.path("empty"), 0o600);
    refused("EGRET_TOKEN_FILE", "empty", "is empty");
    let both = run(place.command(&["env"]).env("EGRET_TOKEN", "a").env("EGRET_TOKEN_FILE", "b"));
    both.ends_with(78).says("unset one of the two");
}

#[test]
fn the_port_is_that_of_the_proxy_that_lives() {
    let place = Place::ready();
    place.run(&["env"]).ends_with(3).says("egret serve");
    let listening = |pid: u32| {
        format!(r#"{{"pid":{pid},"listeners":["127.0.0.1:4711"],"metrics":"127.0.0.1:9181"}}"#)
    };
    place.write("state/listening.json", &listening(std::process::id()));
    place.write("state/lock", "");
    // A process of that number lives, but it is not one that owns the directory.
    place.run(&["env"]).ends_with(3);
    let lock = File::open(place.path("state/lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let run = place.run(&["env", "--json"]).ends_with(0);
    assert_eq!(run.json()["set"]["http_proxy"], "http://127.0.0.1:4711");
    assert_eq!(run.stderr, "");
    // Left behind by a process that was killed.
    place.write("state/listening.json", &listening(u32::MAX / 2));
    place.run(&["env"]).ends_with(3);
    drop(lock);
    place.write("state/listening.json", "{");
    place.run(&["env"]).ends_with(1).says("does not say where a proxy listens");
}

#[test]
fn a_proxy_that_runs_is_found_with_the_port_that_it_was_given() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    let run = place.run(&["env", "--json"]).ends_with(0);
    assert_eq!(run.json()["set"]["http_proxy"], format!("http://{}", serving.address));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    place.run(&["env"]).ends_with(3);
}

#[test]
fn what_keeps_the_variables_from_working_is_said_beside_them() {
    let place = place();
    let run_with_star = run(place.command(&["env"]).env("NO_PROXY", "*")).ends_with(0);
    assert!(run_with_star.stderr.contains("round the proxy"), "{}", run_with_star.stderr);
    assert!(run_with_star.stderr.contains("no proxy runs"), "{}", run_with_star.stderr);
    run(place.command(&["env"]).env("NO_PROXY", "a\nb"))
        .ends_with(1)
        .says("NO_PROXY holds a control");
    place.run(&["env", "--shell", "docker", "--unset"]).ends_with(2);
    place.run(&["env", "--shell", "docker", "--json"]).ends_with(2);
    place.run(&["env", "--shell", "csh"]).ends_with(2);
    for (shell, warned) in [("docker", true), ("k8s", true), ("dotenv", false), ("sh", false)] {
        let shown = place.run(&["env", "--shell", shell]).ends_with(0);
        assert_eq!(shown.stderr.contains("the container itself"), warned, "{}", shown.stderr);
    }
}

#[test]
fn a_shell_is_taken_by_any_of_its_names() {
    let place = place();
    let shown = |shell: &str| place.run(&["env", "--shell", shell]).ends_with(0).stdout;
    for (shell, names) in
        [("sh", &["bash", "zsh", "dash"][..]), ("powershell", &["pwsh"]), ("k8s", &["kubernetes"])]
    {
        for name in names {
            assert_eq!(shown(name), shown(shell), "{name}");
        }
    }
}

#[test]
fn github_is_told_to_hide_the_token_and_nobody_else_is_shown_it_twice() {
    let place = place();
    let line = ["env", "--shell", "github"];
    for (name, masked) in [("GITHUB_ACTIONS", true), ("OTHER", false)] {
        let mut command = place.command(&line);
        let shown = run(command.env("EGRET_TOKEN", "t0p-Secret").env(name, "true")).ends_with(0);
        for mask in ["t0p-Secret", "Y2ktMTp0MHAtU2VjcmV0"] {
            let mask = format!("::add-mask::{mask}\n");
            assert_eq!(shown.stderr.contains(&mask), masked, "{}", shown.stderr);
        }
        shown.has_line(&format!("HTTPS_PROXY={WORKER}"));
        assert!(!shown.stdout.contains("::add-mask"), "a line that is no variable");
    }
    // A per cent sign is the runner's own escape.
    let line = ["env", "--shell", "github", "--worker", "ci-2"];
    let mut command = place.command(&line);
    let shown = run(command.env("EGRET_TOKEN", "a%b").env("GITHUB_ACTIONS", "true")).ends_with(0);
    for mask in ["::add-mask::a%25b\n", "::add-mask::a%2525b\n"] {
        assert!(shown.stderr.contains(mask), "{}", shown.stderr);
    }
}

/// A configuration that may have come with a checkout names no other machine for a token.
#[test]
fn a_token_goes_only_where_a_proxy_is_known_or_to_this_machine() {
    let elsewhere = "192.0.2.7:3129";
    for address in ["0.0.0.0:3129", elsewhere] {
        let place = place();
        let config = place.read("egret.toml").replace("0.0.0.0:3129", address);
        place.write("egret.toml", &config);
        fs::create_dir(place.path("state")).unwrap();
        let asked = |line: &[&str]| {
            let mut command = place.as_somebody(line);
            run(command.env("EGRET_TOKEN", "t0p-Secret").env("PATH", "/usr/bin:/bin"))
        };
        // No proxy runs; then nobody can say whether one does.
        for mode in [0o755, 0o000] {
            set_mode(&place.path("state"), mode);
            let shown = asked(&["env"]);
            if address == elsewhere {
                let shown = shown.ends_with(78).says("no address of this machine");
                assert_eq!(shown.stdout, "");
                assert!(shown.stderr.contains(elsewhere) && !shown.stderr.contains("t0p"));
                continue;
            }
            let shown = shown.ends_with(0);
            let path = place.path("egret.toml").display().to_string();
            for said in ["the token goes to whoever listens at 127.0.0.1:3129", &path] {
                assert!(shown.stderr.contains(said), "{said}\n{}", shown.stderr);
            }
        }
        let command = ["--", "/bin/sh", "-c", "echo ran $http_proxy"];
        let ran = asked(&[&["exec"][..], &command].concat());
        let refused = asked(&[&["exec", "--strict"][..], &command].concat());
        if address == elsewhere {
            assert_eq!(ran.ends_with(78).stdout, "");
            assert_eq!(refused.ends_with(78).stdout, "");
        } else {
            ran.ends_with(0).says("the token goes to").has_line(&format!("ran {WORKER}"));
            assert_eq!(refused.ends_with(77).says("cannot be told").stdout, "");
        }
        set_mode(&place.path("state"), 0o700);
    }
}

/// As where `egret serve` runs as a user of its own, whose state nobody else may look into.
#[test]
fn the_proxy_of_a_closed_directory_is_known_by_its_user() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    let address = serving.address.to_string();
    place.write("egret.toml", &place.read("egret.toml").replace("127.0.0.1:0", &address));
    set_mode(&place.path("state"), 0o700);
    let mut command = place.as_somebody(&["exec", "--strict", "--", "/bin/sh", "-c", "echo ran"]);
    let strict = run(command.env("PATH", "/usr/bin:/bin"));
    if !rustix::process::geteuid().is_root() {
        // Nobody can be somebody else here, and what is one's own is open.
        strict.ends_with(77).says("can read the state directory");
        return;
    }
    let strict = strict.ends_with(0);
    strict.has_line("ran");
    assert_eq!(strict.stderr, "");
    // The same address, with a listener of somebody else.
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    let other = Place::ready();
    other.write("egret.toml", &other.read("egret.toml").replace("127.0.0.1:0", &address));
    let nobody = Some(65_534);
    std::os::unix::fs::chown(other.path("."), nobody, nobody).unwrap();
    let _taken = Serving::start(&mut other.as_somebody(&["serve"]));
    let refused = run(command.env("PATH", "/usr/bin:/bin")).ends_with(77).says("cannot be told");
    assert_eq!(refused.stdout, "");
}

/// As a service with a dynamic user lies behind a directory that is root's.
#[test]
fn the_proxy_of_a_hidden_directory_is_believed_where_the_configuration_is_roots() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::ready();
    fs::create_dir(place.path("private")).unwrap();
    let config = place.read("egret.toml").replace("\"state\"", "\"private/state\"");
    place.write("egret.toml", &config);
    let serving = place.serve(&["serve"]);
    place.write("egret.toml", &config.replace("127.0.0.1:0", &serving.address.to_string()));
    set_mode(&place.path("private"), 0o700);
    let mut command = place.as_somebody(&["exec", "--strict", "--", "/bin/sh", "-c", "echo ran"]);
    let mut strict = || run(command.env("PATH", "/usr/bin:/bin"));
    strict().ends_with(0).has_line("ran");
    let somebody = Some(65_534);
    std::os::unix::fs::chown(place.path("egret.toml"), somebody, somebody).unwrap();
    assert_eq!(strict().ends_with(77).says("cannot be told").stdout, "");
}

#[test]
fn a_lock_that_came_with_the_directory_proves_no_proxy() {
    let place = place();
    place.write("egret.toml", &place.read("egret.toml").replace("0.0.0.0", "192.0.2.7"));
    let listening = r#"{"pid":1,"listeners":["127.0.0.1:3128","192.0.2.7:3129"]}"#;
    place.write("state/listening.json", listening);
    place.write("state/lock", "1");
    set_mode(&place.path("state"), 0o755);
    let mut command = place.as_somebody(&["env", "--worker", "ci-1"]);
    let command = command.env("EGRET_TOKEN", "t0p-Secret");
    if rustix::process::geteuid().is_root() {
        let nobody = Some(65_534);
        std::os::unix::fs::chown(place.path("state/lock"), nobody, nobody).unwrap();
    }
    set_mode(&place.path("state/lock"), 0o000);
    assert_eq!(run(command).ends_with(78).stdout, "");
}
