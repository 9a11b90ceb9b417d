//! `egret env`: the variables by which clients find the proxy, for `eval "$(egret env)"`.
//!
//! They are printed and nothing else is done: no file is written, as no client that takes a proxy
//! at all takes it from a file alone. What forces a worker through the proxy is the network around
//! it; variables only tell clients that want to know.

use std::{collections::BTreeMap, io::Write};

use serde::Serialize;

use crate::{
    cli,
    config::{self, Config},
    diagnostic::print_warning,
    environment::Environment,
    failure::{Exit, Failure},
    output,
    proxy_url::{Chosen, ProxyUrl},
    running::{self, Running},
    token::Token,
};

use self::{shell::Shell, variables::Variable};

pub(crate) mod shell;
pub(crate) mod variables;

pub(crate) fn run(args: &cli::Env, environment: &Environment) -> Result<Exit, Failure> {
    if args.unset {
        print(args, &variables::to_unset(environment), None, environment)?;
        return Ok(Exit::Done);
    }
    let config = config::to_judge_by(args.config.path.as_deref(), environment)?;
    let token = Token::of(environment)?;
    let chosen = Chosen::of(&config, args.as_worker.worker.as_ref(), token)?;
    let running = running::find(&config.state)?;
    let proxy = chosen.at(&running)?;
    let mut built_upon = environment.clone();
    if args.shell.begins_anew() {
        // What is kept here is not there, and a gap in its numbers ends git.
        built_upon.git.clear();
    }
    print(args, &variables::to_set(&proxy, &built_upon), Some(&proxy), environment)?;
    if let Running::Nowhere = running {
        let until = format!(
            "run `egret serve`; until then nobody answers at {}, or some other program does",
            proxy.address
        );
        print_warning(
            &format!("no proxy runs on the state directory `{}` yet", config.state.display()),
            Some(&until),
        );
    }
    warn_of_a_token(&config, &proxy, &running);
    if !args.json && args.shell.is_of_container() && proxy.address.ip().is_loopback() {
        print_warning(
            &format!("{} is the container itself to whoever is in one", proxy.address),
            Some(
                "let a `[[listener]]` that takes `token` have an address that containers reach, \
                 or run them in the host's network",
            ),
        );
    }
    warn_of_a_way_round(environment);
    Ok(Exit::Done)
}

/// Says where a token goes when it is not known who listens there.
pub(crate) fn warn_of_a_token(config: &Config, proxy: &ProxyUrl, running: &Running) {
    if running.is_at(config, proxy.address) {
        return;
    }
    let known = match running {
        Running::Here { .. } | Running::Nowhere => "no proxy of it runs",
        Running::Unknown => "whether that is its proxy cannot be told",
    };
    if proxy.has_token() {
        let (address, origin) = (proxy.address, config.origin.absolute());
        print_warning(
            &format!("the token goes to whoever listens at {address}, as `{origin}` says; {known}"),
            Some("see that the file is yours, or name the one that is meant: `-c FILE`"),
        );
    }
}

/// Says when a variable that is kept takes every client round the proxy.
pub(crate) fn warn_of_a_way_round(environment: &Environment) {
    if variables::all_is_direct(environment) {
        print_warning(
            "NO_PROXY is kept, and its `*` takes most clients round the proxy",
            Some("take `*` out of NO_PROXY"),
        );
    }
}

fn print(
    args: &cli::Env,
    variables: &[Variable],
    proxy: Option<&ProxyUrl>,
    environment: &Environment,
) -> Result<(), Failure> {
    if args.json {
        return output::json(&Document::of(variables));
    }
    let secret = proxy.is_some_and(ProxyUrl::has_token);
    output::text(&args.shell.write(variables, secret)?)?;
    if let (Shell::Github, true, Some(proxy)) = (args.shell, environment.in_github_actions, proxy) {
        // Steps print their variables. The runner reads this from either stream, and stdout is
        // where the variables go.
        for secret in proxy.expose_forms_of_token() {
            let _ = writeln!(std::io::stderr(), "::add-mask::{}", escaped_for_runner(&secret));
        }
    }
    Ok(())
}

/// Writes a text so that the runner of GitHub Actions reads it as it is in a command.
fn escaped_for_runner(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    set: BTreeMap<&'a str, &'a str>,
    unset: Vec<&'a str>,
}

impl<'a> Document<'a> {
    fn of(variables: &'a [Variable]) -> Self {
        let set = variables
            .iter()
            .filter_map(|Variable { name, value }| value.as_deref().map(|value| (&**name, value)));
        let unset = variables.iter().filter(|variable| variable.value.is_none());
        Self { set: set.collect(), unset: unset.map(|variable| &*variable.name).collect() }
    }
}
