//! What real clients send, through the real binary: curl, git, wget, Python, Node and Chromium, and
//! the bytes of those that are seldom at hand.
//!
//! All but the bytes find the proxy by `eval "$(egret env)"` alone, and are known by the token that
//! it puts there, unless what is shown is how they answer a challenge.
//!
//! Runs in a network namespace with origins and a name server of the test, so that an allowed URL
//! gives the origin's body and a denied one shows the code of the denial wherever the client shows
//! anything. A client that is not on this machine is named as NOT RUN; with
//! `EGRET_REQUIRE_CLIENTS=1` its trials fail. Nothing is fetched or installed here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "clients/program.rs"]
mod program;
#[path = "clients/scene.rs"]
mod scene;

#[path = "clients/chromium.rs"]
mod chromium;
#[path = "clients/commands.rs"]
mod commands;
#[path = "clients/node.rs"]
mod node;
#[path = "clients/packages.rs"]
mod packages;
#[path = "clients/python.rs"]
mod python;
#[path = "clients/shapes.rs"]
mod shapes;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use egret_testkit::namespace::Namespace;
use libtest_mimic::{Arguments, Failed, Trial};

use program::Client;
use scene::Stage;

/// The variable that makes a missing client a failure.
const REQUIRE: &str = "EGRET_REQUIRE_CLIENTS";

/// Who speaks, a name that states the claim, and how it is shown.
type Claim = (Client, &'static str, fn(&Stage));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(status) => return status,
    };
    // Threads may start from here on.
    let stage = Arc::new(Stage::furnish(&entered));
    let claims = [
        shapes::CLAIMS,
        commands::CLAIMS,
        packages::CLAIMS,
        python::CLAIMS,
        node::CLAIMS,
        chromium::CLAIMS,
    ]
    .concat();
    let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    let mut missing = BTreeMap::<Client, usize>::new();
    let trials = claims
        .into_iter()
        .map(|(client, name, run)| {
            let absent = stage.lacks(client);
            if absent {
                *missing.entry(client).or_default() += 1;
            }
            let stage = stage.clone();
            let trial = Trial::test(name, move || match absent {
                true => Err(Failed::from(format!("{client} is not on this machine"))),
                false => {
                    run(&stage);
                    Ok(())
                }
            });
            trial.with_kind(client.to_string()).with_ignored_flag(absent && !required)
        })
        .collect();
    if !missing.is_empty() {
        let word = if required { "FAILED" } else { "NOT RUN" };
        eprintln!("\n{:=<78}", "");
        for (client, trials) in &missing {
            eprintln!("{word}: {client} is not on this machine (trials: {trials})");
        }
        if !required {
            eprintln!("{REQUIRE}=1 makes this a failure.");
        }
        eprintln!("{:=<78}\n", "");
    }
    // One network, one set of origins: the trials take turns.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit_code()
}
