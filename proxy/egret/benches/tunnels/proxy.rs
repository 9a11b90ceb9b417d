//! The proxy, as the binary runs it: policy, static workers, records on disk.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, thread};

use egret_policy::{HostName, Policy, Timestamp, Worker, WorkerId};
use egret_proxy::{
    BudgetStore, Budgets, Clock, ClosedBy, ConnectionLimits, DnsSettings, Handle, HeadKey,
    IdentityKind, KnownWorker, ListenAddress, ListenerSettings, Ports, Proofs, Proxy,
    RecordSettings, Recorder, Selector, Settings, StaticWorkers, Used,
};
use egret_vault_bridge::NoVault;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    measure,
    role::{self, parse, unknown},
    workers::{HOST, TOKEN, TUNNELS_EACH, id},
};

/// More than the most tunnels there can be.
const WORKERS: usize = 20_000 / TUNNELS_EACH;

pub(crate) fn run(origin: &str, ports: &[&str]) -> io::Result<()> {
    let policy = policy(origin, &ports.join(", "))?;
    let settings = settings(origin)?;
    let records = tempfile::tempdir()?;
    let clock = Arc::new(SystemClock);
    let key = HeadKey::generate().map_err(io::Error::other)?;
    let kept = RecordSettings::in_directory(&records.path().join("audit"));
    let (recorder, _flush) = Recorder::open(kept, key, clock.clone()).map_err(io::Error::other)?;
    let ports = Ports {
        workers: Arc::new(StaticWorkers::new(workers()?)),
        recorder,
        bridge: Arc::new(NoVault),
        clock,
        budgets: Budgets { used: vec![], store: Arc::new(NoBudgets) },
        metrics: Arc::default(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let proxy =
        runtime.block_on(Proxy::bind(settings, ports, policy, vec![])).map_err(io::Error::other)?;
    let (ready, handle) = (proxy.addresses()[0].to_string(), proxy.handle());
    thread::spawn(move || runtime.block_on(proxy.run(CancellationToken::new())));
    role::answer(&ready, |question| match question {
        ["cut", "all"] => Ok(cut(&handle, &Selector::All)),
        ["cut", worker] => Ok(cut(&handle, &Selector::Worker(worker_id(parse(worker)?)?))),
        ["live"] => Ok(handle.live().to_string()),
        ["memory"] => Ok(measure::resident()?.to_string()),
        ["processor"] => Ok(measure::processor_time().to_string()),
        _ => unknown(question),
    })
}

/// Cuts, and says when that began, when the call returned, and how many entries it was.
fn cut(handle: &Handle, selector: &Selector) -> String {
    let began = measure::now();
    let entries = handle.cut(selector, ClosedBy::Revoked);
    format!("{began} {} {entries}", measure::now())
}

fn settings(origin: &str) -> io::Result<Settings> {
    let host = HostName::from_policy(HOST).map_err(io::Error::other)?;
    let hosts = BTreeMap::from([(host, vec![parse(origin)?])]);
    Ok(Settings {
        listeners: vec![ListenerSettings {
            address: ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            identity: vec![IdentityKind::Token],
        }],
        dns: DnsSettings { servers: Some(vec![]), hosts, ..DnsSettings::default() },
        limits: ConnectionLimits::default(),
        own: vec![],
    })
}

fn policy(origin: &str, ports: &str) -> io::Result<Arc<Policy>> {
    let mut text = format!(
        r#"
        version = 1
        [defaults]
        max_response_bytes = "4GiB"
        idle_timeout = "30m"
        [[rule]]
        id = "origin"
        effect = "allow"
        hosts = ["{HOST}"]
        ports = [{ports}]
        "#
    );
    if origin.starts_with("127.") {
        text += "[[network.allow]]\ncidr = \"127.0.0.0/8\"\nrules = [\"origin\"]\n";
    }
    let loaded = Policy::load(&text);
    let problems = format!("{:?}", loaded.problems);
    Ok(Arc::new(loaded.policy.ok_or_else(|| io::Error::other(problems))?))
}

fn workers() -> io::Result<Vec<KnownWorker>> {
    let worker = |number| {
        let worker = Arc::new(Worker { id: worker_id(number)?, labels: Default::default() });
        let token_sha256 = Some(Sha256::digest(TOKEN).into());
        Ok(KnownWorker { worker, proofs: Proofs { token_sha256, ..Proofs::default() } })
    };
    (0..WORKERS).map(worker).collect()
}

fn worker_id(number: usize) -> io::Result<WorkerId> {
    WorkerId::parse(&id(number)).map_err(io::Error::other)
}

/// The policy sets no day budget, so there is nothing to keep.
struct NoBudgets;

impl BudgetStore for NoBudgets {
    fn save(&self, _: &[Used]) -> io::Result<()> {
        Ok(())
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
