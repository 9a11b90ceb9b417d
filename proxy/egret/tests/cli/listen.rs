//! Where `egret serve` listens: Unix sockets beside TCP, and sockets that were handed over.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Signal, getuid};

use super::place::{CONFIG, Place, Run, Serving, mode, set_mode};

/// The configuration of every place, and a listener that knows one user.
fn with_unix(path: &Path, uid: u32) -> String {
    format!(
        "{CONFIG}[[listener]]\naddress = \"unix:{}\"\nidentity = [\"peer\"]\n\
         [[worker]]\nid = \"user\"\nuid = {uid}\n",
        path.display()
    )
}

/// Sends one request and reads to the end; what no rule allows is answered without an origin.
fn ask(mut stream: impl Read + Write) -> String {
    let request = "GET http://elsewhere.example/ HTTP/1.1\r\nHost: elsewhere.example\r\n\
                   Connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const DENIED: &str = "HTTP/1.1 403 egress.host_not_allowed ";
const UNKNOWN: &str = "HTTP/1.1 403 egress.identity_required ";

#[test]
fn a_unix_socket_is_announced_served_and_removed() {
    for (uid, answer) in [(getuid().as_raw(), DENIED), (getuid().as_raw() + 1, UNKNOWN)] {
        let place = Place::ready();
        let path = place.path("proxy.sock");
        place.write("egret.toml", &with_unix(&path, uid));
        let mut serving = place.serve(&["serve"]);
        assert_eq!(serving.line(), format!("listening unix:{}\n", path.display()));
        let told = ask(UnixStream::connect(&path).unwrap());
        assert!(told.starts_with(answer), "{told}");
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
        assert!(!path.exists());
    }
}

#[test]
fn where_it_listens_is_in_the_state_directory_while_it_runs() {
    let place = Place::ready();
    let path = place.path("proxy.sock");
    place.write("egret.toml", &with_unix(&path, getuid().as_raw()));
    let serving = place.serve(&["serve"]);
    let told: serde_json::Value =
        serde_json::from_str(&place.read("state/listening.json")).unwrap();
    let listeners = [serving.address.to_string(), format!("unix:{}", path.display())];
    assert_eq!(told, serde_json::json!({ "pid": serving.pid(), "listeners": listeners }));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    assert!(!place.path("state/listening.json").exists());
}

#[test]
fn the_mode_of_a_unix_socket_is_what_the_umask_leaves() {
    for (umask, expected) in [("077", 0o700), ("007", 0o770), ("0", 0o777)] {
        let place = Place::ready();
        let path = place.path("proxy.sock");
        place.write("egret.toml", &with_unix(&path, getuid().as_raw()));
        let mut shell = place.shell(&format!("umask {umask}; exec \"$0\" serve"));
        let mut serving = Serving::start(shell.stdin(Stdio::null()));
        serving.line();
        assert_eq!(mode(&path), expected, "{umask}");
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
    }
}

#[test]
fn a_unix_socket_in_use_is_69_and_one_that_was_left_over_is_replaced() {
    let (first, second) = (Place::ready(), Place::ready());
    let path = first.path("proxy.sock");
    for place in [&first, &second] {
        place.write("egret.toml", &with_unix(&path, getuid().as_raw()));
    }
    let mut serving = first.serve(&["serve"]);
    serving.line();
    let address = format!("listen on unix:{}", path.display());
    second.run(&["serve"]).ends_with(69).says(&address).says("another path");
    assert!(ask(UnixStream::connect(&path).unwrap()).starts_with(DENIED));

    serving.signal(Signal::KILL);
    serving.end();
    assert!(path.exists());
    let mut serving = second.serve(&["serve"]);
    serving.line();
    assert!(ask(UnixStream::connect(&path).unwrap()).starts_with(DENIED));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    std::fs::write(&path, "precious").unwrap();
    second.run(&["serve"]).ends_with(69).says("it is no socket").says("move `");
}

/// Whoever may write there could put a socket of their own in its place, and collect tokens.
#[test]
fn a_unix_socket_where_others_may_write_is_78_and_names_the_fix() {
    let place = Place::ready();
    let folder = place.path("run");
    std::fs::create_dir(&folder).unwrap();
    place.write("egret.toml", &with_unix(&folder.join("proxy.sock"), getuid().as_raw()));
    for open in [0o777, 0o770, 0o757] {
        set_mode(&folder, open);
        let run = place.run(&["serve"]).ends_with(78);
        run.says("others may replace unix:").says(&format!("chmod go-w {}", folder.display()));
    }
    for guarded in [0o755, 0o1777] {
        set_mode(&folder, guarded);
        let mut serving = place.serve(&["serve"]);
        serving.line();
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
    }
}

/// Starts egret as systemd would: the socket is descriptor 3, and the variables name this process.
/// A descriptor travels as standard input, because only a shell can move it without unsafe code.
pub(crate) fn handing_over(place: &Place, socket: impl Into<OwnedFd>) -> Command {
    let mut shell = place.shell(
        "exec 3<&0 0</dev/null; LISTEN_FDS=1; LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; \
         exec \"$0\" serve",
    );
    shell.stdin(Stdio::from(socket.into()));
    shell
}

#[test]
fn a_socket_that_is_handed_over_loses_no_connection() {
    let place = Place::ready();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    place.write("egret.toml", &CONFIG.replace("127.0.0.1:0", &address.to_string()));
    for round in 0..2 {
        // Before there is anybody to accept, and again between two who do.
        let early = TcpStream::connect(address).unwrap();
        let serving = Serving::start(&mut handing_over(&place, socket.try_clone().unwrap()));
        assert_eq!(serving.address, address);
        assert!(ask(early).starts_with(DENIED), "round {round}");
        assert!(ask(TcpStream::connect(address).unwrap()).starts_with(DENIED));
        serving.signal(Signal::TERM);
        serving.end().ends_with(0);
    }
}

#[test]
fn the_file_of_a_unix_socket_that_is_handed_over_stays() {
    let place = Place::ready();
    let path = place.path("proxy.sock");
    let socket = UnixListener::bind(&path).unwrap();
    place.write("egret.toml", &with_unix(&path, getuid().as_raw()));
    let early = UnixStream::connect(&path).unwrap();
    let mut serving = Serving::start(&mut handing_over(&place, socket.try_clone().unwrap()));
    assert_eq!(serving.line(), format!("listening unix:{}\n", path.display()));
    assert!(ask(early).starts_with(DENIED));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    // Whoever bound it still listens.
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_that_no_listener_names_is_78_and_says_what_to_write() {
    let place = Place::ready();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let refused = |place: &Place, socket: OwnedFd| {
        Run::from(handing_over(place, socket).output().unwrap()).ends_with(78)
    };
    refused(&place, socket.into())
        .says(&format!("no listener names {address}"))
        .says(&format!("address = \"{address}\""));
    let path = place.path("other.sock");
    refused(&place, UnixListener::bind(&path).unwrap().into())
        .says(&format!("address = \"unix:{}\"", path.display()));
    // What is no listening stream socket at all.
    let file = std::fs::File::open(place.path("egret.toml")).unwrap();
    refused(&place, file.into()).says("fd 3 is not a socket");
    let (end, _other) = UnixStream::pair().unwrap();
    end.shutdown(Shutdown::Both).unwrap();
    refused(&place, end.into()).says("a socket without a name");
}

/// The variables are another process's, which has passed its environment on.
#[test]
fn sockets_for_another_process_are_not_taken() {
    let place = Place::ready();
    let mut command = place.command(&["serve"]);
    let serving = Serving::start(command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1"));
    assert!(ask(TcpStream::connect(serving.address).unwrap()).starts_with(DENIED));
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
}
