//! curl, wget, git and npm: what they fetch, and what they show when they are denied.

use std::{fs, process::Command};

use egret_testkit::origin::{Answer, Plan, Step};

use crate::{
    Claim,
    program::{Client, Outcome},
    scene::{ALLOWED, BODY, CODE, DENIED, POLICY, Scene, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Curl, "curl_fetches_what_is_allowed_in_every_manner", curl_allowed),
    (Client::Curl, "curl_shows_the_code_of_a_denial", curl_denied),
    (Client::Curl, "curl_answers_a_challenge", curl_challenged),
    (Client::Wget, "wget_fetches_what_is_allowed", wget_allowed),
    (Client::Wget, "wget_shows_the_code_of_a_denial", wget_denied),
    (Client::Git, "git_clones_what_is_allowed_and_nothing_else", git),
    (Client::Git, "git_answers_a_challenge", git_challenged),
    (Client::Npm, "npm_reaches_its_registry_and_shows_the_code_of_a_denial", npm),
];

/// The manners of curl: options, and whether the target is https.
const MANNERS: &[&[&str]] = &[
    &[],
    &["--proxytunnel"],
    &["--proxy1.0", "{proxy}"],
    &["--proxy1.0", "{proxy}", "--proxytunnel"],
    &["--http1.0"],
    &["--http2"],
];

fn curl(scene: &Scene, options: &[&str], url: &str) -> Outcome {
    let proxy = scene.address().to_string();
    let options: Vec<_> = options.iter().map(|option| option.replace("{proxy}", &proxy)).collect();
    let mut command = scene.command("curl", &["--silent", "--show-error", "--max-time", "30"]);
    command.args(options).arg(url);
    scene.run(command)
}

fn urls(host: &str) -> [String; 2] {
    ["http", "https"].map(|scheme| format!("{scheme}://{host}/"))
}

fn curl_allowed(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for options in MANNERS {
        for url in urls(ALLOWED) {
            curl(&scene, options, &url).gives(BODY);
        }
    }
}

fn curl_denied(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for options in MANNERS {
        for url in urls(DENIED) {
            // The body of a refused CONNECT is not shown; the status line is, when it is asked for.
            curl(&scene, &[*options, &["--fail", "--verbose"]].concat(), &url).fails_showing(CODE);
        }
    }
    let shown = curl(&scene, &[], &format!("http://{DENIED}/"));
    assert!(shown.ok && shown.out.contains(CODE), "{shown:#?}");
    assert!(stage.dns.names().is_empty(), "a denied name was looked up");
}

fn curl_challenged(stage: &Stage) {
    let scene = stage.serve_to_worker(POLICY);
    let proof = |user: &'static str, how: &'static str| ["--proxy-user", user, how];
    for how in ["--proxy-anyauth", "--proxy-basic"] {
        for url in urls(ALLOWED) {
            curl(&scene, &proof("ci-1:correct-horse", how), &url).gives(BODY);
            let wrong = [&proof("ci-1:wrong-horse", how)[..], &["--fail", "--verbose"]].concat();
            curl(&scene, &wrong, &url).fails_showing("egress.identity_invalid");
        }
    }
    for url in urls(ALLOWED) {
        curl(&scene, &["--fail", "--verbose"], &url).fails_showing("egress.identity_required");
    }
    // Asked for and given on one connection: a refusal of a plain request does not cost it.
    let said = curl(
        &scene,
        &[&proof("ci-1:correct-horse", "--proxy-anyauth")[..], &["--verbose"]].concat(),
        &format!("http://{ALLOWED}/"),
    );
    assert!(said.err.contains("407 egress.identity_required"), "{said:#?}");
}

fn wget(scene: &Scene, url: &str) -> Outcome {
    let mut command = scene.command("wget", &["--tries=1", "--timeout=30", "-O", "-", url]);
    // No variable tells wget of a root.
    command.arg(format!("--ca-certificate={}", scene.roots().display()));
    scene.run(command)
}

fn wget_allowed(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for url in urls(ALLOWED) {
        wget(&scene, &url).gives(BODY);
    }
}

fn wget_denied(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for url in urls(DENIED) {
        wget(&scene, &url).fails_showing(CODE);
    }
    assert!(stage.dns.names().is_empty(), "a denied name was looked up");
}

/// A repository that the origins serve as plain files.
fn serve_repository(stage: &Stage, scene: &Scene) {
    let folder = scene.folder();
    let git = |arguments: &[&str]| {
        let mut command = scene.command("git", arguments);
        for (name, value) in [("NAME", "egret"), ("EMAIL", "egret@example.com")] {
            command.env(format!("GIT_AUTHOR_{name}"), value);
            command.env(format!("GIT_COMMITTER_{name}"), value);
        }
        let outcome = scene.run(command);
        assert!(outcome.ok, "{outcome:#?}");
    };
    fs::write(folder.join("README"), "fetched by git\n").unwrap();
    git(&["init", "--quiet", "work"]);
    fs::rename(folder.join("README"), folder.join("work/README")).unwrap();
    git(&["-C", "work", "add", "README"]);
    git(&["-C", "work", "commit", "--quiet", "-m", "one"]);
    git(&["clone", "--quiet", "--bare", "work", "served.git"]);
    git(&["-C", "served.git", "update-server-info"]);

    let served = folder.join("served.git");
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::with(move |request| {
        let target = String::from_utf8_lossy(request.target()).into_owned();
        let path = target.split('?').next().unwrap_or_default();
        let file = path.strip_prefix("/served.git/").map(|name| served.join(name));
        let (status, body) = match file.and_then(|file| fs::read(file).ok()) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", vec![]),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        vec![Step::Send([head.into_bytes(), body].concat())]
    })));
}

fn clone(scene: &Scene, base: &str, into: &str, prepare: impl FnOnce(&mut Command)) -> Outcome {
    let url = format!("{base}served.git");
    let mut command = scene.command("git", &["clone", "--quiet", &url, into]);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    prepare(&mut command);
    scene.run(command)
}

fn git(stage: &Stage) {
    let scene = stage.serve(POLICY);
    serve_repository(stage, &scene);
    for (into, url) in ["plain", "tls"].into_iter().zip(urls(ALLOWED)) {
        clone(&scene, &url, into, |_| {}).gives("");
        let fetched = fs::read_to_string(scene.folder().join(into).join("README")).unwrap();
        assert_eq!(fetched, "fetched by git\n");
    }
    for url in urls(DENIED) {
        // Of a denial git shows the status alone, unless it is asked for what curl says.
        clone(&scene, &url, "denied", |_| {}).fails_showing("403");
        clone(&scene, &url, "denied", |command| {
            command.env("GIT_CURL_VERBOSE", "1");
        })
        .fails_showing(CODE);
    }
}

fn git_challenged(stage: &Stage) {
    let scene = stage.serve_to_worker(POLICY);
    serve_repository(stage, &scene);
    for (into, url) in ["plain", "tls"].into_iter().zip(urls(ALLOWED)) {
        clone(&scene, &url, "nobody", |_| {}).fails_showing("407");
        let outcome = clone(&scene, &url, into, |command| {
            for name in ["http_proxy", "https_proxy"] {
                command.env(name, scene.url_of_worker());
            }
            command.env("GIT_CURL_VERBOSE", "1").env("GIT_HTTP_PROXY_AUTHMETHOD", "anyauth");
        });
        assert!(outcome.ok, "{outcome:#?}");
        assert!(outcome.err.contains("407 egress.identity_required"), "{outcome:#?}");
    }
}

fn npm(stage: &Stage) {
    let scene = stage.serve(POLICY);
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::with(|_| {
        let body =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        vec![Step::Send(body.into())]
    })));
    let ping = |url: String| {
        let options = ["ping", "--fetch-retries=0", "--no-update-notifier", "--registry", &url];
        scene.start(scene.command("npm", &options))
    };
    let (allowed, denied) = (urls(ALLOWED).map(ping), urls(DENIED).map(ping));
    for program in allowed {
        let outcome = program.end();
        assert!(outcome.ok && outcome.err.contains("PONG"), "{outcome:#?}");
    }
    for program in denied {
        program.end().fails_showing(CODE);
    }
}
