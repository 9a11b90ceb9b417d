//! The proxy as a process.

use std::{
    env,
    net::TcpListener,
    process::{Command, ExitCode},
    time::Duration,
};

use egret_testkit::proxy::{Proxy, Ready};

use crate::{Claim, World, fixtures::WAIT};

/// Makes this binary a process that listens.
pub(crate) const PROXY: &str = "EGRET_KIT_PROXY";

pub(crate) const TRIALS: &[Claim] = &[
    ("a_proxy_is_ready_when_it_says_so", a_proxy_is_ready_when_it_says_so),
    ("a_proxy_is_gone_when_dropped", a_proxy_is_gone_when_dropped),
    ("a_proxy_that_ends_is_reported_with_what_it_said", ends_are_reported),
];

fn a_proxy_is_ready_when_it_says_so(_: &World) {
    let mut proxy = start();
    assert_ne!(proxy.address().port(), 0);
    assert_eq!(proxy.listeners(), [proxy.address().to_string()]);
    assert!(proxy.is_alive());
    assert!(proxy.usage().resident > 100_000);
    std::net::TcpStream::connect(proxy.address()).expect("it accepts");
}

fn a_proxy_is_gone_when_dropped(_: &World) {
    let proxy = start();
    let (address, pid) = (proxy.address(), proxy.pid());
    drop(proxy);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

fn ends_are_reported(_: &World) {
    // Unknown arguments of the test harness: it prints usage and ends.
    let mut command = Command::new(env::current_exe().expect("this binary"));
    command.arg("--no-such-option");
    let ended = Proxy::start(command, Ready::Line, WAIT).expect_err("no proxy");
    assert!(ended.status.is_some_and(|status| !status.success()), "{ended}");
    assert!(ended.said.contains("--no-such-option"), "{ended}");

    let mut silent = Command::new(env::current_exe().expect("this binary"));
    silent.env(PROXY, "silent");
    let late = Proxy::start(silent, Ready::Line, Duration::from_millis(200)).expect_err("late");
    assert!(late.status.is_none() && late.said.contains("not ready"), "{late}");
}

fn start() -> Proxy {
    let mut command = Command::new(env::current_exe().expect("this binary"));
    command.env(PROXY, "1");
    Proxy::start(command, Ready::Line, WAIT).expect("the listener")
}

/// Accepts for ever; silent about it when asked to be.
pub(crate) fn serve() -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    if env::var_os(PROXY).is_some_and(|value| value != "silent") {
        println!("listening {}", listener.local_addr().expect("an address"));
    }
    for _stream in listener.incoming().flatten() {}
    ExitCode::SUCCESS
}
