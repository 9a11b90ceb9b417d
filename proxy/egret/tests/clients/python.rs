//! Python: urllib, http.client, requests and httpx.

use crate::{
    Claim,
    program::Client,
    scene::{ALLOWED, BODY, CODE, DENIED, POLICY, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Python, "urllib_fetches_what_is_allowed_and_shows_the_code_of_a_denial", urllib),
    (Client::Python, "http_client_tunnels_what_is_allowed_and_shows_the_code", http_client),
    (Client::Python, "urllib_says_who_it_is_by_the_proxys_url", urllib_credentials),
    (Client::Requests, "requests_fetches_what_is_allowed_and_shows_the_code", requests),
    (Client::Httpx, "httpx_fetches_what_is_allowed_and_shows_the_code", httpx),
];

const URLLIB: &str = "
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())
";

const HTTP_CLIENT: &str = "
import http.client, os, sys
scheme, host = sys.argv[1].rstrip('/').split('://')
proxy = os.environ['http_proxy'].split('://')[1]
kind = http.client.HTTPSConnection if scheme == 'https' else http.client.HTTPConnection
connection = kind(proxy, timeout=30)
connection.set_tunnel(host, 443 if scheme == 'https' else 80)
for _ in range(2):
    connection.request('GET', '/')
    body = connection.getresponse().read().decode()
print(body)
";

const REQUESTS: &str = "
import requests, sys
session = requests.Session()
for _ in range(2):
    answer = session.get(sys.argv[1], timeout=30)
    answer.raise_for_status()
print(answer.text)
";

const HTTPX: &str = "
import httpx, sys
with httpx.Client(timeout=30) as client:
    for _ in range(2):
        answer = client.get(sys.argv[1])
        answer.raise_for_status()
    print(answer.text)
";

/// Requires that a program gets what is allowed, and otherwise prints why not.
fn check(stage: &Stage, program: &str) {
    let scene = stage.serve(POLICY);
    let start = |url: String| scene.start(scene.command("python3", &["-c", program, &url]));
    let started = ["http", "https"]
        .map(|scheme| [ALLOWED, DENIED].map(|host| start(format!("{scheme}://{host}/"))));
    for [allowed, denied] in started {
        allowed.end().gives(BODY);
        denied.end().fails_showing(CODE);
    }
    assert_eq!(stage.dns.names(), [ALLOWED], "a denied name was looked up");
}

/// Requires the same, and that who has a token is known by it.
fn check_known(stage: &Stage, program: &str) {
    check(stage, program);
    let scene = stage.serve_to_worker(POLICY);
    let started = ["http", "https"].map(|scheme| {
        let url = format!("{scheme}://{ALLOWED}/");
        scene.start(scene.command("python3", &["-c", program, &url]))
    });
    for program in started {
        program.end().gives(BODY);
    }
    scene.is_known("Python");
}

fn urllib(stage: &Stage) {
    check_known(stage, URLLIB);
}

fn http_client(stage: &Stage) {
    check(stage, HTTP_CLIENT);
}

fn requests(stage: &Stage) {
    check_known(stage, REQUESTS);
}

fn httpx(stage: &Stage) {
    check_known(stage, HTTPX);
}

/// `egret env` says so; here it is the URL alone that does, as an operator would write it.
fn urllib_credentials(stage: &Stage) {
    let scene = stage.serve_to_worker(POLICY);
    let started = ["http", "https"].map(|scheme| {
        let url = format!("{scheme}://{ALLOWED}/");
        [scene.url(), scene.url_of_worker()].map(|proxy| {
            let mut command = scene.stranger("python3", &["-c", URLLIB, &url]);
            command.env("http_proxy", &proxy).env("https_proxy", &proxy);
            scene.start(command)
        })
    });
    for [nobody, worker] in started {
        nobody.end().fails_showing("egress.identity_required");
        worker.end().gives(BODY);
    }
}
