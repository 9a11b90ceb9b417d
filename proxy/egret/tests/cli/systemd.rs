//! Under a service manager: what it is told, the units it is given, and its sockets.

use std::{
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    listen::handing_over,
    place::{CONFIG, Place, Run, Serving},
    serve::get,
};

/// What a manager hears.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(socket)
    }

    /// Waits for a message that says `text`, and returns it.
    #[track_caller]
    fn hears(&self, text: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).expect(text);
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            if message.contains(text) {
                return message;
            }
        }
    }
}

#[test]
fn a_manager_is_told_of_the_start_of_reloads_of_the_end_and_that_egret_is_alive() {
    let place = Place::ready();
    let manager = Manager::listen(&place.path("notify"));
    let mut command = place.command(&["serve"]);
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "400000");
    let mut serving = Serving::start(&mut command);
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=serving, 0 open, policy "), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    place.write("policy.toml", "version = 1\n");
    let reloading = manager.hears("RELOADING=1");
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0, "{reloading}");
    let ready = manager.hears("READY=1");
    assert!(!ready.contains("not in force"), "{ready}");
    // A policy that is refused can be seen where an operator looks first.
    place.write("policy.toml", "version = 2\n");
    manager.hears("RELOADING=1");
    let ready = manager.hears("READY=1");
    assert!(ready.contains("; 1 problem in the files, which are not in force"), "{ready}");
    serving.hears("reload refused");
    place.write("policy.toml", "version = 1\n");
    manager.hears("RELOADING=1");
    let ready = manager.hears("READY=1");
    assert!(!ready.contains("not in force"), "{ready}");
    serving.signal(Signal::TERM);
    let stopping = manager.hears("STOPPING=1");
    assert!(stopping.contains("STATUS=draining, "), "{stopping}");
    manager.hears("EXTEND_TIMEOUT_USEC=30000000");
    serving.end().ends_with(0);
}

/// A variable that is another process's is no reason to send anything.
#[test]
fn without_a_watchdog_nobody_is_told_that_egret_is_alive() {
    let place = Place::ready();
    let manager = Manager::listen(&place.path("notify"));
    let mut command = place.command(&["serve"]);
    command.env("NOTIFY_SOCKET", place.path("notify"));
    command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let serving = Serving::start(&mut command);
    manager.hears("READY=1");
    serving.signal(Signal::TERM);
    let mut heard = String::new();
    while !heard.contains("STOPPING=1") {
        heard = manager.hears("");
        assert!(!heard.contains("WATCHDOG"), "{heard}");
    }
    serving.end().ends_with(0);
}

const UNITS: [&str; 2] = ["egret.service", "egret.socket"];

/// The units as they would be installed, but for where egret is.
fn install(place: &Place) {
    for unit in UNITS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(unit);
        let text = std::fs::read_to_string(path).unwrap();
        place.write(unit, &text.replace("/usr/bin/egret", env!("CARGO_BIN_EXE_egret")));
    }
}

/// Runs the tool that judges units; `None`, loudly, where there is none.
fn analyze(place: &Place, line: &[&str]) -> Option<Run> {
    let mut command = Command::new("systemd-analyze");
    match command.args(line).current_dir(place.path("")).output() {
        Ok(output) => Some(output.into()),
        Err(error) => {
            let said =
                format!("NOT TESTED: the units, because `systemd-analyze` is missing: {error}");
            assert!(env::var_os("EGRET_REQUIRE_CLIENTS").is_none(), "{said}");
            eprintln!("{said}");
            None
        }
    }
}

#[test]
fn the_units_are_valid_and_leave_little_exposed() {
    let place = Place::new();
    install(&place);
    for unit in UNITS {
        let unit = place.path(unit);
        let Some(run) = analyze(&place, &["verify", "--man=no", unit.to_str().unwrap()]) else {
            return;
        };
        let run = run.ends_with(0);
        assert_eq!(run.stderr, "", "{unit:?}");
    }
    let service = place.path(UNITS[0]);
    let judge = |unit: &Path| {
        let line = ["security", "--offline=true", "--no-pager", "--threshold=15"];
        analyze(&place, &[&line[..], &[unit.to_str().unwrap()]].concat())
    };
    let Some(run) = judge(&service) else { return };
    run.ends_with(0);
    // The tool does tell: with one line less it is too much.
    let text = place.read(UNITS[0]).replace("CapabilityBoundingSet=\n", "");
    place.write("other.service", &text);
    assert_ne!(judge(&place.path("other.service")).unwrap().status, 0);
}

/// Asks again and again, on one connection for as long as that lasts, until told to stop.
fn ask_on(address: SocketAddr, asked: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let first = ask_once(&mut stream);
        assert!(first.starts_with(DENIED), "{first:?}");
        let mut answer = first;
        while answer.starts_with(DENIED) {
            asked.fetch_add(1, Ordering::Relaxed);
            if answer.contains("connection: close") || stop.load(Ordering::Relaxed) {
                break;
            }
            answer = ask_once(&mut stream);
        }
        // A kept connection may end unasked if the machine lets nobody ask for a second; every
        // client is ready for that.
        assert!(answer.is_empty() || answer.starts_with(DENIED), "{answer:?}");
    }
}

/// The answer in lower case; nothing where the connection ended before it.
fn ask_once(stream: &mut TcpStream) -> String {
    let request = get("elsewhere.test").replace("Connection: close\r\n", "");
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        let mut byte = [0];
        while !answer.ends_with(b"}") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            answer.push(byte[0]);
        }
    }
    String::from_utf8(answer).unwrap().to_lowercase()
}

const DENIED: &str = "http/1.1 403 egress.host_not_allowed ";

#[test]
fn a_restart_under_traffic_loses_no_request() {
    const WORKERS: usize = 8;
    const EACH_TIME: usize = 200;
    let place = Place::ready();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let more = "[limits]\ndenials_per_minute = 1000000\n";
    place.write("egret.toml", &(CONFIG.replace("127.0.0.1:0", &address.to_string()) + more));
    let (asked, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..WORKERS).map(|_| scope.spawn(|| ask_on(address, &asked, &stop))).collect();
        for _ in 0..3 {
            let before = asked.load(Ordering::Relaxed);
            let serving = Serving::start(&mut handing_over(&place, socket.try_clone().unwrap()));
            while asked.load(Ordering::Relaxed) < before + EACH_TIME
                && !workers.iter().any(|worker| worker.is_finished())
            {
                thread::yield_now();
            }
            serving.signal(Signal::TERM);
            serving.end().ends_with(0);
        }
        // Who waits is served by the last one.
        let serving = Serving::start(&mut handing_over(&place, socket.try_clone().unwrap()));
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap();
        }
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
    });
    assert!(asked.into_inner() >= 3 * EACH_TIME);
}
