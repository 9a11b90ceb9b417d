//! A hundred reloads under load, every other one of a policy that must not be taken.
//!
//! One policy allows x and y, the other y and z. So whatever happens y is served and w is not, each
//! decision fits the policy that its record names, and one that is reported in force is: who asks
//! between that report and the next change is judged by it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    time::{Duration, Instant},
};

use egret_attack::audit::Record;
use egret_testkit::{
    client::Client,
    workers::{Asked, Outcome, Workers},
};
use rustix::process::Signal;

use crate::{
    Claim,
    ledger::{Ledger, numbered},
    load::{pace, request, seen, tunnel_to},
    scene::{PATIENCE, Scene, Stage, page, wait_until, write},
    standing::Standing,
};

pub(crate) const CLAIMS: &[Claim] =
    &[("through_a_hundred_reloads_each_request_is_judged_by_one_whole_policy", hundred)];

/// Whom a request is for, by its number.
const SIDES: [&str; 4] = ["x.example.org", "y.example.org", "z.example.org", "w.example.org"];

fn hundred(stage: &Stage) {
    let policies = [policy(&SIDES[..2]), policy(&SIDES[1..3])];
    let mut scene = stage.lay(&policies[0], "[limits]\ndenials_per_minute = 1000000\n");
    let revisions = policies.clone().map(|text| revision(&scene, &text));
    scene.start();
    let at = scene.client().address();
    let mut lasting = Standing::open(at, "lasting.y.example.org", 3, TURNS);
    let metrics = scene.metrics();
    let workers = Workers::start(&scene.client(), pace(RATE), 0, |number| {
        let side = SIDES[number as usize % SIDES.len()];
        match number % 8 {
            0..4 => request(&format!("www.{side}"), number),
            _ => tunnel_to(side, number),
        }
    });

    let (mut in_force, mut spans) = (0, Vec::<Span>::new());
    let (mut since, mut slowest) = (Instant::now(), (Duration::ZERO, Change::Renamed));
    for turn in 0..TURNS {
        let doomed = (in_force == 0).then(|| Standing::open(at, "doomed.x.example.org", 2, 0));
        let change = Change::of(turn);
        let next = if change.is_good() { 1 - in_force } else { in_force };
        spans.push(Span { since, until: Instant::now(), policy: revisions[in_force].clone() });
        let (before, changed) = (Reported::by(&metrics), Instant::now());
        change.make(&mut scene, &policies[next]);
        wait_until(&format!("{change:?} is reported"), || {
            let now = Reported::by(&metrics);
            let refused = now.refused > before.refused;
            now.revision == revisions[next] && (change.is_good() || refused)
        });
        (in_force, since) = (next, Instant::now());
        slowest = slowest.max((changed.elapsed(), change));
        lasting.beat();
        if let Some(mut doomed) = doomed.filter(|_| in_force == 1) {
            doomed.assert_reset(CUT);
        }
    }
    lasting.assert_whole(PATIENCE);
    drop(lasting);
    let asked = workers.finish();
    scene.proxy().signal(Signal::TERM).unwrap();
    assert!(scene.proxy().wait(PATIENCE).unwrap().success());
    scene.verify();

    let ledger = scene.ledger();
    ledger.assert_whole();
    ledger.assert_holds(&asked);
    assert_told(&ledger, &revisions);
    let seen = seen(&stage.origin);
    ledger.assert_covers(&seen);
    let decided: BTreeMap<u64, &Record> =
        ledger.decisions().filter_map(|one| Some((numbered(one)?, one))).collect();
    for one in &asked {
        let side = one.number as usize % SIDES.len();
        match SIDES[side] {
            "y.example.org" => assert!(one.is_served(), "allowed by both: {one:?}"),
            "w.example.org" => {
                assert_eq!(one.status(), 403, "denied by both: {one:?}");
                assert!(!seen.contains(&one.number), "denied by both: {one:?}");
            }
            _ => {}
        }
        let Some(record) = decided.get(&one.number) else {
            // Its connection had just been cut, for what it was asked before.
            let cut = one.reused && matches!(one.outcome, Outcome::Broken(0));
            assert!(cut && !seen.contains(&one.number), "not on record: {one:?}");
            continue;
        };
        assert_fits(record, side, &revisions);
        if let Some(span) = spans.iter().find(|span| span.holds(one)) {
            assert_eq!(record.text("policy"), span.policy, "not judged by what was in force");
        }
    }
    let within = asked.iter().filter(|one| spans.iter().any(|span| span.holds(one))).count();
    let all = asked.len();
    println!(
        "reload: {TURNS} changes, slowest {slowest:.1?}; {all} requests, {within} between two"
    );
}

/// What egret says of its policy.
struct Reported {
    revision: String,
    refused: u64,
}

impl Reported {
    fn by(metrics: &Client) -> Self {
        let (_, text) = page(metrics, "/metrics");
        let after = |begin: &str| {
            text.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default().to_owned()
        };
        let revision = after("egret_policy_info{revision=\"");
        let refused = after("egret_policy_reload_total{result=\"refused\"} ");
        Self {
            revision: revision.split('"').next().unwrap_or_default().to_owned(),
            refused: refused.parse().unwrap(),
        }
    }
}

/// Every change is on record: a good one with the revision that it put in force, a bad one with the
/// one that stayed.
fn assert_told(ledger: &Ledger, revisions: &[String; 2]) {
    let told = ledger.events("policy").into_iter();
    let told: Vec<_> = told.map(|one| (one.reason(), one.text("policy"))).collect();
    let mut in_force = 0;
    let mut expected = vec![("policy.loaded", revisions[0].as_str())];
    for turn in 0..TURNS {
        if Change::of(turn).is_good() {
            in_force = 1 - in_force;
            expected.push(("policy.replaced", &revisions[in_force]));
        } else {
            expected.push(("policy.refused", &revisions[in_force]));
        }
    }
    assert_eq!(told, expected);
}

/// The verdict of a record is that of the policy it names.
fn assert_fits(record: &Record, side: usize, revisions: &[String; 2]) {
    let which = revisions.iter().position(|one| one == record.text("policy"));
    let which = which.unwrap_or_else(|| panic!("neither policy: {record:?}"));
    let allows = [which, which + 1].contains(&side);
    assert_eq!(record.text("verdict"), if allows { "allow" } else { "deny" }, "{record:?}");
}

/// The time in which a policy was in force, and was known to be.
struct Span {
    since: Instant,
    until: Instant,
    policy: String,
}

impl Span {
    fn holds(&self, asked: &Asked) -> bool {
        self.since <= asked.began && asked.ended <= self.until
    }
}

/// What happens to the policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// Another good one is renamed over it.
    Renamed,
    /// Another good one is written into it, and told of by SIGHUP.
    Written,
    /// Half of one is renamed over it.
    Half,
    /// Its own tests fail.
    FailsItself,
    /// It becomes a symbolic link to `/dev/null`.
    Null,
    /// Others may write it.
    Open,
    /// It is gone.
    Gone,
}

impl Change {
    fn of(turn: usize) -> Self {
        let bad = [Self::Half, Self::FailsItself, Self::Null, Self::Open, Self::Gone];
        match turn % 4 {
            0 => Self::Renamed,
            2 => Self::Written,
            _ => bad[turn / 2 % bad.len()],
        }
    }

    fn is_good(self) -> bool {
        match self {
            Self::Renamed | Self::Written => true,
            Self::Half | Self::FailsItself | Self::Null | Self::Open | Self::Gone => false,
        }
    }

    fn make(self, scene: &mut Scene, policy: &str) {
        let (file, fresh) = (scene.path("policy.toml"), scene.path("fresh.toml"));
        let half = &policy[..policy.len() / 2];
        match self {
            Self::Renamed => write(&fresh, policy),
            // Never in the place of a link: that would be written through.
            Self::Written => {
                let _ = fs::remove_file(&file);
                write(&file, policy);
                return scene.proxy().signal(Signal::HUP).unwrap();
            }
            Self::Half => write(&fresh, half),
            Self::FailsItself => write(&fresh, &format!("{policy}{WRONG}")),
            Self::Null => symlink("/dev/null", &fresh).unwrap(),
            Self::Open => {
                write(&fresh, &format!("{policy}# wide\n"));
                fs::set_permissions(&fresh, fs::Permissions::from_mode(0o666)).unwrap();
            }
            Self::Gone => return fs::remove_file(&file).unwrap(),
        }
        fs::rename(&fresh, &file).unwrap();
    }
}

/// A policy that allows two sides.
fn policy(sides: &[&str]) -> String {
    let mut text = "version = 1\n".to_owned();
    for side in sides {
        text += &format!(
            "[[rule]]\nid = \"{side}\"\neffect = \"allow\"\nsuffixes = [\"{side}\"]\n\
             schemes = [\"http\", \"https\"]\nports = [80, 443]\n"
        );
    }
    text
}

/// Returns the revision of a policy, as the operator is told it.
fn revision(scene: &Scene, policy: &str) -> String {
    let file = scene.path("asked.toml");
    write(&file, policy);
    let output = Command::new(env!("CARGO_BIN_EXE_egret"))
        .args(["explain", "GET", "http://y.example.org/", "--json", "--policy"])
        .arg(&file)
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    told["policy"].as_str().unwrap().to_owned()
}

const TURNS: usize = 100;
const RATE: u32 = 120;
/// A second is what is promised; what else runs here takes its share.
const CUT: Duration = Duration::from_secs(8);
const WRONG: &str = "[[test]]\nurl = \"https://y.example.org/\"\nexpect = \"deny\"\n";
