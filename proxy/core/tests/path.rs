//! The whole path over real sockets, in a network namespace where every address is a fixture:
//! what the worker got, what the origin saw and what was recorded, for each way an exchange can go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "path/scene.rs"]
mod scene;

#[path = "path/counted.rs"]
mod counted;
#[path = "path/denials.rs"]
mod denials;
#[path = "path/figures.rs"]
mod figures;
#[path = "path/identity.rs"]
mod identity;
#[path = "path/limits.rs"]
mod limits;
#[path = "path/names.rs"]
mod names;
#[path = "path/origins.rs"]
mod origins;
#[path = "path/races.rs"]
mod races;
#[path = "path/records.rs"]
mod records;
#[path = "path/refusals.rs"]
mod refusals;
#[path = "path/requests.rs"]
mod requests;
#[path = "path/revocation.rs"]
mod revocation;
#[path = "path/secure_dns.rs"]
mod secure_dns;
#[path = "path/tunnels.rs"]
mod tunnels;

use std::{process::ExitCode, sync::Arc};

use egret_testkit::{
    dns::Dns,
    namespace::Namespace,
    origin::{Origin, Plan},
    packets::PacketLog,
    pki::Pki,
};
use libtest_mimic::{Arguments, Trial};

use scene::Stage;

/// The policy of the attack corpus: one name, the names below another, http and https.
const POLICY: &str = r#"
version = 1
[[rule]]
id = "allowed"
effect = "allow"
hosts = ["api.example.com"]
suffixes = [".example.org"]
schemes = ["http", "https"]
ports = [80, 443]
"#;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let entered = match Namespace::require() {
        Ok(entered) => entered,
        Err(code) => return code,
    };
    let pki = Pki::new().expect("a PKI can be made");
    let stage = Arc::new(Stage {
        dns: Dns::start().expect("the name server's address is free"),
        origin: Origin::start(Plan::good(&pki).expect("a certificate can be made"))
            .expect("the origins' ports are free"),
        packets: PacketLog::start().expect("a packet socket can be opened"),
        pki,
        entered,
    });
    // One network, one set of fixtures: the trials take turns.
    arguments.test_threads = Some(1);
    let trials = [
        requests::TRIALS,
        refusals::TRIALS,
        origins::TRIALS,
        identity::TRIALS,
        tunnels::TRIALS,
        names::TRIALS,
        limits::TRIALS,
        counted::TRIALS,
        denials::TRIALS,
        figures::TRIALS,
        records::TRIALS,
        revocation::TRIALS,
        secure_dns::TRIALS,
    ]
    .concat()
    .into_iter()
    .map(|(name, run)| {
        let stage = stage.clone();
        Trial::test(name, move || {
            run(&stage);
            Ok(())
        })
    })
    .chain(races::trials(&stage))
    .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A name that states the claim, and how it is shown.
type Claim = (&'static str, fn(&Stage));
