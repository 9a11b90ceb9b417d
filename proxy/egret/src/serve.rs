//! `egret serve`: everything that must be true before the first connection, then the proxy, then a
//! clean end.
//!
//! The order matters: configuration, state directory, policy, what was used, record, sockets. Whatever fails ends
//! the start with its exit code; nothing runs half. Only `listening ADDRESS` goes to stdout.

use std::{future::Future, io, path::Path, pin::pin, sync::Arc, time::Duration};

use egret_policy::{Mode, Policy, Timestamp};
use egret_proxy::{
    BindError, Budgets, Clock, ClosedBy, Handle, Inherited, Ports, Proxy, Recorder, Selector,
    StaticWorkers,
};
use egret_vault_bridge::NoVault;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    budgets::BudgetFile,
    cli,
    config::{self, Config, Origin},
    environment::Environment,
    failure::{Exit, Failure},
    inherited, log, output, policy, starter,
    state::State,
};

/// How long what was cut may take to write its last records.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Descriptors of one connection: the worker's side and the origin's.
const DESCRIPTORS: u64 = 2;

pub(crate) fn run(args: &cli::Serve, environment: &Environment) -> Result<Exit, Failure> {
    log::start(environment.log.as_deref())?;
    // While there is one thread: the variables are removed.
    let sockets = inherited::sockets().map_err(Failure::Inherit)?;
    let config = config::for_serving(args.config.path.as_deref(), environment)?;
    let _state = State::lock(&config.state)?;
    if config.origin == Origin::Embedded {
        write_starter(&config)?;
    }
    let policy = policy::for_serving(&config.policy, Timestamp::now())?;
    let (store, used) = BudgetFile::open(&config.state)?;
    let budgets = Budgets { used, store: Arc::new(store) };
    raise_descriptor_limit(&config);
    let (recorder, flush) = Recorder::open(&config.audit).map_err(Failure::Record)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Start(error.into()))?;
    let end = runtime.block_on(serve(config, recorder, budgets, Arc::new(policy), sockets));
    // What still runs holds the recorder; it goes first, so that the flush can end.
    runtime.shutdown_timeout(LAST_WORDS);
    flush.wait();
    end.map(|()| Exit::Done)
}

async fn serve(
    config: Config,
    recorder: Recorder,
    budgets: Budgets,
    policy: Arc<Policy>,
    sockets: Vec<Inherited>,
) -> Result<(), Failure> {
    let Config { origin, policy: policy_file, state, audit, settings, workers } = config;
    let mut signals = Signals::listen().map_err(|error| Failure::Start(error.into()))?;
    let ports = Ports {
        workers: Arc::new(StaticWorkers::new(workers)),
        recorder,
        bridge: Arc::new(NoVault),
        clock: Arc::new(SystemClock),
        budgets,
    };
    let revision = policy.revision();
    if policy.mode() == Mode::Report {
        tracing::warn!("the policy is in report mode: what no rule matches is let through");
    }
    let proxy = Proxy::bind(settings, ports, policy, sockets).await.map_err(cannot_bind)?;

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %origin,
        policy = %policy_file.display(),
        %revision,
        state = %state.display(),
        records = %audit.display(),
        "serving"
    );
    for address in proxy.addresses() {
        output::text(&format!("listening {address}\n"))?;
    }
    if let (Origin::Embedded, Some(address)) = (&origin, proxy.addresses().first()) {
        let lines = first_steps(&policy_file, &state, &audit, &address.to_string());
        log::say(&lines);
    }

    let stop = CancellationToken::new();
    let handle = proxy.handle();
    until_signalled(pin!(proxy.run(stop.clone())), &stop, &handle, &mut signals).await;
    tracing::info!("ended");
    Ok(())
}

/// The first signal lets what is open end; the second cuts it.
async fn until_signalled(
    mut running: impl Future<Output = ()> + Unpin,
    stop: &CancellationToken,
    handle: &Handle,
    signals: &mut Signals,
) {
    tokio::select! {
        () = &mut running => return,
        name = signals.next() => tracing::info!(signal = name, open = handle.live(), "draining"),
    }
    stop.cancel();
    tokio::select! {
        () = &mut running => return,
        name = signals.next() => tracing::info!(signal = name, open = handle.live(), "cutting"),
    }
    handle.cut(&Selector::All, ClosedBy::Drain);
    // Whatever does not end now ends with the runtime.
    let _ = timeout(LAST_WORDS, running).await;
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // A terminal that closes, or a unit that reloads, must not end what is open.
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP changes nothing: a new policy takes effect at the next start");
                }
            }
        }
    }
}

/// The one clock of the process.
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

fn cannot_bind(error: BindError) -> Failure {
    match error {
        BindError::Listen(error) => Failure::Listen(error),
        BindError::Resolver(error) => Failure::Resolver(error),
        error @ BindError::Interfaces(_) => Failure::Start(error.into()),
    }
}

/// Writes the starter policy where none is, and the schemas that it refers to.
fn write_starter(config: &Config) -> Result<(), Failure> {
    starter::prepare_state(&config.state)?;
    if let Some(folder) = config.policy.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| Failure::Write { path: folder.to_owned(), source })?;
    }
    let text = starter::policy_with_schema_in(&config.state);
    match starter::write_new(&config.policy, &text) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::Write { path: config.policy.clone(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What somebody who has just started egret wants to know.
fn first_steps(policy: &Path, state: &Path, records: &Path, address: &str) -> Vec<String> {
    vec![
        format!("policy:   {}", policy.display()),
        format!("state:    {}", state.display()),
        format!("records:  {}", records.display()),
        "to allow a host, add a [[rule]] with id, effect = \"allow\" and hosts = [\"…\"] to the \
         policy and start again"
            .to_owned(),
        format!("try:      curl -x http://{address} https://example.com/"),
        format!("denied:   curl -i -x http://{address} http://example.org/"),
    ]
}

/// Takes as many descriptors as the system gives, and says when they are too few for what the
/// operator has written.
fn raise_descriptor_limit(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Some systems refuse "unlimited"; then the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, raised);
    let needed = (config.settings.limits.connections as u64).saturating_mul(DESCRIPTORS);
    let files = getrlimit(Resource::Nofile).current.filter(|files| *files < needed);
    if let (Some(files), Origin::File(_)) = (files, &config.origin) {
        tracing::warn!(
            files,
            needed,
            "fewer open files are allowed than `limits.connections` needs"
        );
    }
}
