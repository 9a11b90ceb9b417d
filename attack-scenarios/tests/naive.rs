//! A forward proxy that is wrong on purpose: it resolves and dials whatever it is told and passes
//! bytes on as they are. The cases must catch it out, and must still see what it does right.

use std::{
    collections::BTreeMap,
    env, io,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, ExitCode},
    sync::OnceLock,
    thread,
    time::Duration,
};

use egret_attack::{
    case::{
        Case,
        config::{Change, Settings},
    },
    cell::Options,
    corpus,
    load::Tuning,
    suite::{self, Cells, Row},
    target::{Setup, Target},
};
use egret_testkit::proxy::Ready;
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;

/// Makes this binary the naive proxy.
const PROXY: &str = "EGRET_ATTACK_NAIVE";

/// A test: the claim as its name, and what shows it.
type Claim = (&'static str, fn());

const TRIALS: &[Claim] = &[
    ("a_naive_proxy_passes_where_everything_is_allowed", ordinary_traffic_passes),
    ("a_naive_proxy_is_caught_dialling_forbidden_addresses", forbidden_addresses_are_caught),
    ("a_naive_proxy_is_caught_serving_denied_hosts", denied_hosts_are_caught),
    ("a_naive_proxy_is_caught_forwarding_odd_framing", odd_framing_is_caught),
    ("a_naive_proxy_is_caught_by_dns", rebinding_is_caught),
    ("a_naive_proxy_is_caught_fronting", fronting_is_caught),
    ("a_naive_proxy_is_caught_by_hostile_answers", hostile_answers_are_caught),
    ("kinds_without_a_driver_are_unchecked", undriven_kinds_are_unchecked),
];

fn main() -> ExitCode {
    if env::var_os(PROXY).is_some() {
        return serve();
    }
    let cases = corpus::embedded().expect("the corpus");
    if let Some(code) = suite::cell(&cases, &Naive, Options::default()) {
        return code;
    }
    let arguments = Arguments::from_args();
    match suite::probe() {
        Ok(Cells::Available) => {}
        Ok(Cells::Forbidden { required, why }) => {
            eprintln!("NOT RUN: {why}");
            return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        Err(error) => {
            eprintln!("cannot start a cell: {error}");
            return ExitCode::FAILURE;
        }
    }
    let trials = TRIALS.iter().map(|(name, run)| {
        Trial::test(*name, move || {
            run();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn ordinary_traffic_passes() {
    for family in ["ip-boundary-allow", "baseline-allow"] {
        let rows = play(family);
        let driven: Vec<&Row> = rows.iter().filter(|row| row.channel == "plain").collect();
        let passed = driven.iter().filter(|row| row.is_pass()).count();
        // It adds no Via and rewrites no target, which two of the ordinary cases ask for.
        assert!(passed + 3 >= driven.len(), "{}", report(&rows));
        assert!(passed >= 10, "{}", report(&rows));
    }
}

fn forbidden_addresses_are_caught() {
    for family in ["ip-special-v4", "ip-transition", "metadata"] {
        let rows = play(family);
        let caught = rows.iter().filter(|row| row.is_failure());
        assert!(caught.count() * 10 >= rows.len() * 8, "{}", report(&rows));
    }
}

fn denied_hosts_are_caught() {
    for family in ["host-match", "port"] {
        let rows = play(family);
        let caught = rows.iter().filter(|row| row.is_failure()).count();
        assert!(caught * 2 >= rows.len(), "{}", report(&rows));
    }
}

fn odd_framing_is_caught() {
    let rows = play("smuggle-cl-te");
    let caught = rows.iter().filter(|row| row.is_failure()).count();
    let played = rows.iter().filter(|row| row.channel == "plain").count();
    assert!(caught * 2 >= played, "{}", report(&rows));
}

fn rebinding_is_caught() {
    let rows = play("dns-rebind");
    let caught: BTreeMap<&str, &str> =
        rows.iter().map(|row| (row.id.as_str(), row.verdict.as_str())).collect();
    for id in ["RBD-011", "RBD-013", "RBD-023", "RBD-028", "RBD-031"] {
        assert_eq!(caught[id], "fail", "{}", report(&rows));
    }
    assert_eq!(caught["RBD-021"], "pass", "{}", report(&rows));
}

fn fronting_is_caught() {
    let rows = play("tls-authority");
    let of = |id: &str| rows.iter().find(|row| row.id == id).unwrap_or_else(|| panic!("{id}"));
    for id in ["TLA-001", "TLA-005", "TLA-008", "TLA-010"] {
        assert_eq!(of(id).verdict, "fail", "{}", report(&rows));
    }
    assert_eq!(of("TLA-003").verdict, "not applicable", "{}", report(&rows));
}

fn hostile_answers_are_caught() {
    let rows = play("upstream-response");
    let caught = rows.iter().filter(|row| row.is_failure()).count();
    assert!(caught >= 4, "{}", report(&rows));
    assert!(rows.iter().any(Row::is_pass), "{}", report(&rows));
}

fn undriven_kinds_are_unchecked() {
    for family in ["fleet-lease", "load", "policy-config"] {
        let rows = play(family);
        let unproven = |row: &Row| ["unchecked", "not applicable"].contains(&row.verdict.as_str());
        assert!(!rows.is_empty() && rows.iter().all(unproven), "{}", report(&rows));
    }
}

/// The rows of a family. All families are played at once, when the first one is needed: cells
/// mostly wait, for replies that must not come.
fn play(family: &str) -> Vec<Row> {
    static PLAYED: OnceLock<BTreeMap<&str, Result<Vec<Row>, String>>> = OnceLock::new();
    let played = PLAYED.get_or_init(|| {
        let cases = corpus::embedded().expect("the corpus");
        thread::scope(|scope| {
            let cells =
                FAMILIES.map(|family| (family, scope.spawn(|| play_family(&cases, family))));
            let joined = cells.map(|(family, cell)| (family, cell.join().expect("no panic")));
            joined.into_iter().collect()
        })
    });
    played[family].clone().unwrap_or_else(|error| panic!("{error}"))
}

fn play_family(cases: &[Case], family: &str) -> Result<Vec<Row>, String> {
    suite::play_family(cases, family, |_| {})
}

/// The families that are played.
const FAMILIES: [&str; 14] = [
    "baseline-allow",
    "dns-rebind",
    "fleet-lease",
    "host-match",
    "ip-boundary-allow",
    "ip-special-v4",
    "ip-transition",
    "load",
    "metadata",
    "policy-config",
    "port",
    "smuggle-cl-te",
    "tls-authority",
    "upstream-response",
];

fn report(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(|row| format!("{row} ({} ms)", row.ms)).collect();
    format!("{}\n{}", suite::tally(rows), lines.join("\n"))
}

/// The adapter.
struct Naive;

impl Target for Naive {
    fn has(&self, feature: &str) -> bool {
        // It checks no SNI; that it claims to makes the cases about it apply.
        feature == "sni-check"
    }

    fn expresses(&self, _settings: &Settings) -> bool {
        false
    }

    fn forgeries(&self) -> Vec<&str> {
        vec!["X-Naive-Verdict: allowed"]
    }

    fn idle_timeout(&self) -> Option<Duration> {
        None
    }

    fn via(&self) -> Option<&str> {
        None
    }

    fn caches_names(&self) -> bool {
        false
    }

    fn command(&self, _setup: &Setup<'_>) -> io::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.env(PROXY, "1");
        Ok(command)
    }

    fn tuned(&self, _setup: &Setup<'_>, _tuning: &Tuning) -> io::Result<Option<Command>> {
        Ok(None)
    }

    fn change(&self, _setup: &Setup<'_>, _change: &Change) -> io::Result<Option<Signal>> {
        Ok(None)
    }

    fn metrics(&self, _directory: &Path) -> Option<SocketAddr> {
        None
    }

    fn ready(&self) -> Ready {
        Ready::Line
    }

    fn records(&self) -> Option<&Path> {
        None
    }
}

/// Serves for ever.
fn serve() -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    println!("listening {}", listener.local_addr().expect("an address"));
    for stream in listener.incoming().flatten() {
        thread::spawn(move || relay(stream));
    }
    ExitCode::SUCCESS
}

fn relay(mut client: TcpStream) -> io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "CONNECT" {
        let Ok(upstream) = TcpStream::connect(target) else {
            return client.write_all(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n");
        };
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        return both_ways(client, upstream);
    }
    let authority = target.split('/').nth(2).unwrap_or_default();
    let bare = authority.rsplit('@').next().unwrap_or_default();
    let address = if bare.contains(':') { bare.to_owned() } else { format!("{bare}:80") };
    let Ok(mut upstream) = TcpStream::connect(address) else {
        return client.write_all(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n");
    };
    let origin_form = format!("/{}", target.splitn(4, '/').nth(3).unwrap_or_default());
    upstream.write_all(text.replacen(target, &origin_form, 1).as_bytes())?;
    both_ways(client, upstream)
}

fn both_ways(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (upstream, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}
