use super::*;
use crate::{
    config::{Loaded, load},
    environment::Environment,
    files::SourceText,
};

impl ProxyUrl {
    pub(crate) fn for_tests(address: &str, holder: Option<(&str, &str)>) -> Self {
        Self {
            address: address.parse().unwrap(),
            worker: holder.map(|(id, _)| WorkerId::parse(id).unwrap()),
            token: holder.map(|(_, token)| token_of(token)),
        }
    }
}

fn token_of(text: &str) -> Token {
    let environment = Environment { token: Some(text.into()), ..Environment::default() };
    Token::of(&environment).unwrap().unwrap()
}

/// Listeners for everybody, for tokens and for sources; workers of each kind and of both.
const CONFIG: &str = r#"version = 1
state_dir = "state"
listener = [
    { address = "unix:/run/egret/proxy.sock", identity = ["anonymous", "peer"] },
    { address = "127.0.0.1:3128", identity = ["anonymous"] },
    { address = "0.0.0.0:3129", identity = ["token"] },
    { address = "[::]:3130", identity = ["source"] },
    { address = "10.0.0.1:0", identity = ["token", "source"] },
]
[[worker]]
id = "ci@1"
token_sha256 = "3e2d7c6b2bd3fd3bbbf5ae36b36ed3ef2dc8d1b3d9a0f5a8b5a3b3ad3a1a3b70"
[[worker]]
id = "batch"
source = ["10.1.0.0/16"]
[[worker]]
id = "both"
source = ["10.2.0.0/16"]
token_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
[[worker]]
id = "user"
uid = 1200
"#;

fn config() -> Config {
    let digest = |token: &str| {
        token_of(token).digest().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let text = CONFIG
        .replace("3e2d7c6b2bd3fd3bbbf5ae36b36ed3ef2dc8d1b3d9a0f5a8b5a3b3ad3a1a3b70", &digest("one"))
        .replace(
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            &digest("two"),
        );
    let source = SourceText { path: "/etc/egret/egret.toml".into(), text };
    let Loaded { config, problems, .. } = load(&source, &Environment::default());
    config.unwrap_or_else(|| panic!("{problems:?}"))
}

fn found(running: &Running, worker: &str, token: &str) -> Result<String, ProxyUrlError> {
    let worker = (!worker.is_empty()).then(|| WorkerId::parse(worker).unwrap());
    let token = (!token.is_empty()).then(|| token_of(token));
    Chosen::of(&config(), worker.as_ref(), token)?.at(running).map(|proxy| proxy.expose())
}

#[test]
fn the_first_listener_that_takes_the_proofs_is_the_workers() {
    let check = |worker: &str, token: &str, expected: &str| {
        assert_eq!(found(&Running::Nowhere, worker, token).unwrap(), expected);
    };
    check("", "", "http://127.0.0.1:3128");
    check("anonymous", "", "http://127.0.0.1:3128");
    check("ci@1", "one", "http://ci%401:one@127.0.0.1:3129");
    check("", "one", "http://ci%401:one@127.0.0.1:3129");
    check("batch", "", "http://[::1]:3130");
    check("elsewhere", "a:b@c/d%", "http://elsewhere:a%3Ab%40c%2Fd%25@127.0.0.1:3129");
}

#[test]
fn what_would_be_refused_gets_no_url() {
    let check = |worker: &str, token: &str, expected: &str| {
        let error = found(&Running::Nowhere, worker, token).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let file = "/etc/egret/egret.toml";
    check("ci@1", "", "worker `ci@1` has to show its token, and there is none");
    check("ci@1", "two", "the token is not that of worker `ci@1`");
    check("", "three", &format!("the token is none of a worker in {file}"));
    check("batch", "one", &format!("worker `batch` has no token in {file}, and one is set"));
    check("user", "", &format!("no TCP listener in {file} takes `peer`"));
    let nobody =
        format!("worker `nobody` is not in {file}, and no token says that it is known elsewhere");
    check("nobody", "", &nobody);
    let port = "the system chooses the port of the listener, and no proxy runs that has one";
    check("both", "two", port);
}

#[test]
fn the_port_is_the_one_that_the_running_proxy_says() {
    let here = |listeners| Running::Here { listeners };
    let running = |addresses: [&str; 5]| here(addresses.map(|at| at.parse().ok()).to_vec());
    let ours = running(["", "127.0.0.1:3128", "0.0.0.0:3129", "[::]:3130", "10.0.0.1:4711"]);
    assert_eq!(found(&ours, "both", "two").unwrap(), "http://both:two@10.0.0.1:4711");
    assert_eq!(found(&ours, "", "").unwrap(), "http://127.0.0.1:3128");
    for other in [
        running(["", "127.0.0.1:4000", "0.0.0.0:3129", "[::]:3130", "10.0.0.2:4711"]),
        here(vec![]),
    ] {
        for (worker, token) in [("", ""), ("both", "two")] {
            let refused = found(&other, worker, token);
            assert!(matches!(refused, Err(ProxyUrlError::Elsewhere { .. })), "{refused:?}");
        }
    }
}

#[test]
fn an_address_where_no_proxy_is_known_to_listen_is_one_of_this_machine() {
    let at = |address: &str, running: &Running| {
        let text = CONFIG.replace("0.0.0.0:3129", address);
        let source = SourceText { path: "/etc/egret/egret.toml".into(), text };
        let config = load(&source, &Environment::default()).config.unwrap();
        let id = WorkerId::parse("elsewhere").unwrap();
        let chosen = Chosen::of(&config, Some(&id), Some(token_of("t"))).unwrap();
        chosen.at(running).map(|proxy| proxy.address.to_string())
    };
    for running in [Running::Nowhere, Running::Unknown] {
        for ours in ["127.0.0.1:8080", "127.1.2.3:8080", "[::1]:8080"] {
            assert_eq!(at(ours, &running).unwrap(), ours);
        }
        for other in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            let refused = at(other, &running);
            assert!(matches!(refused, Err(ProxyUrlError::NotHere { .. })), "{refused:?}");
        }
    }
    let listeners = [None, None, "192.0.2.1:8080".parse().ok(), None, None].to_vec();
    let proven = Running::Here { listeners };
    assert_eq!(at("192.0.2.1:8080", &proven).unwrap(), "192.0.2.1:8080");
}

#[test]
fn a_token_is_hidden_in_all_forms_in_which_it_is_shown() {
    let forms = |token| {
        ProxyUrl::for_tests("127.0.0.1:3128", Some(("ci-1", token))).expose_forms_of_token()
    };
    assert_eq!(forms("a%b"), ["a%b", "a%25b", "Y2ktMTphJWI="]);
    assert_eq!(forms("t0p"), ["t0p", "Y2ktMTp0MHA="]);
    assert!(ProxyUrl::for_tests("127.0.0.1:3128", None).expose_forms_of_token().is_empty());
}
