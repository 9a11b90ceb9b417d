//! Node: its own http and https by hand, and the two libraries that most programs use, as npm
//! brings them along. Both tunnel plain HTTP through port 80. undici finds the proxy in the
//! environment by itself, https-proxy-agent is given what is there.

use crate::{
    Claim,
    program::Client,
    scene::{ALLOWED, BODY, CODE, DENIED, POLICY, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Node, "node_by_hand_fetches_what_is_allowed_and_shows_the_code", by_hand),
    (Client::Node, "a_host_field_that_names_the_proxy_is_refused_readably", host_of_the_proxy),
    (Client::Undici, "undici_fetches_what_is_allowed_and_nothing_else", undici),
    (Client::HttpsProxyAgent, "https_proxy_agent_fetches_what_is_allowed", https_proxy_agent),
];

/// Finds a library where npm brings it along, or beside npm. Is followed by its name in brackets
/// and quotes.
pub(crate) const REQUIRE_FROM_NPM: &str = "\
const { createRequire } = require('module'), { execFileSync } = require('child_process');
const npm = process.env.PATH.split(':').map(f => f + '/npm').find(f => require('fs').existsSync(f));
const beside = () => execFileSync(npm, ['root', '--global']).toString().trim() + '/npm';
const fromNpm = name => {
  try { return createRequire(require('fs').realpathSync(npm))(name); }
  catch { return createRequire(beside())(name); }
};
fromNpm";

const BY_HAND: &str = "
const http = require('http'), https = require('https');
const url = new URL(process.argv[1]), proxy = new URL(process.env.http_proxy);
const fail = error => { console.error(error.message); process.exitCode = 1; };
const read = answer => {
  if (answer.statusCode !== 200) fail(new Error(answer.statusMessage));
  answer.on('data', part => { if (answer.statusCode === 200) process.stdout.write(part); });
};
const to = { host: proxy.hostname, port: proxy.port };
if (url.protocol === 'http:') {
  http.get({ ...to, path: url.href, headers: { host: url.host } }, read).on('error', fail);
} else {
  const path = url.hostname + ':443';
  http.request({ ...to, method: 'CONNECT', path, headers: process.argv[2] ? {} : { host: path } })
    .on('connect', (answer, socket) => {
      if (answer.statusCode !== 200) { socket.destroy(); return fail(new Error(answer.statusMessage)); }
      https.get(url, { socket, agent: false }, read).on('error', fail);
    }).on('error', fail).end();
}
";

const UNDICI: &str = "
const { fetch, EnvHttpProxyAgent } = undici;
const dispatcher = new EnvHttpProxyAgent();
(async () => {
  for (let i = 0; i < 2; i++) {
    var answer = await fetch(process.argv[1], { dispatcher });
    var body = await answer.text();
    if (answer.status !== 200) throw new Error(answer.statusText);
  }
  console.log(body);
  await dispatcher.close();
})().catch(error => { console.error(error.cause || error); process.exit(1); });
";

const HTTPS_PROXY_AGENT: &str = "
const url = new URL(process.argv[1]);
const agent = new HttpsProxyAgent(process.env.https_proxy);
require(url.protocol.slice(0, -1)).get(url, { agent }, answer => {
  answer.on('data', part => process.stdout.write(part));
  if (answer.statusCode !== 200) { console.error(answer.statusMessage); process.exitCode = 1; }
}).on('error', error => { console.error(error.message); process.exitCode = 1; });
";

/// Requires that a program gets what is allowed, and otherwise shows a text.
fn check(stage: &Stage, program: &str, shown: &str) {
    let scene = stage.serve(POLICY);
    let start = |url: String| scene.start(scene.command("node", &["-e", program, &url]));
    let started = [("http", 80), ("https", 443)].map(|(scheme, port)| {
        let [allowed, denied] = [ALLOWED, DENIED].map(|host| start(format!("{scheme}://{host}/")));
        (port, allowed, denied)
    });
    for (port, allowed, denied) in started {
        allowed.end().gives(BODY);
        denied.end().fails_showing(shown);
        scene.record(shown, |record| {
            let is_denied = record.is_decision() && record.reason() == CODE;
            is_denied && record.text("host") == DENIED && record.number("port") == Some(port)
        });
    }
    assert_eq!(stage.dns.names(), [ALLOWED], "a denied name was looked up");
}

/// Requires the same, and that who has a token is known by it.
fn check_known(stage: &Stage, program: &str, shown: &str) {
    check(stage, program, shown);
    let scene = stage.serve_to_worker(POLICY);
    let started = ["http", "https"].map(|scheme| {
        let url = format!("{scheme}://{ALLOWED}/");
        scene.start(scene.command("node", &["-e", program, &url]))
    });
    for program in started {
        program.end().gives(BODY);
    }
    scene.is_known("Node");
}

fn by_hand(stage: &Stage) {
    check(stage, BY_HAND, CODE);
}

/// As an example of Node's manual would send it: without a Host of its own, a request to the proxy
/// names the proxy there.
fn host_of_the_proxy(stage: &Stage) {
    let scene = stage.serve(POLICY);
    let url = format!("https://{ALLOWED}/");
    let command = scene.command("node", &["-e", BY_HAND, &url, "default-host"]);
    scene.run(command).fails_showing("egress.host_mismatch");
    scene.record("the mismatch", |record| record.reason() == "egress.host_mismatch");
    assert!(stage.origin.connections().is_empty());
}

fn undici(stage: &Stage) {
    // It says of a refused CONNECT that it was refused, at most.
    check_known(
        stage,
        &format!("{REQUIRE_FROM_NPM}; const undici = fromNpm('undici');{UNDICI}"),
        "",
    );
}

fn https_proxy_agent(stage: &Stage) {
    let import = "const { HttpsProxyAgent } = fromNpm('https-proxy-agent');";
    check_known(stage, &format!("{REQUIRE_FROM_NPM}; {import}{HTTPS_PROXY_AGENT}"), CODE);
}
