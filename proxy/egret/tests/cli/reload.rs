//! Reload: other files are in force once they are good, and the old ones stay until then.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;

use super::{
    place::{CONFIG, POLICY, Place, Serving, set_mode},
    serve::{ask, get, records},
};

/// Whether a request for that host would be allowed, by how it is refused: no name is resolved.
fn allows(serving: &Serving, host: &str) -> bool {
    let answer = ask(serving, &get(host));
    match answer.split(' ').nth(2).unwrap() {
        "egress.rule_denied" => true,
        "egress.host_not_allowed" => false,
        other => panic!("{other}"),
    }
}

/// A policy that knows these hosts; what it knows is denied by a rule, so that nothing is looked up.
fn knowing(hosts: &[&str]) -> String {
    format!(
        "version = 1\n[[rule]]\nid = \"known\"\neffect = \"deny\"\nhosts = {hosts:?}\n\
         schemes = [\"http\"]\nports = [80]\n"
    )
}

#[test]
fn a_policy_is_in_force_once_it_is_saved_however_that_is_done() {
    let place = Place::ready();
    place.write("policy.toml", &knowing(&["a.test"]));
    let mut serving = place.serve(&["serve"]);
    assert!(allows(&serving, "a.test") && !allows(&serving, "b.test"));

    // Written over.
    place.write("policy.toml", &knowing(&["b.test"]));
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "b.test") && !allows(&serving, "a.test"));

    // Renamed over, as most editors do it.
    place.write("policy.toml.new", &knowing(&["c.test"]));
    fs::rename(place.path("policy.toml.new"), place.path("policy.toml")).unwrap();
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "c.test"));

    // Removed, and there again.
    fs::remove_file(place.path("policy.toml")).unwrap();
    serving.hears("reload refused");
    assert!(allows(&serving, "c.test"));
    place.write("policy.toml", &knowing(&["d.test"]));
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "d.test"));

    // Piece by piece: what has been written by then is no policy, and nobody has said it was.
    let text = knowing(&["e.test"]);
    let mut file = File::create(place.path("policy.toml")).unwrap();
    for piece in text.as_bytes().chunks(text.len() / 5) {
        file.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    drop(file);
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "e.test"));
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    assert_eq!(run.stderr.matches("reload refused").count(), 1, "{}", run.stderr);
    assert_eq!(run.stderr.matches("\"reloaded\"").count(), 4, "{}", run.stderr);
}

/// As Kubernetes exchanges a mounted configuration map: one link, under which all files are others.
#[test]
fn a_link_that_is_moved_on_is_followed() {
    let place = Place::new();
    let version = |number: &str, hosts: &[&str]| {
        place.write(&format!("..{number}/policy.toml"), &knowing(hosts));
        place.write(&format!("..{number}/egret.toml"), CONFIG);
        symlink(format!("..{number}"), place.path("..next")).unwrap();
        fs::rename(place.path("..next"), place.path("..data")).unwrap();
    };
    version("1", &["a.test"]);
    for file in ["egret.toml", "policy.toml"] {
        symlink(format!("..data/{file}"), place.path(file)).unwrap();
    }
    let mut serving = place.serve(&["serve"]);
    assert!(allows(&serving, "a.test"));
    for (number, host) in [("2", "b.test"), ("3", "c.test")] {
        version(number, &[host]);
        serving.hears("\"reloaded\"");
        assert!(allows(&serving, host) && !allows(&serving, "a.test"));
    }
    fs::remove_dir_all(place.path("..3")).unwrap();
    serving.hears("reload refused");
    assert!(allows(&serving, "c.test"));
    version("4", &["d.test"]);
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "d.test"));
}

/// In a user namespace of its own, where the kernel watches nothing for anybody.
#[test]
fn where_nothing_can_be_watched_files_are_compared() {
    let place = Place::ready();
    place.write("policy.toml", &knowing(&["a.test"]));
    let unwatched = "echo 0 > /proc/sys/user/max_inotify_instances && exec";
    let script =
        |run: &str| format!("exec unshare --user --map-root-user sh -c '{unwatched} {run}' \"$0\"");
    let able = place.shell(&script("true")).output().unwrap();
    if !able.status.success() {
        let said = format!("NOT TESTED: polling, for want of a user namespace: {able:?}");
        assert!(std::env::var_os("EGRET_REQUIRE_NETNS").is_none(), "{said}");
        return eprintln!("{said}");
    }
    let mut serving = Serving::start(&mut place.shell(&script("\"$0\" serve")));
    serving.hears("files cannot be watched");
    place.write("policy.toml", &knowing(&["b.test"]));
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "b.test") && !allows(&serving, "a.test"));
}

#[test]
fn a_policy_that_waits_for_a_configuration_is_named() {
    let place = Place::ready();
    place.write("policy.toml", &knowing(&["a.test"]));
    let mut serving = place.serve(&["serve"]);
    place.write("egret.toml", &format!("{CONFIG}slip = 1\n"));
    serving.hears("reload refused");
    place.write("policy.toml", &knowing(&["b.test"]));
    serving.hears("the policy has changed, and waits for `");
    serving.hears("reload refused");
    assert!(allows(&serving, "a.test"));
    place.write("egret.toml", CONFIG);
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "b.test"));
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    assert_eq!(run.stderr.matches("\"the policy has changed").count(), 1, "{}", run.stderr);
}

/// As a container gets a single file: its folder is another one than that in which it changes.
#[test]
fn a_file_that_is_mounted_by_itself_is_looked_at() {
    let place = Place::ready();
    place.write("outside/policy.toml", &knowing(&["a.test"]));
    let mounted = "mount --bind outside/policy.toml policy.toml && exec";
    let script = |run: &str| {
        format!("exec unshare --user --map-root-user --mount sh -c '{mounted} {run}' \"$0\"")
    };
    let able = place.shell(&script("true")).output().unwrap();
    if !able.status.success() {
        let said = format!("NOT TESTED: a mount, for want of a user namespace: {able:?}");
        assert!(std::env::var_os("EGRET_REQUIRE_NETNS").is_none(), "{said}");
        return eprintln!("{said}");
    }
    let mut serving = Serving::start(&mut place.shell(&script("\"$0\" serve")));
    let began = Instant::now();
    fs::write(place.path("outside/policy.toml"), knowing(&["b.test"])).unwrap();
    serving.hears("\"reloaded\"");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
    assert!(allows(&serving, "b.test") && !allows(&serving, "a.test"));
}

#[test]
fn what_is_not_good_is_refused_as_at_the_start_and_the_old_stays() {
    let place = Place::ready();
    place.write("policy.toml", &knowing(&["a.test"]));
    let mut serving = place.serve(&["serve"]);
    let path = place.path("policy.toml");
    let failing = "[[test]]\nurl = \"http://b.test/\"\nexpect = \"allow\"\n";
    let bad: [(&str, &dyn Fn(), &str); 6] = [
        (
            "a slip",
            &|| place.write("policy.toml", &knowing(&["b.test"]).replace("hosts", "hsots")),
            "did you mean `hosts`?",
        ),
        (
            "its own tests",
            &|| place.write("policy.toml", &(knowing(&["b.test"]) + failing)),
            "fails its own tests",
        ),
        ("nothing", &|| place.write("policy.toml", ""), "version = 1"),
        (
            "others may write",
            &|| {
                place.write("policy.toml", &knowing(&["b.test"]));
                set_mode(&path, 0o666);
            },
            "chmod go-w",
        ),
        ("no file", &|| replace_by_link(&path, Path::new("/dev/null")), "is not a file"),
        ("a pipe", &|| replace_by_pipe(&path), "is not a file"),
    ];
    for (name, spoil, says) in bad {
        spoil();
        serving.hears(says);
        let refused = serving.hears("reload refused");
        assert!(refused.contains("\"problems\":1"), "{name}: {refused}");
        assert!(allows(&serving, "a.test") && !allows(&serving, "b.test"), "{name}");
        // What is in force again is no other policy.
        let _ = fs::remove_file(&path);
        place.write("policy.toml.new", &knowing(&["a.test"]));
        fs::rename(place.path("policy.toml.new"), &path).unwrap();
        serving.hears("nothing has changed");
    }
    place.write("policy.toml", &knowing(&["b.test"]));
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "b.test"));
}

fn replace_by_link(path: &Path, target: &Path) {
    fs::remove_file(path).unwrap();
    symlink(target, path).unwrap();
}

fn replace_by_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_hangup_reloads_and_a_touch_changes_nothing() {
    let place = Place::ready();
    let mut serving = place.serve(&["serve"]);
    // Touched, and written with the same contents.
    for file in ["policy.toml", "egret.toml"] {
        let text = place.read(file);
        place.write(file, &text);
    }
    serving.signal(Signal::HUP);
    serving.hears("nothing has changed");
    place.write("policy.toml", &knowing(&["a.test"]));
    serving.signal(Signal::HUP);
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "a.test"));
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    assert_eq!(run.stderr.matches("\"reloaded\"").count(), 1, "{}", run.stderr);
}

/// Who asks may do so in the midst of a write; who never ends it does not keep others from asking.
#[test]
fn a_hangup_waits_a_moment_for_what_is_being_written() {
    let place = Place::ready();
    place.write("policy.toml", &knowing(&["a.test"]));
    let mut serving = place.serve(&["serve"]);
    // From here on the files are watched.
    serving.signal(Signal::HUP);
    serving.hears("nothing has changed");
    let (begun, rest) = ("version = 1\n", knowing(&["b.test"]).replace("version = 1\n", ""));
    let mut file = File::create(place.path("policy.toml")).unwrap();
    file.write_all(begun.as_bytes()).unwrap();
    serving.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    let first = serving.hears("\"reloaded\"");
    assert!(allows(&serving, "b.test"), "{first}");

    let mut file = File::create(place.path("policy.toml")).unwrap();
    file.write_all(begun.as_bytes()).unwrap();
    serving.signal(Signal::HUP);
    serving.hears("still writes is taken as it is");
    serving.hears("\"reloaded\"");
    assert!(!allows(&serving, "b.test"));
    drop(file);
}

/// As where a worker uses up what the process may open: it gains a moment, not a minute.
#[test]
fn what_cannot_be_read_for_want_of_descriptors_is_looked_at_again() {
    let place = Place::ready();
    place.write("policy.toml", &knowing(&["a.test"]));
    let mut serving = place.serve(&["serve"]);
    let pid = Pid::from_raw(i32::try_from(serving.pid()).unwrap());
    let limited = |current| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap().current
    };
    let before = limited(Some(1));
    place.write("policy.toml", &knowing(&["b.test"]));
    let refused = serving.hears("reload refused");
    std::thread::sleep(Duration::from_secs(5));
    limited(before);
    let began = Instant::now();
    serving.hears("\"reloaded\"");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(allows(&serving, "b.test"), "{refused}");
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    assert_eq!(run.stderr.matches("reload refused").count(), 1, "{}", run.stderr);
}

#[test]
fn keys_that_wait_for_the_next_start_are_named_with_their_line() {
    let place = Place::ready();
    let mut serving = place.serve(&["serve"]);
    place.write("other.toml", &knowing(&["a.test"]));
    let changed = CONFIG.replace("policy.toml", "other.toml").replace("anonymous", "token")
        + "[limits]\ndrain_timeout = \"7s\"\n";
    let worker = format!("[[worker]]\nid = \"w\"\ntoken_sha256 = \"{}\"\n", "7".repeat(64));
    place.write("egret.toml", &(changed.clone() + &worker));
    // The policy is another one at once; the listener takes what it took.
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "a.test"));
    for key in ["listener[1].identity", "limits.drain_timeout"] {
        let line = serving.hears(&format!("`{key}` takes effect at the next start"));
        assert!(line.contains(" --> egret.toml:"), "{line}");
    }
    // A configuration that is not valid changes nothing, its policy included.
    place.write("egret.toml", &(changed.replace("other.toml", "policy.toml") + "[limit]\n"));
    serving.hears("limit");
    serving.hears("reload refused");
    assert!(allows(&serving, "a.test"));
    // And does not hide that the policy has changed.
    place.write("other.toml", &knowing(&["b.test"]));
    serving.hears("reload refused");
    assert!(allows(&serving, "a.test"));
    place.write("egret.toml", &(changed.clone() + &worker));
    serving.hears("\"reloaded\"");
    assert!(allows(&serving, "b.test"));
    serving.signal(Signal::TERM);
    let run = serving.end().ends_with(0);
    assert!(!run.stderr.contains("worker[1]") && !run.stderr.contains("`policy` takes"));
}

/// A policy that opens tunnels to one port of loopback, and knows one host.
fn opening(port: u16, more: &str) -> String {
    format!(
        "version = 1\n[[rule]]\nid = \"local\"\neffect = \"allow\"\nhosts = [\"127.0.0.1\"]\n\
         schemes = [\"tcp\"]\nports = [{port}]\n{more}\n[[network.allow]]\ncidr = \"127.0.0.0/8\"\n\
         rules = [\"local\"]\n"
    )
}

/// Both ends of an open tunnel.
struct Tunnel {
    worker: TcpStream,
    origin: TcpStream,
}

impl Tunnel {
    fn open(serving: &Serving, origin: &TcpListener, proof: &str) -> Self {
        let mut worker = TcpStream::connect(serving.address).unwrap();
        worker.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let port = origin.local_addr().unwrap().port();
        let head =
            format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{proof}\r\n");
        worker.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            worker.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        let (origin, _) = origin.accept().unwrap();
        let mut tunnel = Self { worker, origin };
        tunnel.passes();
        tunnel
    }

    /// Requires that bytes still get through.
    fn passes(&mut self) {
        self.worker.write_all(b"ping").unwrap();
        self.origin.read_exact(&mut [0; 4]).unwrap();
        self.origin.write_all(b"pong").unwrap();
        self.worker.read_exact(&mut [0; 4]).unwrap();
    }

    /// Waits until both ends are reset, and returns how long that took.
    fn is_cut(&mut self) -> Duration {
        let began = Instant::now();
        for end in [&mut self.worker, &mut self.origin] {
            let error = end.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        began.elapsed()
    }
}

#[test]
fn a_live_tunnel_that_is_no_longer_allowed_is_cut_and_its_neighbour_is_not() {
    let place = Place::ready();
    let (lost, kept) = (listen(), listen());
    let port = |origin: &TcpListener| origin.local_addr().unwrap().port();
    let both =
        opening(port(&lost), "").replace("ports = [", &format!("ports = [{}, ", port(&kept)));
    place.write("policy.toml", &both);
    let mut serving = place.serve(&["serve"]);
    let mut to_lose = Tunnel::open(&serving, &lost, "");
    let mut to_keep = Tunnel::open(&serving, &kept, "");

    place.write("policy.toml", &opening(port(&kept), ""));
    let line = serving.hears("\"reloaded\"");
    // One tunnel and the connection that it came over count for what is cut.
    let told: Value = serde_json::from_str(&line).unwrap();
    assert!(told["cut"].as_u64().unwrap() >= 1, "{line}");
    // The promise is one second; a machine that is busy with other tests is given more.
    assert!(to_lose.is_cut() < Duration::from_secs(5));
    to_keep.passes();

    let Tunnel { worker, mut origin } = to_keep;
    drop(worker);
    assert_eq!(origin.read(&mut [0; 1]).unwrap(), 0);
    drop(origin);
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    let lines = records(&place, "state/audit/00000001.jsonl");
    let ends: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "completion")
        .map(|line| (line["port"].as_u64().unwrap(), line["closed_by"].as_str().unwrap()))
        .collect();
    let expected = [(u64::from(port(&lost)), "policy"), (u64::from(port(&kept)), "client")];
    assert_eq!(ends, expected, "{lines:#?}");
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_worker_that_is_removed_or_changed_loses_its_tunnels_and_no_other_does() {
    let place = Place::ready();
    let origin = listen();
    place.write("policy.toml", &opening(origin.local_addr().unwrap().port(), ""));
    let worker = |id: &str, token: &str, more: &str| {
        use sha2::{Digest, Sha256};
        let digest: String =
            Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[worker]]\nid = \"{id}\"\ntoken_sha256 = \"{digest}\"\n{more}\n")
    };
    let config = |workers: &[String]| {
        place.write("egret.toml", &(CONFIG.replace("anonymous", "token") + &workers.concat()));
    };
    config(&[
        worker("gone", "1", ""),
        worker("renewed", "2", ""),
        worker("labelled", "3", ""),
        worker("same", "4", ""),
    ]);
    let mut serving = place.serve(&["serve"]);
    let proof = |token: &str| format!("Proxy-Authorization: Bearer {token}\r\n");
    let mut tunnels: Vec<_> =
        ["1", "2", "3", "4"].map(|token| Tunnel::open(&serving, &origin, &proof(token))).into();

    config(&[
        worker("same", "4", ""),
        worker("labelled", "3", "labels = { pool = \"a\" }"),
        worker("renewed", "5", ""),
        worker("new", "6", ""),
    ]);
    serving.hears("\"reloaded\"");

    tunnels.pop().unwrap().passes();
    for mut tunnel in tunnels {
        assert!(tunnel.is_cut() < Duration::from_secs(5));
    }
    for token in ["3", "4", "5", "6"] {
        Tunnel::open(&serving, &origin, &proof(token)).passes();
    }
    for token in ["1", "2"] {
        let with = get("x.test").replace("Connection", &(proof(token) + "Connection"));
        let answer = ask(&serving, &with);
        assert!(answer.starts_with("HTTP/1.1 407 egress.identity_invalid "), "{answer}");
    }
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    let cut: Vec<_> = records(&place, "state/audit/00000001.jsonl")
        .into_iter()
        .filter(|line| line["closed_by"] == "policy" && line["status"] == 200)
        .map(|line| line["worker"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(cut.len(), 3, "{cut:?}");
    assert!(!cut.contains(&"same".to_owned()), "{cut:?}");
}

#[test]
fn what_was_counted_is_counted_after_a_reload() {
    let place = Place::ready();
    let origin = listen();
    let policy = opening(origin.local_addr().unwrap().port(), "limits = { tunnels = 1 }");
    place.write("policy.toml", &policy);
    let mut serving = place.serve(&["serve"]);
    let mut open = Tunnel::open(&serving, &origin, "");
    place.write("policy.toml", &format!("{policy}# another text\n"));
    serving.hears("\"reloaded\"");
    open.passes();
    let port = origin.local_addr().unwrap().port();
    let connect = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    let answer = ask(&serving, &connect);
    assert!(answer.starts_with("HTTP/1.1 429 egress.rate_limited "), "{answer}");
    drop(open);
}

/// What was recorded of the policy itself.
fn changes(place: &Place) -> impl Iterator<Item = Value> {
    let lines = place.read("state/audit/00000001.jsonl");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.into_iter().filter(|line| line["event"] == "policy")
}

#[test]
fn each_exchange_is_recorded_with_the_policy_that_judged_it() {
    let place = Place::ready();
    let mut serving = place.serve(&["serve"]);
    ask(&serving, &get("x.test"));
    place.write("policy.toml", &knowing(&["x.test"]));
    let line: Value = serde_json::from_str(&serving.hears("\"reloaded\"")).unwrap();
    ask(&serving, &get("x.test"));
    place.write("policy.toml", "");
    serving.hears("reload refused");
    place.write("policy.toml", POLICY);
    serving.hears("\"reloaded\"");
    ask(&serving, &get("x.test"));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    let changes: Vec<_> = changes(&place).collect();
    let told: Vec<_> = changes.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(told, ["policy.loaded", "policy.replaced", "policy.refused", "policy.replaced"]);
    let in_force: Vec<_> = changes.iter().map(|line| &line["policy"]).collect();
    let second = &line["revision"];
    assert_eq!(in_force, [in_force[0], second, second, in_force[0]]);
    assert_eq!(changes[2]["count"], 1);
    let policies: Vec<_> = records(&place, "state/audit/00000001.jsonl")
        .into_iter()
        .filter(|line| line["event"] == "decision")
        .map(|line| (line["reason"].clone(), line["policy"].clone()))
        .collect();
    let [first, second, third] = &policies[..] else { panic!("{policies:?}") };
    assert_eq!(first, third);
    assert_eq!(second, &("egress.rule_denied".into(), line["revision"].clone()));
    assert_ne!(first.1, second.1);
}
