//! pip and npm: what they install, from an index and a registry that the origins serve.

use std::fs;

use crate::{
    Claim,
    commands::urls,
    program::Client,
    scene::{ALLOWED, CODE, DENIED, POLICY, Scene, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Pip, "pip_installs_what_is_allowed_and_nothing_else", pip),
    (Client::Npm, "npm_installs_what_is_allowed_and_shows_the_code_of_a_denial", npm),
];

/// Writes a wheel, and an index that has it.
const INDEX: &str = "
import os, zipfile
os.makedirs('served/simple/greeting')
wheel = 'greeting-1.0.0-py3-none-any.whl'
with open('served/simple/greeting/index.html', 'w') as index:
    index.write(f'<!DOCTYPE html><html><body><a href=\"/{wheel}\">{wheel}</a></body></html>')
with zipfile.ZipFile(f'served/{wheel}', 'w') as files:
    files.writestr('greeting.py', 'TEXT = 1')
    inside = 'greeting-1.0.0.dist-info'
    files.writestr(f'{inside}/METADATA', 'Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0.0\\n')
    files.writestr(f'{inside}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    files.writestr(f'{inside}/RECORD', '')
";

fn pip(stage: &Stage) {
    let install = |scene: &Scene, host: &str| {
        let started = urls(host).into_iter().zip(["plain", "tls"]).map(|(url, into)| {
            let index = format!("--index-url={url}simple/");
            let options = [
                "--disable-pip-version-check",
                "--no-cache-dir",
                "--no-input",
                "--retries=1",
                "--timeout=30",
                "--trusted-host",
                host,
                &index,
            ];
            let mut command = scene.command("python3", &["-m", "pip", "install"]);
            command.args(options).args(["--no-deps", "--target", into, "greeting"]);
            (scene.start(command), into)
        });
        started.collect::<Vec<_>>()
    };
    let publish = |scene: &Scene| {
        let written = scene.run(scene.command("python3", &["-c", INDEX]));
        assert!(written.ok, "{written:#?}");
        stage.publish(scene.folder().join("served"));
    };
    let installs = |scene: &Scene| {
        for (program, into) in install(scene, ALLOWED) {
            let outcome = program.end();
            let module = fs::read_to_string(scene.folder().join(into).join("greeting.py"));
            assert!(outcome.ok && module.is_ok_and(|text| text == "TEXT = 1"), "{outcome:#?}");
        }
    };
    let scene = stage.serve(POLICY);
    publish(&scene);
    installs(&scene);
    for (program, _) in install(&scene, DENIED) {
        let outcome = program.end();
        assert!(!outcome.ok, "{outcome:#?}");
    }
    // pip says that it has found nothing, whatever the reason.
    scene.decision(DENIED, CODE);

    let scene = stage.serve_to_worker(POLICY);
    publish(&scene);
    installs(&scene);
    scene.is_known("pip");
}

/// Packs a package, and writes what a registry says of it.
fn serve_package(stage: &Stage, scene: &Scene, base: &str) {
    let folder = scene.folder();
    let package = folder.join("package");
    fs::create_dir_all(&package).unwrap();
    fs::create_dir_all(folder.join("served")).unwrap();
    fs::write(package.join("package.json"), r#"{"name":"greeting","version":"1.0.0"}"#).unwrap();
    let pack = ["pack", "./package", "--pack-destination", "served", "--no-update-notifier"];
    let packed = scene.run(scene.command("npm", &pack));
    assert!(packed.ok, "{packed:#?}");
    let says = format!(
        r#"{{"name":"greeting","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":
        {{"name":"greeting","version":"1.0.0","dist":{{"tarball":"{base}greeting-1.0.0.tgz"}}}}}}}}"#
    );
    fs::write(folder.join("served/greeting"), says).unwrap();
    stage.publish(folder.join("served"));
}

fn npm(stage: &Stage) {
    let install = |scene: &Scene, url: &str, into: &str| {
        let options = [
            "--fetch-retries=0",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--registry",
            url,
            "--prefix",
            into,
        ];
        let mut command = scene.command("npm", &["install", "greeting"]);
        command.args(options);
        scene.run(command)
    };
    let scene = stage.serve(POLICY);
    for (url, into) in urls(ALLOWED).iter().zip(["plain", "tls"]) {
        serve_package(stage, &scene, url);
        let outcome = install(&scene, url, into);
        let there = scene.folder().join(into).join("node_modules/greeting/package.json").exists();
        assert!(outcome.ok && there, "{outcome:#?}");
    }
    for url in urls(DENIED) {
        install(&scene, &url, "denied").fails_showing(CODE);
    }
    let scene = stage.serve_to_worker(POLICY);
    let url = &urls(ALLOWED)[1];
    serve_package(stage, &scene, url);
    let outcome = install(&scene, url, "known");
    assert!(outcome.ok, "{outcome:#?}");
    scene.is_known("npm");
}
