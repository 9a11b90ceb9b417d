//! `egret worker token`: makes a token for a worker, and says where its two halves go.
//!
//! 256 bits of the system's randomness as URL-safe text, so that it stands in a URL as it is.
//! Nothing is written: the configuration gets the digest, from the operator's hand, and the token
//! is shown once.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use egret_policy::WorkerId;
use egret_proxy::IdentityKind;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    cli,
    config::{self, Config},
    diagnostic::print_warning,
    environment::Environment,
    failure::{Exit, Failure},
    output,
    proxy_url::encoded,
    toml_text::{key, quoted},
};

pub(crate) fn run(args: &cli::Worker, environment: &Environment) -> Result<Exit, Failure> {
    match &args.verb {
        cli::WorkerVerb::Token(args) => token(args, environment),
    }
}

fn token(args: &cli::WorkerToken, environment: &Environment) -> Result<Exit, Failure> {
    if let Some(file) = &args.config {
        warn_of_what_is_in_the_way(&config::to_judge_by(Some(file), environment)?, &args.id);
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| Failure::Random(error.into()))?;
    let token = URL_SAFE_NO_PAD.encode(random);
    let digest = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    if args.json {
        let labels = args.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let (id, labels) = (args.id.as_str(), labels.collect());
        output::json(&Made { id, labels, token, token_sha256: digest })?;
    } else {
        output::text(&told(args, &token, &digest))?;
    }
    Ok(Exit::Done)
}

/// Says what keeps a configuration from taking a worker with a token.
fn warn_of_what_is_in_the_way(config: &Config, id: &WorkerId) {
    let Config { origin, workers, settings, .. } = config;
    if workers.iter().any(|known| known.worker.id == *id) {
        print_warning(
            &format!("worker `{id}` is in {origin} already"),
            Some("put `token_sha256` in its place there, or choose another id"),
        );
    }
    let listeners = &settings.listeners;
    if !listeners.iter().any(|listener| listener.identity.contains(&IdentityKind::Token)) {
        print_warning(
            &format!("no listener in {origin} takes `token`"),
            Some("add `token` to the `identity` of a `[[listener]]`"),
        );
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Made<'a> {
    id: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    token: String,
    token_sha256: String,
}

fn told(args: &cli::WorkerToken, token: &str, digest: &str) -> String {
    let id = &args.id;
    let user = encoded(id.as_str().as_bytes());
    let pairs =
        args.labels.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value)));
    let pairs: Vec<_> = pairs.collect();
    let labels = match pairs.is_empty() {
        true => String::new(),
        false => format!("labels = {{ {} }}\n", pairs.join(", ")),
    };
    format!(
        "\
# The token of worker `{id}`; it is kept nowhere and not shown again.
{token}

# For egret.toml, whose listener takes `token`:
[[worker]]
id = {}
{labels}token_sha256 = \"{digest}\"

# For the worker, with the token in a file that nobody else may read:
export EGRET_TOKEN_FILE=/path/to/the/token
eval \"$(egret env --worker {id})\"

# Where there is no egret, in the URL of the proxy:
http://{user}:{token}@HOST:PORT
",
        quoted(id.as_str())
    )
}
