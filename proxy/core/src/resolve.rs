//! Asks the name servers for all addresses of a permitted name.
//!
//! A and AAAA are asked at once, by the name as it is: no search domains, no hosts file. One outer
//! deadline bounds everything, since the library's own time-outs are per attempt. Answers are kept
//! for their time to live up to a ceiling, and one look-up serves all who wait for it. What an
//! answer means is not judged here: every use of it is pinned again under the permit of the day.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use egret_policy::{Answers, Host, HostName};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    },
    system_conf,
};
use moka::{Expiry, future::Cache};
use tokio::time::{Instant, timeout_at};

use self::chain::{ChainError, Family};
use crate::settings::DnsSettings;

mod chain;
#[cfg(any(test, fuzzing))]
pub(crate) use self::chain::fuzzed;

/// Names whose answers are kept.
const CACHE_NAMES: u64 = 10_000;
/// How long the news that a name has no address is kept when the answer does not say less.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// What fits an unfragmented datagram on any common path (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1232;

/// Looks names up and keeps the answers for a while.
pub(crate) struct Resolver {
    hickory: TokioResolver,
    servers: Vec<SocketAddr>,
    timeout: Duration,
    max_ttl: Duration,
    fixed: HashMap<HostName, Arc<Answers>>,
    cache: Cache<HostName, Kept>,
}

/// Why there are no addresses to pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the name does not exist")]
    NoSuchName,
    #[error("the name has no address")]
    NoAddress,
    #[error("the name servers failed")]
    Failed,
    #[error("the name servers did not answer in time")]
    Timeout,
    #[error("the answer cannot be used")]
    Answer(#[from] ChainError),
}

/// Why the resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The system names no server, and neither does the configuration.
    #[error("read the system's name servers; set `servers` in `[dns]`")]
    System(#[source] NetError),
    /// The library refused its configuration.
    #[error("set up the resolver")]
    Setup(#[source] NetError),
}

#[derive(Clone)]
struct Kept {
    found: Result<Arc<Answers>, ResolveError>,
    ttl: Duration,
}

impl Resolver {
    pub(crate) fn new(settings: &DnsSettings) -> Result<Self, ResolverError> {
        let servers = match &settings.servers {
            Some(servers) => servers.clone(),
            None => system_servers()?,
        };
        let configured = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut kind| {
                kind.port = server.port();
                kind
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, vec![], configured.collect());
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        *builder.options_mut() = options(settings.timeout, servers.len());
        let fixed = settings.hosts.iter().map(|(name, addresses)| {
            (name.clone(), Arc::new(Answers { addresses: addresses.clone(), aliases: vec![] }))
        });
        Ok(Self {
            hickory: builder.build().map_err(ResolverError::Setup)?,
            servers,
            timeout: settings.timeout,
            max_ttl: settings.max_ttl,
            fixed: fixed.collect(),
            cache: Cache::builder().max_capacity(CACHE_NAMES).expire_after(ByTtl).build(),
        })
    }

    /// The servers asked; egret's own, so never a target.
    pub(crate) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Returns all addresses of `host`; a literal is its own only address.
    pub(crate) async fn resolve(&self, host: &Host) -> Result<Arc<Answers>, ResolveError> {
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
            return kept.found;
        }
        // Failures are not kept: the next request asks again. Boxed: hardly any request gets here.
        let kept = Box::pin(self.cache.try_get_with(name.clone(), self.look_up(name))).await;
        kept.map_err(|error| (*error).clone())?.found
    }

    async fn look_up(&self, name: &HostName) -> Result<Kept, ResolveError> {
        let deadline = Instant::now() + self.timeout;
        let (v4, v6) = tokio::join!(
            self.family(name, RecordType::A, deadline),
            self.family(name, RecordType::AAAA, deadline),
        );
        let families = match (v4, v6) {
            // An answer that lies is not made good by the other family.
            (Err(ResolveError::Answer(error)), _) | (_, Err(ResolveError::Answer(error))) => {
                return Err(error.into());
            }
            (Ok(v4), Ok(v6)) => [v4, v6],
            // A family that fails counts as empty when the other has answered.
            (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.addresses.is_empty() => {
                [one, Family::default()]
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
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

    async fn family(
        &self,
        name: &HostName,
        kind: RecordType,
        deadline: Instant,
    ) -> Result<Family, ResolveError> {
        // With the root dot: a name as it is, never completed with a search domain.
        let question =
            Name::from_ascii(format!("{name}.")).map_err(|_| ResolveError::NoSuchName)?;
        match timeout_at(deadline, self.hickory.lookup(question, kind)).await {
            Ok(Ok(lookup)) => Ok(chain::walk(name, kind, lookup.answers())?),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none))))
                if [ResponseCode::NoError, ResponseCode::NXDomain]
                    .contains(&none.response_code) =>
            {
                Ok(Family {
                    ttl: none.negative_ttl.map(|secs| Duration::from_secs(secs.into())),
                    no_such_name: none.response_code == ResponseCode::NXDomain,
                    ..Family::default()
                })
            }
            Ok(Err(NetError::Timeout)) | Err(_) => Err(ResolveError::Timeout),
            Ok(Err(error)) => {
                tracing::debug!(%error, %name, %kind, "look up");
                Err(ResolveError::Failed)
            }
        }
    }
}

fn options(timeout: Duration, servers: usize) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    // One attempt may take all the time there is, unless there is another server to turn to.
    options.timeout = if servers > 1 { timeout / 2 } else { timeout };
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true;
    options.case_randomization = true;
    options.edns_payload_len = EDNS_PAYLOAD;
    options
}

/// Only the name servers: search domains and `ndots` of the system would ask for other names.
fn system_servers() -> Result<Vec<SocketAddr>, ResolverError> {
    let (config, _) = system_conf::read_system_conf().map_err(ResolverError::System)?;
    Ok(config.name_servers.iter().map(|server| SocketAddr::new(server.ip, 53)).collect())
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
}
