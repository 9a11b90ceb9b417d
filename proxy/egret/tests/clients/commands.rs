//! curl, wget and git: what they fetch, and what they show when they are denied.

use std::{fs, process::Command};

use crate::{
    Claim,
    program::{Client, Outcome},
    scene::{ALLOWED, BODY, CODE, DENIED, POLICY, Scene, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Curl, "curl_fetches_what_is_allowed_in_every_manner", curl_allowed),
    (Client::Curl, "curl_shows_the_code_of_a_denial", curl_denied),
    (Client::Curl, "curl_answers_a_challenge", curl_challenged),
    (Client::Curl, "curl_is_known_by_its_token", curl_known),
    (Client::Wget, "wget_fetches_what_is_allowed", wget_allowed),
    (Client::Wget, "wget_shows_the_code_of_a_denial", wget_denied),
    (Client::Git, "git_clones_what_is_allowed_and_nothing_else", git),
    (Client::Git, "git_answers_a_challenge", git_challenged),
    (Client::Git, "git_is_not_led_elsewhere_by_its_configuration", git_configured),
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

/// How a client learns of the proxy.
type Start = fn(&Scene, &str, &[&str]) -> Command;

fn curl(scene: &Scene, options: &[&str], url: &str) -> Outcome {
    curl_by(Scene::command, scene, options, url)
}

fn curl_by(start: Start, scene: &Scene, options: &[&str], url: &str) -> Outcome {
    let proxy = scene.address().to_string();
    let options: Vec<_> = options.iter().map(|option| option.replace("{proxy}", &proxy)).collect();
    let mut command = start(scene, "curl", &["--silent", "--show-error", "--max-time", "30"]);
    command.args(options).arg(url);
    scene.run(command)
}

pub(crate) fn urls(host: &str) -> [String; 2] {
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
    let curl = |options: &[&str], url: &str| curl_by(Scene::stranger, &scene, options, url);
    let proof = |user: &'static str, how: &'static str| ["--proxy-user", user, how];
    for how in ["--proxy-anyauth", "--proxy-basic"] {
        for url in urls(ALLOWED) {
            curl(&proof("ci-1:correct-horse", how), &url).gives(BODY);
            let wrong = [&proof("ci-1:wrong-horse", how)[..], &["--fail", "--verbose"]].concat();
            curl(&wrong, &url).fails_showing("egress.identity_invalid");
        }
    }
    for url in urls(ALLOWED) {
        curl(&["--fail", "--verbose"], &url).fails_showing("egress.identity_required");
    }
    // Asked for and given on one connection: a refusal of a plain request does not cost it.
    let said = curl(
        &[&proof("ci-1:correct-horse", "--proxy-anyauth")[..], &["--verbose"]].concat(),
        &format!("http://{ALLOWED}/"),
    );
    assert!(said.err.contains("407 egress.identity_required"), "{said:#?}");
}

fn curl_known(stage: &Stage) {
    let scene = stage.serve_to_worker(POLICY);
    for url in urls(ALLOWED) {
        curl(&scene, &[], &url).gives(BODY);
    }
    for url in urls(DENIED) {
        curl(&scene, &["--fail", "--verbose"], &url).fails_showing(CODE);
    }
    scene.is_known("curl");
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
    let scene = stage.serve_to_worker(POLICY);
    for url in urls(ALLOWED) {
        wget(&scene, &url).gives(BODY);
    }
    scene.is_known("wget");
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

    stage.publish(folder.to_owned());
}

fn clone(
    scene: &Scene,
    with: Start,
    base: &str,
    into: &str,
    prepare: impl FnOnce(&mut Command),
) -> Outcome {
    let url = format!("{base}served.git");
    let mut command = with(scene, "git", &["clone", "--quiet", &url, into]);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    prepare(&mut command);
    scene.run(command)
}

fn git(stage: &Stage) {
    let scene = stage.serve(POLICY);
    serve_repository(stage, &scene);
    for (into, url) in ["plain", "tls"].into_iter().zip(urls(ALLOWED)) {
        clone(&scene, Scene::command, &url, into, |_| {}).gives("");
        let fetched = fs::read_to_string(scene.folder().join(into).join("README")).unwrap();
        assert_eq!(fetched, "fetched by git\n");
    }
    for url in urls(DENIED) {
        // Of a denial git shows the status alone, unless it is asked for what curl says.
        clone(&scene, Scene::command, &url, "denied", |_| {}).fails_showing("403");
        clone(&scene, Scene::command, &url, "denied", |command| {
            command.env("GIT_CURL_VERBOSE", "1");
        })
        .fails_showing(CODE);
    }
}

fn git_challenged(stage: &Stage) {
    let scene = stage.serve_to_worker(POLICY);
    serve_repository(stage, &scene);
    for (into, url) in ["plain", "tls"].into_iter().zip(urls(ALLOWED)) {
        clone(&scene, Scene::stranger, &url, "nobody", |_| {}).fails_showing("407");
        let outcome = clone(&scene, Scene::stranger, &url, into, |command| {
            for name in ["http_proxy", "https_proxy"] {
                command.env(name, scene.url_of_worker());
            }
            command.env("GIT_CURL_VERBOSE", "1").env("GIT_HTTP_PROXY_AUTHMETHOD", "anyauth");
        });
        assert!(outcome.ok, "{outcome:#?}");
        assert!(outcome.err.contains("407 egress.identity_required"), "{outcome:#?}");
    }
    // By `egret env` it shows its token at once, and is not refused first.
    let scene = stage.serve_to_worker(POLICY);
    serve_repository(stage, &scene);
    let outcome = clone(&scene, Scene::command, &urls(ALLOWED)[1], "at-once", |command| {
        command.env("GIT_CURL_VERBOSE", "1");
    });
    assert!(outcome.ok && !outcome.err.contains("407 egress."), "{outcome:#?}");
    scene.is_known("the clone");
}

fn git_configured(stage: &Stage) {
    for scene in [stage.serve(POLICY), stage.serve_to_worker(POLICY)] {
        serve_repository(stage, &scene);
        // Nobody listens there.
        let configured = "[http]\n\tproxy = http://127.0.0.1:9\n";
        fs::write(scene.folder().join(".gitconfig"), configured).unwrap();
        for (into, url) in ["plain", "tls"].into_iter().zip(urls(ALLOWED)) {
            clone(&scene, Scene::stranger, &url, "astray", |_| {}).fails_showing("127.0.0.1");
            clone(&scene, Scene::command, &url, into, |command| {
                command.env("GIT_CONFIG_COUNT", "1");
                command.env("GIT_CONFIG_KEY_0", "clone.defaultRemoteName");
                command.env("GIT_CONFIG_VALUE_0", "kept");
            })
            .gives("");
            let config = fs::read_to_string(scene.folder().join(into).join(".git/config"));
            assert!(config.unwrap().contains("[remote \"kept\"]"));
        }
    }
}
