//! `egret exec`: runs a command with the proxy in its environment.
//!
//! The proxy is the one that runs on the state directory, or one that is started for as long as
//! commands use it. Signals and the exit code go through, and what was denied meanwhile is told
//! afterwards. Nothing forces the command through the proxy: it is told where the proxy is, and
//! no more of egret than that. Neither the token's variables nor anything that names the state
//! directory is handed on.

use std::{
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use egret_policy::WorkerId;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::{
    cli,
    config::{self, Config},
    diagnostic::print_warning,
    env::{self, variables},
    environment::Environment,
    failure::{Exit, Failure},
    files,
    proxy_url::{Chosen, ProxyUrl},
    running::{self, Running},
    token::Token,
};

use self::{denials::Denials, lent::Lent, signals::Signals};

mod child;
mod denials;
mod error;
mod lent;
mod proxy;
mod signals;

pub(crate) use self::error::ExecError;

pub(crate) fn run(args: &cli::Exec, environment: &Environment) -> Result<Exit, Failure> {
    let config = config::to_judge_by(args.config.path.as_deref(), environment)?;
    let token = Token::of(environment)?;
    let chosen = Chosen::of(&config, args.as_worker.worker.as_ref(), token)?;
    guard_state(&config, args.strict)?;
    // Before there is a proxy, so that none is left behind, and none is lost on the command.
    let mut signals = Signals::listen()?;
    let lent = Lent::take(&config, &args.config, &mut signals)?;
    let ended = with_proxy(args, &config, chosen, environment, &mut signals);
    // What it ends writes its last records first.
    lent.give_back(&mut signals);
    let (end, denials, worker) = ended?;
    signals.until_one(move || denials.tell(worker.as_ref()));
    Ok(end)
}

/// Runs the command with the proxy that is there now.
fn with_proxy(
    args: &cli::Exec,
    config: &Config,
    chosen: Chosen,
    environment: &Environment,
    signals: &mut Signals,
) -> Result<(Exit, Denials, Option<WorkerId>), Failure> {
    let running = running::find(&config.state)?;
    let proxy = chosen.at(&running)?;
    if !running.is_at(config, proxy.address) {
        if args.strict {
            let (state, address) = (config.state.clone(), proxy.address);
            return Err(ExecError::Unproven { state, address }.into());
        }
        tell_unproven(config, &proxy, &running);
    }
    env::warn_of_a_way_round(environment);
    let denials = Denials::from_now(&config.audit.directory);
    let end = child::run(&args.command, &variables::to_set(&proxy, environment), signals)?;
    Ok((end, denials, proxy.worker))
}

/// Says what is used when no proxy is known to be there, if that is because of where one stands.
fn tell_unproven(config: &Config, proxy: &ProxyUrl, running: &Running) {
    if proxy.has_token() {
        env::warn_of_a_token(config, proxy, running);
    } else if config.origin.is_of_here() {
        let (address, origin) = (proxy.address, config.origin.absolute());
        let told = format!("using what listens at {address}, by `{}`\n", origin.escape_debug());
        // There is nowhere left to say that stderr is closed.
        let _ = anstream::stderr().write_all(told.as_bytes());
    }
}

/// Says that the command could read the state directory, or refuses that.
///
/// It runs as the user that egret is asked by, so it can whenever that one can: only a proxy of
/// another user keeps its records, and all that will be beside them, to itself.
fn guard_state(config: &Config, strict: bool) -> Result<(), Failure> {
    if !is_open_to_us(&config.state) {
        return Ok(());
    }
    let open = ExecError::StateOpen { state: config.state.clone() };
    if strict {
        return Err(open.into());
    }
    print_warning(&open.to_string(), open.fix().as_deref());
    Ok(())
}

/// Whether this user can read a directory, or could after a `chmod`, or will make it.
fn is_open_to_us(directory: &Path) -> bool {
    match directory.metadata() {
        Ok(metadata) => {
            let look = Access::READ_OK | Access::EXEC_OK;
            metadata.uid() == files::own_user()
                || accessat(CWD, directory, look, AtFlags::EACCESS).is_ok()
        }
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}
