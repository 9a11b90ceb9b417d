//! What is measured, in which order, and how it is printed.

use std::{io, thread, time::Duration};

use egret_testkit::namespace::Namespace;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    bulk,
    measure::{milliseconds, percentile},
    role::{Role, parse},
    workers::TUNNELS_EACH,
};

/// Tunnels to hold open, where the limit on descriptors allows it.
const TUNNELS: usize = 9_000;
/// Descriptors of the proxy that are not a tunnel's: records, listener, runtime, and some room.
const OTHER_DESCRIPTORS: u64 = 200;
/// Tunnels that are open before memory is measured.
const WARM: usize = 500;
/// Workers whose tunnels are cut, one after the other.
const CUTS: usize = 10;
const BULK_REPEATS: usize = 5;
/// Tunnels that are opened at once where the time of each does not matter.
const AT_ONCE: usize = 64;
const QUIET: Duration = Duration::from_secs(3);

/// Measures all parts, or those that are named.
pub(crate) fn run(arguments: &[&str]) -> io::Result<()> {
    let named: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |part| named.is_empty() || named.contains(&&part);
    // Before any thread; the roles inherit both.
    let (address, origin, _network) = match Namespace::enter() {
        Ok(entered) => ("0.0.0.0", "93.184.215.14", Some(entered)),
        Err(reason) => {
            eprintln!("no network of its own, so over the loopback addresses: {reason}");
            ("127.0.0.1", "127.0.0.1", None)
        }
    };
    let tunnels = most_tunnels()?;
    let (origins, ports) = Role::start("origins", &[address.to_owned()])?;
    let ports: Vec<String> = ports.split(' ').map(str::to_owned).collect();
    let (mut proxy, listens) = Role::start("proxy", &[&[origin.to_owned()], &ports[..]].concat())?;
    let (mut workers, _) = Role::start("workers", &[&[listens], &ports[..]].concat())?;

    if wanted("bulk") {
        let to = format!("{origin}:{}", ports[1]);
        let (mut relay, relay_listens) = Role::start("relay", &[to])?;
        through(&mut proxy, &mut relay, &mut workers, &relay_listens)?;
    }
    if wanted("connect") || wanted("tunnels") || wanted("cut") {
        let times = numbers(&workers.ask(&format!("open 0 {WARM} 1"))?)?;
        let (half, most) = (percentile(&times, 50) / 1000, percentile(&times, 99) / 1000);
        println!("connect p50_us={half} p99_us={most}");
    }
    if wanted("tunnels") || wanted("cut") {
        hold(&mut proxy, &mut workers, tunnels)?;
    }
    if wanted("cut") {
        let mut bench = Cuts { proxy, workers, origins };
        bench.of_one_worker(tunnels)?;
        bench.of_all(tunnels)?;
    }
    Ok(())
}

/// Raises the limit on descriptors as far as it goes, and says how many tunnels that is.
fn most_tunnels() -> io::Result<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    // Two descriptors each in the proxy.
    let room = maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS) / 2;
    let room = usize::try_from(room).unwrap_or(TUNNELS) / TUNNELS_EACH * TUNNELS_EACH;
    let tunnels = TUNNELS.min(room);
    eprintln!("{tunnels} tunnels, as a process may have {maximum:?} descriptors");
    Ok(tunnels)
}

/// Sends bulk through the proxy and the bare relay in turn.
fn through(
    proxy: &mut Role,
    relay: &mut Role,
    workers: &mut Role,
    listens: &str,
) -> io::Result<()> {
    let mut runs: [Vec<(u64, u64)>; 2] = Default::default();
    for repeat in 0..=BULK_REPEATS {
        for (part, runs) in runs.iter_mut().enumerate() {
            let question = ["bulk".to_owned(), format!("bulk {listens}")];
            let middle = if part == 0 { &mut *proxy } else { &mut *relay };
            let before = middle.number("processor")?;
            let took = workers.number(&question[part])?;
            let used = middle.number("processor")? - before;
            eprintln!("bulk {} took={} used={}", part, milliseconds(took), milliseconds(used));
            // The first one warms up.
            if repeat > 0 {
                runs.push((took, used));
            }
        }
    }
    let median = |runs: &[(u64, u64)], of: fn(&(u64, u64)) -> u64| {
        percentile(&runs.iter().map(of).collect::<Vec<_>>(), 50)
    };
    let [(proxy_took, proxy_used), (relay_took, relay_used)] =
        runs.map(|runs| (median(&runs, |run| run.0), median(&runs, |run| run.1)));
    println!("bulk cpu_ratio={:.2}", proxy_used as f64 / relay_used as f64);
    for (name, took, used) in [("proxy", proxy_took, proxy_used), ("relay", relay_took, relay_used)]
    {
        let seconds = Duration::from_nanos(took).as_secs_f64();
        println!(
            "bulk_{name} seconds={seconds:.2} mb_per_s={:.0} cpu_ms={}",
            bulk::BYTES as f64 / 1e6 / seconds,
            milliseconds(used),
        );
    }
    Ok(())
}

/// Opens the rest of the tunnels, and says what they cost while they are idle.
fn hold(proxy: &mut Role, workers: &mut Role, tunnels: usize) -> io::Result<()> {
    thread::sleep(QUIET);
    let before = proxy.number("memory")?;
    let rest = tunnels - WARM;
    workers.ask(&format!("open {} {rest} {AT_ONCE}", WARM / TUNNELS_EACH))?;
    thread::sleep(QUIET);
    let after = proxy.number("memory")?;
    settle(proxy, tunnels)?;
    println!("tunnels open={tunnels} bytes_each={}", (after - before) / rest as u64);
    println!(
        "memory before_kib={} after_kib={} allocator=system trimmed=no",
        before >> 10,
        after >> 10
    );
    let used = proxy.number("processor")?;
    thread::sleep(QUIET);
    let used = proxy.number("processor")? - used;
    println!("idle cpu_ms_per_s={:.2}", used as f64 / 1e6 / QUIET.as_secs_f64());
    Ok(())
}

struct Cuts {
    proxy: Role,
    workers: Role,
    origins: Role,
}

impl Cuts {
    /// Cuts the tunnels of one worker after the other, and opens them again.
    fn of_one_worker(&mut self, tunnels: usize) -> io::Result<()> {
        let mut times = Vec::new();
        for worker in 0..CUTS.min(tunnels / TUNNELS_EACH) {
            times.extend(self.cut(&format!("cut {worker}"), TUNNELS_EACH)?);
            settle(&mut self.proxy, tunnels - TUNNELS_EACH)?;
            self.workers.ask(&format!("open {worker} {TUNNELS_EACH} {AT_ONCE}"))?;
        }
        print("100", &times);
        Ok(())
    }

    fn of_all(&mut self, tunnels: usize) -> io::Result<()> {
        let times = self.cut("cut all", tunnels)?;
        print("all", &times);
        Ok(())
    }

    /// Returns how long each end of a tunnel waited for its reset, of both ends together.
    fn cut(&mut self, question: &str, count: usize) -> io::Result<Vec<u64>> {
        let answer = numbers(&self.proxy.ask(question)?)?;
        let [began, returned, entries] = answer[..] else {
            return Err(io::Error::other("three numbers were expected"));
        };
        let mut times = Vec::new();
        for end in [&mut self.workers, &mut self.origins] {
            let ends = numbers(&end.ask(&format!("ends {count}"))?)?;
            let [0, resets @ ..] = &ends[..] else {
                return Err(io::Error::other("a tunnel ended without a reset"));
            };
            if resets.len() != count || entries != count as u64 {
                return Err(io::Error::other(format!(
                    "{count} tunnels, {entries} entries cut, {} resets",
                    resets.len()
                )));
            }
            times.extend(resets.iter().map(|at| at.saturating_sub(began)));
        }
        eprintln!("{question}: the call took {} ms", milliseconds(returned - began));
        Ok(times)
    }
}

/// Waits until so many entries are live, and no longer than that can take.
fn settle(proxy: &mut Role, entries: usize) -> io::Result<()> {
    for _ in 0..100 {
        if proxy.number("live")? == entries as u64 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let live = proxy.number("live")?;
    Err(io::Error::other(format!("{live} entries are live, not {entries}")))
}

fn print(of: &str, times: &[u64]) {
    let (half, most) = (percentile(times, 50), percentile(times, 99));
    println!("cut of={of} p50_ms={} p99_ms={}", milliseconds(half), milliseconds(most));
}

fn numbers(line: &str) -> io::Result<Vec<u64>> {
    line.split_whitespace().map(parse).collect()
}
