//! `egret serve`: everything that must be true before the first connection, then the proxy, then a
//! clean end.
//!
//! The order matters: signals, configuration, state directory, policy, what was used, record,
//! sockets. Whatever fails ends the start with its exit code; nothing runs half. Who asks for the
//! end before the sockets has it, and nothing is bound. Only `listening ADDRESS` goes to stdout.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use egret_policy::Timestamp;
use egret_proxy::{
    BindError, Budgets, Clock, ClosedBy, Handle, Inherited, Metrics, PolicyChange, Ports, Proxy,
    Recorder, RunError, Selector, StaticWorkers,
};
use egret_vault_bridge::NoVault;
use tokio::{signal::unix::Signal, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    audit,
    budgets::BudgetFile,
    cli, clock,
    config::{self, Config, Origin},
    denials,
    environment::Environment,
    failure::{Exit, Failure},
    inherited,
    listening::Listening,
    log,
    metrics::{Endpoint, Observed, Reloads},
    output,
    policy::{self, ForServing},
    ready::{Readiness, Ready},
    reload::{InForce, Reload, Told},
    state::State,
    systemd::Supervisor,
};

use self::{
    beside::{Beside, Ended},
    signals::Signals,
};

mod beside;
mod descriptors;
mod first_start;
mod signals;

/// How long what was cut may take to write its last records.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the proxy may take to end when all is cut: its exchanges write their last records, and
/// it gives the disk some seconds to take the day budgets.
const CUT_WITHIN: Duration = Duration::from_secs(6);

/// How long the disk may take to have all records.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &cli::Serve, environment: &Environment) -> Result<Exit, Failure> {
    log::start(environment.log.as_deref())?;
    // While there is one thread: the variables are removed.
    let sockets = inherited::sockets().map_err(Failure::Inherit)?;
    let cannot = |error: io::Error| Failure::Start(error.into());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(cannot)?;
    let mut signals = Signals::listen().map_err(cannot)?;
    let hangup = runtime.block_on(async { signals::hangup() }).map_err(cannot)?;
    let mut config = config::for_serving(args.config.path.as_deref(), environment)?;
    let _state = State::lock(&config.state)?;
    if config.origin == Origin::Embedded {
        first_start::write_starter(&config)?;
    }
    clock::judge_at_start(Timestamp::now(), &config.audit.directory)?;
    let policy = policy::for_serving(&config.policy, Timestamp::now())?;
    let (store, used) = BudgetFile::open(&config.state)?;
    let budgets = Budgets { used, store: Arc::new(store) };
    descriptors::raise_limit(&mut config);
    let (recorder, flush) = audit::open(&config.state, &config.audit, Arc::new(SystemClock))?;

    let end = match signals.asked() {
        Some(signal) => {
            tracing::info!(signal, "ended before anything was bound");
            Ok(())
        }
        None => {
            let begun = Begun { config, recorder, budgets, sockets, for_serving: Arc::new(policy) };
            runtime.block_on(serve(begun, signals, hangup, environment))
        }
    };
    // What still runs holds the recorder; it goes first, so that the flush can end.
    runtime.shutdown_timeout(LAST_WORDS);
    let flushed = match within(FLUSH_WITHIN, move || flush.wait()) {
        Some(flushed) => flushed.map_err(Failure::RecordEnd),
        None => Err(Failure::Unflushed),
    };
    end.and(flushed).map(|()| Exit::Done)
}

/// Does something for which a disk may take its time; `None` where that is too long.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = mpsc::channel();
    // Nobody listens any more where it was too long.
    thread::spawn(move || tell.send(work()));
    told.recv_timeout(limit).ok()
}

/// What is true before the first socket is bound.
struct Begun {
    config: Config,
    recorder: Recorder,
    budgets: Budgets,
    sockets: Vec<Inherited>,
    for_serving: Arc<ForServing>,
}

async fn serve(
    begun: Begun,
    mut signals: Signals,
    hangup: Signal,
    environment: &Environment,
) -> Result<(), Failure> {
    let Begun { config, recorder, budgets, sockets, for_serving } = begun;
    let Config { origin, policy: _, state, audit, metrics, mut settings, workers, roots: _ } =
        config;
    let ready = Ready::starting();
    let endpoint = match metrics {
        Some(address) => Some(bind_metrics(address).await?),
        None => None,
    };
    let metrics = endpoint.as_ref().map(Endpoint::address);
    settings.own.extend(metrics);
    let drain_timeout = settings.limits.drain_timeout;
    let workers = Arc::new(StaticWorkers::new(workers));
    let counted = Arc::<Metrics>::default();
    let ports = Ports {
        workers: workers.clone(),
        recorder: recorder.clone(),
        bridge: Arc::new(NoVault),
        clock: Arc::new(SystemClock),
        budgets,
        metrics: counted.clone(),
    };
    let ForServing { policy, source } = &*for_serving;
    let reloads = Reloads::begin(policy);
    for_serving.warn_of_report_mode();
    let proxy = Proxy::bind(settings, ports, policy.clone(), sockets).await.map_err(cannot_bind)?;
    let handle = proxy.handle();
    let loaded = recorder.policy(policy.revision(), PolicyChange::Loaded).await;
    loaded.map_err(|source| Failure::Recording { directory: audit.directory.clone(), source })?;
    // What runs beside the data path, until the drain has ended.
    let mut beside = Beside::default();
    let mut shown = JoinSet::new();
    shown.spawn(denials::show(&audit.directory, &source.path));
    if let Some(endpoint) = endpoint {
        let (recorder, reloads, ready) = (recorder.clone(), reloads.clone(), ready.clone());
        let observed = Observed::new(counted, recorder, reloads, ready, audit.on_failure);
        beside.spawn("answers for the metrics", endpoint.serve(Arc::new(observed)));
    }

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %origin,
        policy = %source.path.display(),
        revision = %policy.revision(),
        state = %state.display(),
        records = %audit.directory.display(),
        "serving"
    );
    let _listening = Listening::write(&state, proxy.addresses(), metrics)?;
    ready.advance(Readiness::Serving);
    log::begin_serving()?;
    for address in proxy.addresses() {
        output::text(&format!("listening {address}\n"))?;
    }
    if let (Origin::Embedded, Some(address)) = (&origin, proxy.addresses().first()) {
        let lines =
            first_start::steps(&source.path, &state, &audit.directory, &address.to_string());
        log::say(&lines);
    }
    let supervisor =
        Supervisor::new(handle.clone(), ready.clone(), recorder.clone(), drain_timeout);
    supervisor.ready();
    beside.spawn("tells the service manager", supervisor.clone().keep_informed());
    let told = Told { recorder: recorder.clone(), reloads, supervisor: supervisor.clone() };
    let in_force = InForce { config: origin, workers, policy: for_serving };
    let reload = Reload::from(in_force, environment.clone(), handle.clone(), told);
    beside.spawn("reloads", reload.run(hangup));

    let stop = CancellationToken::new();
    let running = pin!(proxy.run(stop.clone()));
    let ended = async {
        tokio::select! {
            ended = beside.ended() => ended,
            () = recorder.ended() => Ended::of("writes the records"),
        }
    };
    let end = Asked { stop, ready, supervisor, handle }
        .until_signalled(running, pin!(ended), &mut signals)
        .await;
    shown.shutdown().await;
    beside.shutdown().await;
    end?;
    tracing::info!("ended");
    Ok(())
}

/// What is told that the end has been asked for.
struct Asked {
    stop: CancellationToken,
    ready: Ready,
    supervisor: Supervisor,
    handle: Handle,
}

impl Asked {
    /// The first signal lets what is open end; the second cuts it, and so does the end of something
    /// that egret cannot do without.
    async fn until_signalled(
        self,
        mut running: impl Future<Output = Result<(), RunError>> + Unpin,
        mut ended: impl Future<Output = Ended> + Unpin,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let Self { stop, ready, supervisor, handle } = self;
        let open = || handle.live();
        let broken = |ended: Ended| Err(Failure::Broken(ended.into()));
        let end = tokio::select! {
            ran = &mut running => return ran.map_err(ended_badly),
            ended = &mut ended => broken(ended),
            name = signals.next() => Ok(name),
        };
        // Told first, so that nobody is sent to a socket that is about to close.
        ready.advance(Readiness::Draining);
        supervisor.stopping();
        stop.cancel();
        let end = match end {
            Ok(signal) => {
                tracing::info!(signal, open = open(), "draining");
                tokio::select! {
                    ran = &mut running => return ran.map_err(ended_badly),
                    ended = &mut ended => broken(ended),
                    name = signals.next() => Ok(name),
                }
            }
            Err(failure) => Err(failure),
        };
        let live = open();
        handle.cut(&Selector::All, ClosedBy::Drain);
        let end = end.map(|signal| tracing::info!(signal, open = live, "cutting"));
        // Whatever does not end now ends with the runtime, before what it used could be saved.
        let ran = timeout(CUT_WITHIN, running)
            .await
            .unwrap_or_else(|_| Err(RunError::Unsaved(ErrorKind::TimedOut.into())));
        end.and(ran.map_err(ended_badly))
    }
}

fn ended_badly(error: RunError) -> Failure {
    match error {
        RunError::Unsaved(source) => Failure::Unsaved(source),
        error @ RunError::Part { .. } => Failure::Broken(error.into()),
    }
}

/// The one clock of the process.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

async fn bind_metrics(address: SocketAddr) -> Result<Endpoint, Failure> {
    Endpoint::bind(address).await.map_err(|source| Failure::Metrics { address, source })
}

fn cannot_bind(error: BindError) -> Failure {
    match error {
        BindError::Listen(error) => Failure::Listen(error),
        BindError::Resolver(error) => Failure::Resolver(error),
        error @ BindError::Interfaces(_) => Failure::Start(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_not_waited_for() {
        let (release, released) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let stands_still = move || released.recv().unwrap();
        assert_eq!(within(Duration::from_millis(1), stands_still), None);
        release.send(()).unwrap();
    }
}
