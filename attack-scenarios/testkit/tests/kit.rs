//! The test kit tested inside its own network namespace.

use std::process::ExitCode;

use egret_testkit::{
    dns::Dns,
    namespace::{Entered, Namespace},
    origin::{Origin, Plan},
    packets::PacketLog,
    pki::Pki,
};
use libtest_mimic::{Arguments, Trial};

#[path = "kit/fixtures.rs"]
mod fixtures;
#[path = "kit/load.rs"]
mod load;
#[path = "kit/names.rs"]
mod names;
#[path = "kit/process.rs"]
mod process;

/// A test: the claim as its name, and what shows it.
type Claim = (&'static str, fn(&World));

/// What stands in the namespace; the tests share it and run one after another.
pub struct World {
    entered: Entered,
    pki: Pki,
    packets: PacketLog,
    dns: Dns,
    origin: Origin,
}

fn main() -> ExitCode {
    if std::env::var_os(process::PROXY).is_some() {
        return process::serve();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(code) => return code,
    };
    let pki = Pki::new().expect("certificates");
    let plan = Plan::good(&pki).expect("an origin");
    let world: &'static World = Box::leak(Box::new(World {
        entered,
        pki,
        packets: PacketLog::start().expect("a packet socket"),
        dns: Dns::start().expect("the name server"),
        origin: Origin::start(plan).expect("the origins"),
    }));
    let trials =
        [fixtures::TRIALS, names::TRIALS, process::TRIALS, load::TRIALS].concat().into_iter();
    let trials = trials
        .map(|(name, run)| {
            Trial::test(name, move || {
                world.reset();
                run(world);
                Ok(())
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Leaked for the threads; the folder is ours to remove.
    let _ = std::fs::remove_dir_all(world.entered.directory());
    conclusion.exit_code()
}

impl World {
    fn reset(&self) {
        self.dns.serve(&[]);
        self.origin.reset(Plan::good(&self.pki).expect("an origin"));
        self.packets.reset();
    }
}
