//! Asks the name servers for all addresses of a permitted name.
//!
//! A and AAAA are asked at once, by the name as it is: no search domains, no hosts file. One
//! deadline bounds everything, and so are the look-ups under way and the answers that are kept.
//! Servers are asked one after the other in the order of the configuration, silent ones last; the
//! next one gets its turn when one has no answer, never when one has lied. One look-up serves all
//! who wait for it. What an answer means is not judged here: every use of it is pinned again under
//! the permit of the day.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use egret_policy::{Answers, Host, HostName, WorkerId};
use hickory_resolver::proto::{
    op::Query,
    rr::{Name, RecordType},
};
use moka::{Expiry, future::Cache};
use rustls::ClientConfig;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use self::{
    answer::{AnswerError, Verdict},
    chain::Family,
    flights::{Flights, Full},
    server::{Server, ServerFault},
};
use crate::{
    caused::caused,
    metrics::{Metrics, label::LookedUp},
    own::Own,
    plain::Plain,
    settings::{DnsSettings, NameServer},
};

pub use self::system::SystemError;

mod answer;
mod chain;
#[cfg(any(test, fuzzing))]
pub(crate) use self::chain::fuzzed;
mod flights;
mod server;
mod system;
#[cfg(test)]
mod tests;

/// Answers that are kept; one of extreme size counts as several.
const CACHE_NAMES: u64 = 10_000;
/// Addresses, or an eighth as many aliases, that count as one more answer.
const CACHE_UNIT: usize = 16;
/// How long the news that a name has no address is kept when the answer does not say less.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How often the system is asked whether its name servers are still the same.
const FOLLOW: Duration = Duration::from_secs(10);
/// The least time between two such questions, however often look-ups fail.
const FOLLOW_AT_MOST: Duration = Duration::from_secs(1);

/// Looks names up and keeps the answers for a while.
pub(crate) struct Resolver {
    servers: ArcSwap<Servers>,
    /// Set where the servers are the system's, which may change.
    follows: bool,
    /// A look-up failed: perhaps the network is another one.
    failed: Notify,
    client: Arc<ClientConfig>,
    timeout: Duration,
    max_ttl: Duration,
    fixed: HashMap<HostName, Arc<Answers>>,
    cache: Cache<HostName, Kept>,
    flights: Flights,
    metrics: Arc<Metrics>,
}

/// The servers in use, in the order in which they are asked.
struct Servers(Vec<Server>);

/// Why there are no addresses to pin.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the name does not exist")]
    NoSuchName,
    #[error("the name has no address")]
    NoAddress,
    #[error("the name server has no answer")]
    Failed(#[source] ServerFault),
    #[error("the name servers did not answer in time")]
    Timeout,
    #[error("the answer cannot be used")]
    Answer(#[from] AnswerError),
    #[error("too many names are being looked up")]
    Crowded,
    #[error("too many names are being looked up for worker `{0}`")]
    CrowdedBy(WorkerId),
}

/// Why the resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The system names no server, and neither does the configuration.
    #[error("there are no `servers` in `[dns]`, so those of the system")]
    System(#[from] SystemError),
}

#[derive(Clone)]
struct Kept {
    found: Result<Arc<Answers>, ResolveError>,
    ttl: Duration,
}

impl Resolver {
    pub(crate) fn new(
        settings: &DnsSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ResolverError> {
        let servers = match &settings.servers {
            Some(servers) => servers.clone(),
            None => system::servers()?,
        };
        let client = Arc::new(settings.roots.client());
        let fixed = settings.hosts.iter().map(|(name, addresses)| {
            (name.clone(), Arc::new(Answers { addresses: addresses.clone(), aliases: vec![] }))
        });
        let cache = Cache::builder()
            .max_capacity(CACHE_NAMES)
            .weigher(|_: &HostName, kept: &Kept| kept.weight())
            .expire_after(ByTtl);
        Ok(Self {
            servers: ArcSwap::from_pointee(Servers::new(servers, &client, settings.timeout)),
            follows: settings.servers.is_none(),
            failed: Notify::new(),
            client,
            timeout: settings.timeout,
            max_ttl: settings.max_ttl,
            fixed: fixed.collect(),
            cache: cache.build(),
            flights: Flights::default(),
            metrics,
        })
    }

    /// The servers asked; egret's own, so never a target.
    pub(crate) fn servers(&self) -> Vec<SocketAddr> {
        self.servers.load().0.iter().map(|server| server.config().address).collect()
    }

    /// Follows the system to other name servers, for as long as it is polled; where they are
    /// configured there is nothing to follow. A system that cannot say keeps the ones it had.
    pub(crate) async fn follow(&self, own: &Own) {
        if !self.follows {
            return std::future::pending().await;
        }
        let mut told = false;
        loop {
            tokio::select! {
                () = sleep(FOLLOW) => {}
                () = self.failed.notified() => {}
            }
            match system::servers() {
                Ok(named) => {
                    told = false;
                    self.change_to(named, own);
                }
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        error = %caused(&error),
                        "the name servers stay those of before"
                    );
                }
                Err(_) => {}
            }
            sleep(FOLLOW_AT_MOST).await;
        }
    }

    fn change_to(&self, named: Vec<NameServer>, own: &Own) {
        let current = self.servers.load();
        if current.0.iter().map(Server::config).eq(&named) {
            return;
        }
        let addresses: Vec<_> = named.iter().map(|server| server.address).collect();
        // Forbidden as a target first, asked second.
        if let Err(error) = own.asked_at(addresses.clone()) {
            tracing::warn!(error = %caused(&error), "read the addresses of the interfaces");
            return;
        }
        tracing::info!(servers = ?addresses, "the system has other name servers");
        self.servers.store(Arc::new(Servers::new(named, &self.client, self.timeout)));
        // What a name means may differ from network to network.
        self.cache.invalidate_all();
    }

    /// Returns all addresses of `host` to `worker`; a literal is its own only address.
    pub(crate) async fn resolve(
        &self,
        host: &Host,
        worker: &WorkerId,
    ) -> Result<Arc<Answers>, ResolveError> {
        let name = match host {
            Host::Address(address) => {
                return Ok(Arc::new(Answers { addresses: vec![*address], aliases: vec![] }));
            }
            Host::Name(name) => name,
        };
        if let Some(answers) = self.fixed.get(name) {
            return Ok(answers.clone());
        }
        if let Some(kept) = self.cache.get(name).await {
            self.metrics.cached.add(1);
            return kept.found;
        }
        let began = Instant::now();
        let deadline = began + self.timeout;
        // Failures are not kept: the next request asks again. Who waits for another's look-up has
        // a deadline too: when that one is given up, the look-up begins anew with one who waits.
        // Boxed: hardly any request gets here.
        let kept = Box::pin(self.kept_for(name, worker, deadline));
        let kept = timeout_at(deadline, kept).await.unwrap_or(Err(ResolveError::Timeout));
        let found = kept.and_then(|kept| kept.found);
        let result = found.as_ref().map_or_else(LookedUp::from, |_| LookedUp::Found);
        self.metrics.lookup.of(result).observe(began.elapsed());
        found
    }

    /// Looks a name up for all who wait for it. Whoever is refused for their own sake alone says so
    /// to themselves: the others begin anew.
    async fn kept_for(
        &self,
        name: &HostName,
        worker: &WorkerId,
        deadline: Instant,
    ) -> Result<Kept, ResolveError> {
        loop {
            let look_up = self.look_up(name, worker, deadline);
            let kept = self.cache.try_get_with(name.clone(), look_up).await;
            match kept.map_err(|error| (*error).clone()) {
                Err(ResolveError::CrowdedBy(other)) if other != *worker => {}
                kept => return kept,
            }
        }
    }

    async fn look_up(
        &self,
        name: &HostName,
        worker: &WorkerId,
        deadline: Instant,
    ) -> Result<Kept, ResolveError> {
        let _flight = self.flights.enter(name, worker).map_err(|full| match full {
            Full::ForAll => ResolveError::Crowded,
            Full::ForWorker => ResolveError::CrowdedBy(worker.clone()),
        })?;
        let servers = self.servers.load_full();
        let (v4, v6) = tokio::join!(
            servers.family(name, RecordType::A, deadline),
            servers.family(name, RecordType::AAAA, deadline),
        );
        let families = match (v4, v6) {
            // An answer that lies is not made good by the other family.
            (Err(ResolveError::Answer(error)), _) | (_, Err(ResolveError::Answer(error))) => {
                tracing::debug!(%name, %error, "an answer is not believed");
                return Err(error.into());
            }
            (Ok(v4), Ok(v6)) => [v4, v6],
            // A family that fails counts as empty when the other has answered.
            (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.addresses.is_empty() => {
                [one, Family::default()]
            }
            (Err(error), _) | (_, Err(error)) => {
                self.failed.notify_one();
                return Err(error);
            }
        };
        Ok(self.keep(families))
    }

    fn keep(&self, families: [Family; 2]) -> Kept {
        let ttl = families.iter().filter_map(|family| family.ttl).min();
        let missing = families.iter().all(|family| family.no_such_name);
        let mut answers = Answers::default();
        for family in families {
            answers.addresses.extend(family.addresses);
            for alias in family.aliases {
                if !answers.aliases.contains(&alias) {
                    answers.aliases.push(alias);
                }
            }
        }
        let found = match (answers.addresses.is_empty(), missing) {
            (false, _) => Ok(Arc::new(answers)),
            (true, true) => Err(ResolveError::NoSuchName),
            (true, false) => Err(ResolveError::NoAddress),
        };
        let ceiling = if found.is_ok() { self.max_ttl } else { NEGATIVE_TTL.min(self.max_ttl) };
        Kept { found, ttl: ttl.unwrap_or(NEGATIVE_TTL).min(ceiling) }
    }
}

impl Servers {
    fn new(servers: Vec<NameServer>, client: &Arc<ClientConfig>, timeout: Duration) -> Self {
        let servers = servers.into_iter().map(|server| Server::new(server, client, timeout));
        Self(servers.collect())
    }

    /// Asks one server after the other until one knows. Each has its share of the time that is
    /// left, so that a silent one leaves time for the next.
    async fn family(
        &self,
        name: &HostName,
        kind: RecordType,
        deadline: Instant,
    ) -> Result<Family, ResolveError> {
        // With the root dot: a name as it is, never completed with a search domain.
        let question =
            Name::from_ascii(format!("{name}.")).map_err(|_| ResolveError::NoSuchName)?;
        let question = Query::query(question, kind);
        let mut order: Vec<_> = self.0.iter().collect();
        order.sort_by_cached_key(|server| server.is_passed_over());
        let mut fault = ServerFault::Timeout;
        for (server, left) in order.into_iter().zip((1..=self.0.len() as u32).rev()) {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / left;
            let reply = server.ask(question.clone(), now + share).await;
            match answer::judge(name, &question, reply) {
                Verdict::Known(family) => {
                    server.tell(None);
                    return Ok(family);
                }
                Verdict::Unbelievable(error) => return Err(error.into()),
                Verdict::Unanswered(unanswered) => {
                    let server_address = server.config().address;
                    let told = Plain(&unanswered);
                    tracing::debug!(%name, %kind, server = %server_address, unanswered = %told, "look up");
                    server.tell(Some(&unanswered));
                    fault = unanswered;
                }
            }
        }
        Err(fault.into())
    }
}

impl From<ServerFault> for ResolveError {
    fn from(fault: ServerFault) -> Self {
        match fault {
            ServerFault::Timeout => Self::Timeout,
            ServerFault::Code(_) | ServerFault::Certificate(_) | ServerFault::Broken(_) => {
                Self::Failed(fault)
            }
        }
    }
}

impl Kept {
    fn weight(&self) -> u32 {
        let size = match &self.found {
            Ok(answers) => answers.addresses.len() + 8 * answers.aliases.len(),
            Err(_) => 0,
        };
        u32::try_from(1 + size / CACHE_UNIT).unwrap_or(u32::MAX)
    }
}

struct ByTtl;

impl Expiry<HostName, Kept> for ByTtl {
    fn expire_after_create(
        &self,
        _name: &HostName,
        kept: &Kept,
        _created: std::time::Instant,
    ) -> Option<Duration> {
        Some(kept.ttl)
    }

    /// An answer that takes the place of another has its own time, not what was left of the other's.
    fn expire_after_update(
        &self,
        _name: &HostName,
        kept: &Kept,
        _updated: std::time::Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.ttl)
    }
}
