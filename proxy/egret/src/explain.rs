//! `egret explain`: what would become of a request, and why.
//!
//! The answer is the policy's own; here the worker is put together and the answer is drawn.
//! Nothing is looked up and nothing is sent.

use std::path::PathBuf;

use egret_policy::{Authority, Branch, Explanation, Labels, Question, Timestamp, Worker};
use egret_proxy::KnownWorker;

use crate::{
    cli,
    config::{self, Config},
    diagnostic::print_warning,
    environment::Environment,
    failure::{Exit, Failure},
    files::{self, SourceText},
    output, policy,
    style::{ALLOWED, DENIED, FAINT, REPORTED},
};

pub(crate) fn run(args: &cli::Explain, environment: &Environment) -> Result<Exit, Failure> {
    let config = configuration(args, environment)?;
    let source = policy_source(args, config.as_ref(), environment)?;
    let policy = policy::loaded(&source)?;
    let worker = worker(args, config.as_ref());
    let url = url(args)?;
    let question =
        Question { worker: &worker, method: &args.method, url: &url, addresses: &args.addresses };
    let explanation = policy.explain(&question, Timestamp::now());
    if args.json {
        output::json(&explanation)?;
    } else {
        output::text(&drawn(&explanation))?;
    }
    // What report mode lets through is let through.
    Ok(if explanation.verdict == "deny" { Exit::Negative } else { Exit::Done })
}

/// The configuration, unless a policy is to be judged alone.
fn configuration(
    args: &cli::Explain,
    environment: &Environment,
) -> Result<Option<Config>, Failure> {
    if args.policy.is_some() && args.config.path.is_none() {
        return Ok(None);
    }
    match config::find(args.config.path.as_deref(), environment) {
        Some(path) => config::read_to_judge_by(&path, environment).map(Some),
        None => Ok(None),
    }
}

fn policy_source(
    args: &cli::Explain,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<SourceText, Failure> {
    let path: Option<PathBuf> =
        args.policy.clone().or_else(|| config.map(|config| config.policy.clone()));
    match path {
        Some(path) => Ok(files::read(&path)?),
        None => policy::users(environment),
    }
}

/// The worker with the labels that the configuration gives it; what is stated here wins.
fn worker(args: &cli::Explain, config: Option<&Config>) -> Worker {
    let known = |worker: &&KnownWorker| worker.worker.id == args.worker;
    let configured = config.and_then(|config| config.workers.iter().find(known));
    if let (None, Some(config), false) =
        (configured, config, args.worker.as_str() == config::ANONYMOUS)
    {
        print_warning(
            &format!("worker `{}` is not in {}", args.worker, config.origin),
            Some("it is judged with the labels of this command line alone"),
        );
    }
    let labels = configured.into_iter().flat_map(|known| known.worker.labels.iter());
    let stated = args.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Worker { id: args.worker.clone(), labels: Labels::from_iter(labels.chain(stated)) }
}

/// CONNECT names a host and a port, as on the wire: a tunnel, in which TLS is spoken.
fn url(args: &cli::Explain) -> Result<String, Failure> {
    if args.method != "CONNECT" || args.url.contains("://") {
        return Ok(args.url.clone());
    }
    let authority = Authority::connect(&args.url)
        .map_err(|source| Failure::Authority { text: args.url.clone(), source })?;
    Ok(format!("https://{authority}/"))
}

fn drawn(explanation: &Explanation) -> String {
    let Explanation { verdict, reason, rule: _, policy, tree } = explanation;
    let (mark, style) = match *verdict {
        "allow" => ('✓', ALLOWED),
        "deny" => ('✗', DENIED),
        _ => ('!', REPORTED),
    };
    let mut text = format!("{style}{mark} {verdict}{style:#}  {reason}\n");
    draw(&mut text, tree, "");
    text += &format!("{FAINT}policy {policy}{FAINT:#}\n");
    text
}

fn draw(text: &mut String, branches: &[Branch], indent: &str) {
    for (at, branch) in branches.iter().enumerate() {
        let (elbow, below) =
            if at + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        *text += &format!("{FAINT}{indent}{elbow}{FAINT:#}{}\n", branch.text);
        draw(text, &branch.branches, &format!("{indent}{below}"));
    }
}
