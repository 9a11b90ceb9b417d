//! A running proxy: what its exchanges share, how it starts and ends, and the handle by which a
//! program changes it while it runs.

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use egret_policy::{
    Answers, Ask, Denial, Method, Policy, Revision, Sni, TlsClaim, TunnelAsk, WorkerId,
};
use egret_vault_bridge::Bridge;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accept::{Listener, accept},
    caused::caused,
    clock::Clock,
    identify::{Identification, Workers},
    limit::{self, Accounts, BudgetStore, Denials, Moment, Used},
    listen::{Acceptor, Bound, Inherited, ListenError, listen},
    live::{Asked, Live, Selected, Selector, Standing},
    metrics::Metrics,
    origin::Pool,
    own::Own,
    record::{ClosedBy, Recorder},
    resolve::{Resolver, ResolverError},
    settings::{ConnectionLimits, ListenAddress, Settings},
};

/// Connections above the limit that are told so instead of being reset, at most half as many as are
/// served.
const OVERFLOW: usize = 64;
/// A rule that has expired is found within this time, and its exchanges are cut.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// How long, once the proxy stops, a connection may bring a request that was on its way: nobody had
/// told its sender. What begins later is refused.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long cut exchanges are given to write their completions.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long, at the end, the disk may take to have the day budgets.
const SAVED_WITHIN: Duration = Duration::from_secs(3);

/// What the proxy is given to work with.
pub struct Ports {
    /// Who the workers are.
    pub workers: Arc<dyn Workers>,
    /// Where exchanges are recorded.
    pub recorder: Recorder,
    /// Who lends secrets.
    pub bridge: Arc<dyn Bridge>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where day budgets are kept.
    pub budgets: Budgets,
    /// Where it is counted what happens.
    pub metrics: Arc<Metrics>,
}

/// What was used of day budgets before the start, and where it is kept from here on.
pub struct Budgets {
    /// What was kept; what is not of today plays no part.
    pub used: Vec<Used>,
    /// Where it is saved every ten seconds and at the end.
    pub store: Arc<dyn BudgetStore>,
}

/// What exchanges are judged by. It is exchanged as one, so that nobody sees new workers under the
/// old policy.
pub(crate) struct InForce {
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) policy: Arc<Policy>,
}

/// What all exchanges share.
pub(crate) struct Shared {
    pub(crate) in_force: ArcSwap<InForce>,
    pub(crate) recorder: Recorder,
    pub(crate) bridge: Arc<dyn Bridge>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) resolver: Resolver,
    pub(crate) own: Arc<Own>,
    pub(crate) live: Arc<Live>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) accounts: Accounts,
    pub(crate) denials: Denials,
    pub(crate) started: Instant,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) overflow: Arc<Semaphore>,
    /// No connection is accepted any more, and every answer ends its own.
    pub(crate) stop: CancellationToken,
    /// No request is accepted any more.
    pub(crate) last_call: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    /// Reads the clocks that limits are counted by.
    pub(crate) fn moment(&self) -> Moment {
        Moment { elapsed: self.started.elapsed(), time: self.clock.now() }
    }

    /// Decides again, under `policy`, what was allowed before.
    pub(crate) fn holds(&self, policy: &Policy, standing: &Standing) -> Result<(), Denial> {
        let now = self.clock.now();
        let own = self.own.current();
        match standing {
            Standing::Nothing => Ok(()),
            Standing::Request { asked, peer } => {
                let Asked { worker, method, target } = &**asked;
                let method = Method::parse(method).expect("stage 2 parsed it");
                let permit = policy.decide(&Ask { worker, method, target }, now)?;
                let Some(peer) = *peer else { return Ok(()) };
                permit.pin(&only(peer), &own)?.reached(peer)?;
                Ok(())
            }
            Standing::Tunnel { worker, authority, peer, selected } => {
                let permit = policy.decide_tunnel(&TunnelAsk { worker, authority }, now)?;
                let Some(peer) = *peer else { return Ok(()) };
                let grant = permit.pin(&only(peer), &own)?.reached(peer)?;
                match selected {
                    None | Some(Selected::Http) => Ok(()),
                    Some(Selected::Opaque) => grant.select_opaque().map(drop),
                    Some(Selected::Tls { named, ech }) => {
                        let name = authority.host().to_string();
                        let sni = if *named { Sni::Name(&name) } else { Sni::Absent };
                        grant.select_tls(TlsClaim { sni, ech: *ech }, now).map(drop)
                    }
                }
            }
        }
    }
}

/// The answer that names the address which was reached.
fn only(peer: SocketAddr) -> Answers {
    Answers { addresses: vec![peer.ip()], aliases: vec![] }
}

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Names cannot be resolved.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The interfaces of the machine cannot be listed, so its own addresses are not known.
    #[error("read the addresses of the interfaces")]
    Interfaces(#[source] io::Error),
}

/// Why a proxy has not ended as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nobody had stopped it: a part of it had ended, and half a proxy is none.
    #[error("what {part} has ended by itself")]
    Part {
        /// What the part does.
        part: &'static str,
        /// How it ended, if that was a panic.
        #[source]
        source: Option<JoinError>,
    },
    /// What was used of day budgets since they were saved last may be used again after a start.
    #[error("save the day budgets at the end")]
    Unsaved(#[source] io::Error),
}

impl RunError {
    fn of<T>(part: &'static str, end: Result<T, JoinError>) -> Self {
        Self::Part { part, source: end.err() }
    }
}

/// A proxy that is bound and may serve.
pub struct Proxy {
    shared: Arc<Shared>,
    budgets: Budgets,
    bound: Vec<(Acceptor, Arc<Listener>)>,
    addresses: Vec<ListenAddress>,
}

impl Proxy {
    /// Binds every listener, or takes its socket from `inherited`; all or none.
    pub async fn bind(
        settings: Settings,
        ports: Ports,
        policy: Arc<Policy>,
        inherited: Vec<Inherited>,
    ) -> Result<Self, BindError> {
        let mut bound = Vec::new();
        let mut addresses = Vec::new();
        for Bound { acceptor, address, settings } in listen(settings.listeners, inherited).await? {
            let identification = Identification::new(settings.identity);
            let listener = Listener { name: address.to_string(), identification };
            bound.push((acceptor, Arc::new(listener)));
            addresses.push(address);
        }
        let resolver = Resolver::new(&settings.dns, ports.metrics.clone())?;
        let listening =
            addresses.iter().filter_map(ListenAddress::tcp).chain(settings.own).collect();
        let own = Own::new(listening, resolver.servers()).map_err(BindError::Interfaces)?;
        let accounts =
            Accounts::new(policy.clone(), ports.clock.clone(), ports.budgets.used.clone());
        let shared = Arc::new(Shared {
            in_force: ArcSwap::from_pointee(InForce { workers: ports.workers, policy }),
            recorder: ports.recorder,
            bridge: ports.bridge,
            clock: ports.clock,
            metrics: ports.metrics.clone(),
            resolver,
            own,
            live: Live::new(ports.metrics.clone()),
            pool: Pool::new(ports.metrics.clone()),
            limits: settings.limits,
            accounts,
            denials: Denials::new(settings.limits.denials_per_minute),
            started: Instant::now(),
            slots: Arc::new(Semaphore::new(settings.limits.connections)),
            overflow: Arc::new(Semaphore::new(
                (settings.limits.connections / 2).clamp(1, OVERFLOW),
            )),
            stop: CancellationToken::new(),
            last_call: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        Ok(Self { shared, budgets: ports.budgets, bound, addresses })
    }

    /// Returns the bound addresses, in the order of the settings.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Returns a handle that outlives [`Proxy::run`].
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Serves until `stop`; then takes in what has come by then, lets it and what is open end within
    /// `drain_timeout`, and cuts the rest. Where a part of it ends before, all is cut at once. A disk
    /// that does not take what was used of day budgets is not waited for, and told.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { shared, budgets, bound, .. } = self;
        let mut accepting = JoinSet::new();
        for (socket, listener) in bound {
            accepting.spawn(accept(socket, listener, shared.clone()));
        }
        let mut tending = JoinSet::new();
        tending.spawn(shared.own.clone().keep_fresh());
        tending.spawn(expire(shared.clone()));
        tending.spawn(shared.pool.clone().keep_fresh());
        let following = shared.clone();
        tending.spawn(async move { following.resolver.follow(&following.own).await });
        let over = CancellationToken::new();
        let mut keeping = JoinSet::new();
        keeping.spawn(limit::keep(shared.clone(), over.clone()));
        let mut saving = JoinSet::new();
        saving.spawn(limit::save(shared.clone(), budgets, over.clone()));

        let end = tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(end) = accepting.join_next() => Err(RunError::of("accepts connections", end)),
            Some(end) = tending.join_next() => Err(RunError::of("looks after what is open", end)),
            Some(end) = keeping.join_next() => Err(RunError::of("keeps the counts", end)),
            Some(end) = saving.join_next() => Err(RunError::of("saves the day budgets", end)),
        };
        shared.stop.cancel();
        while accepting.join_next().await.is_some() {}
        shared.pool.close();
        shared.tasks.close();
        let patience = if end.is_ok() { shared.limits.drain_timeout } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        let mut ended = timeout(patience.min(LAST_CALL), shared.tasks.wait()).await;
        if ended.is_err() {
            shared.last_call.cancel();
            ended = timeout_at(deadline.into(), shared.tasks.wait()).await;
        }
        if ended.is_err() {
            shared.live.cut(&Selector::All, ClosedBy::Drain);
            // Cut tasks end at their next poll; one that does not is not waited for.
            if timeout(LAST_WORDS, shared.tasks.wait()).await.is_err() {
                tracing::error!("connections were still open at the end");
            }
        }
        // Until here: what is open was to be cut when its rule expired.
        tending.abort_all();
        // Last, so that they see what the last exchanges used.
        over.cancel();
        let by = (Instant::now() + SAVED_WITHIN).into();
        let saved = match timeout_at(by, saving.join_next()).await {
            Ok(Some(Ok(saved))) => saved,
            Ok(Some(Err(error))) => Err(error.into()),
            // It had ended before, which is told already.
            Ok(None) => Ok(()),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        };
        match timeout_at(by, keeping.join_next()).await {
            Ok(Some(Ok(())) | None) => {}
            Ok(Some(Err(error))) => {
                tracing::error!(error = %caused(&error), "record the last denials")
            }
            // The records do not get through either then, and their end says so.
            Err(_) => tracing::error!("the last denials were not recorded in time"),
        }
        if let (Err(_), Err(error)) = (&end, &saved) {
            tracing::error!(error = %caused(error), "save the day budgets at the end");
        }
        end.and(saved.map_err(RunError::Unsaved))
    }
}

/// Cuts what has expired, again and again. The limits of a relay count on a clock that stands
/// still while the machine sleeps and does not follow when the time of day is set; this one asks.
async fn expire(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(EXPIRE_EVERY);
    loop {
        interval.tick().await;
        shared.live.cut_expired(shared.clock.now());
    }
}

/// Changes a running proxy.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Puts `policy` in force for everything from now on, and cuts what it no longer allows.
    /// Returns how many live entries that were.
    pub fn replace_policy(&self, policy: Arc<Policy>) -> usize {
        self.0.in_force.rcu(|now| InForce { workers: now.workers.clone(), policy: policy.clone() });
        self.sweep(&policy, &HashSet::new())
    }

    /// Puts other workers and a policy in force as one, and cuts what is no longer allowed, all of
    /// the workers in `gone` included. Returns how many live entries that were.
    pub fn replace(
        &self,
        workers: Arc<dyn Workers>,
        policy: Arc<Policy>,
        gone: &HashSet<WorkerId>,
    ) -> usize {
        self.0.in_force.store(Arc::new(InForce { workers, policy: policy.clone() }));
        self.sweep(&policy, gone)
    }

    /// Follows after what is in force: an exchange in between has seen that by itself.
    fn sweep(&self, policy: &Arc<Policy>, gone: &HashSet<WorkerId>) -> usize {
        let shared = &self.0;
        shared.accounts.figure(policy);
        for worker in gone {
            shared.pool.cut(worker, ClosedBy::Policy);
        }
        shared.live.cut_losers(gone, |standing| shared.holds(policy, standing).is_err())
    }

    /// Resets everything that `selector` names, on both sides, and returns how many entries it was.
    pub fn cut(&self, selector: &Selector, by: ClosedBy) -> usize {
        let cut = self.0.live.cut(selector, by);
        match selector {
            Selector::All => self.0.pool.clear(),
            Selector::Worker(worker) => self.0.pool.cut(worker, by),
            // What waits was let go by the exchange that the rule or the credential was for.
            Selector::Rule(_) | Selector::Credential(_) => {}
        }
        cut
    }

    /// Resets everything of a worker whose rights have ended; [`Workers`] must refuse it already.
    pub fn remove_worker(&self, worker: &WorkerId) -> usize {
        self.cut(&Selector::Worker(worker.clone()), ClosedBy::Revoked)
    }

    /// Returns the revision of the policy in force.
    pub fn revision(&self) -> Revision {
        self.0.in_force.load().policy.revision()
    }

    /// Returns how many connections and exchanges are open.
    pub fn live(&self) -> usize {
        self.0.live.len()
    }
}
