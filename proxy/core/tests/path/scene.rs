//! A proxy in this process, with everything that stands around it.

use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use egret_policy::{Policy, Timestamp};
use egret_proxy::{
    BindError, BudgetStore, Budgets, Clock, ConnectionLimits, DnsSettings, Flush, Handle, HeadKey,
    IdentityKind, KnownWorker, ListenAddress, ListenError, ListenerSettings, Metrics, OnFailure,
    Ports, Proxy, RecordSettings, Recorder, RunError, Settings, StaticWorkers, Used, Workers,
};
use egret_testkit::{
    client::Client,
    dns::Dns,
    namespace::Entered,
    origin::{Origin, Plan},
    packets::{Own, PacketLog},
    pki::Pki,
};
use egret_vault_bridge::NoVault;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What outlives a single test: the namespace has one of each.
pub(crate) struct Stage {
    pub(crate) dns: Dns,
    pub(crate) origin: Origin,
    pub(crate) packets: PacketLog,
    pub(crate) pki: Pki,
    pub(crate) entered: Entered,
}

/// What a scene may have in place of the ordinary surroundings.
pub(crate) struct Around {
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) audit: tempfile::TempDir,
    pub(crate) on_failure: OnFailure,
    /// What was used of day budgets before.
    pub(crate) used: Vec<Used>,
    /// Where it is kept.
    pub(crate) kept: Arc<Kept>,
}

impl Stage {
    /// Starts a proxy under `policy` as a fresh scene.
    pub(crate) fn play(&self, policy: &str) -> Scene {
        self.play_with(policy, |_| {}, vec![])
    }

    /// Starts a proxy with other settings or workers.
    pub(crate) fn play_with(
        &self,
        policy: &str,
        change: impl FnOnce(&mut Settings),
        workers: Vec<KnownWorker>,
    ) -> Scene {
        self.play_for(policy, change, Arc::new(StaticWorkers::new(workers)))
    }

    /// Starts a proxy for workers that a test keeps itself.
    pub(crate) fn play_for(
        &self,
        policy: &str,
        change: impl FnOnce(&mut Settings),
        workers: Arc<dyn Workers>,
    ) -> Scene {
        self.play_in(policy, change, self.around(workers))
    }

    /// Starts a proxy that continues with what was used before.
    pub(crate) fn play_after(&self, policy: &str, used: Vec<Used>) -> Scene {
        let around = self.around(Arc::new(StaticWorkers::new(vec![])));
        self.play_in(policy, |_| {}, Around { used, ..around })
    }

    /// Returns the ordinary surroundings.
    pub(crate) fn surroundings(&self) -> Around {
        self.around(Arc::new(StaticWorkers::new(vec![])))
    }

    /// Returns the ordinary surroundings of these workers.
    pub(crate) fn around(&self, workers: Arc<dyn Workers>) -> Around {
        Around {
            workers,
            clock: Arc::new(SystemClock),
            audit: self.folder(),
            on_failure: OnFailure::Refuse,
            used: vec![],
            kept: Arc::default(),
        }
    }

    /// Makes a folder that goes when it is dropped.
    pub(crate) fn folder(&self) -> tempfile::TempDir {
        // Others may not write there, whatever the umask.
        let mode = Permissions::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        builder.permissions(mode).tempdir_in(self.entered.directory()).unwrap()
    }

    /// Starts a proxy with other surroundings.
    pub(crate) fn play_in(
        &self,
        policy: &str,
        change: impl FnOnce(&mut Settings),
        around: Around,
    ) -> Scene {
        Scene::open(self.set(change), compile(policy), around)
    }

    /// Requires that a proxy cannot listen; returns what it says and the kind of the cause.
    pub(crate) fn fails(
        &self,
        policy: &str,
        change: impl FnOnce(&mut Settings),
    ) -> (String, io::ErrorKind) {
        let audit = self.folder();
        let clock = Arc::new(SystemClock);
        let settings = RecordSettings::in_directory(audit.path());
        let (recorder, flush) = record(settings, clock.clone());
        let ports = Ports {
            workers: Arc::new(StaticWorkers::new(vec![])),
            recorder,
            bridge: Arc::new(NoVault),
            clock,
            budgets: Budgets { used: vec![], store: Arc::new(Kept::default()) },
            metrics: Arc::default(),
        };
        let (settings, policy) = (self.set(change), compile(policy));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = match runtime.block_on(Proxy::bind(settings, ports, policy, vec![])) {
            Err(BindError::Listen(ListenError::Address { address, source })) => {
                (format!("listen on {address}"), source.kind())
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it listens"),
        };
        flush.wait().unwrap();
        error
    }

    /// Returns the settings of a scene, with everything around it as at the beginning.
    fn set(&self, change: impl FnOnce(&mut Settings)) -> Settings {
        self.dns.reset(egret_testkit::dns::Zone::corpus(), vec![]);
        self.dns.set_silent(false);
        self.origin.reset(Plan::good(&self.pki).unwrap());
        let mut settings = Settings {
            listeners: vec![ListenerSettings {
                address: ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()),
                identity: vec![IdentityKind::Anonymous],
            }],
            dns: DnsSettings { timeout: Duration::from_millis(400), ..DnsSettings::default() },
            limits: ConnectionLimits {
                drain_timeout: Duration::from_millis(300),
                first_byte_timeout: Duration::from_millis(500),
                ..ConnectionLimits::default()
            },
            own: vec![],
        };
        change(&mut settings);
        settings
    }
}

/// One running proxy.
pub(crate) struct Scene {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    /// Where all listeners listen, `address` first.
    pub(crate) addresses: Vec<ListenAddress>,
    pub(crate) handle: Handle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Recorder,
    audit: tempfile::TempDir,
    kept: Arc<Kept>,
    pub(crate) stop: CancellationToken,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

impl Scene {
    fn open(settings: Settings, policy: Arc<Policy>, around: Around) -> Self {
        let Around { workers, clock, audit, on_failure, used, kept } = around;
        let records = RecordSettings { on_failure, ..RecordSettings::in_directory(audit.path()) };
        let (recorder, flush) = record(records, clock.clone());
        let writer = recorder.clone();
        let budgets = Budgets { used, store: kept.clone() };
        let metrics = Arc::<Metrics>::default();
        let counted = metrics.clone();
        let bridge = Arc::new(NoVault);
        let ports = Ports { workers, recorder, bridge, clock, budgets, metrics };
        let stop = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let stopped = stop.clone();
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let end = runtime.block_on(async {
                let proxy = Proxy::bind(settings, ports, policy, vec![]).await.unwrap();
                tell.send((proxy.addresses().to_vec(), proxy.handle())).unwrap();
                proxy.run(stopped).await
            });
            // A store that stands still holds its thread for as long as it does.
            runtime.shutdown_timeout(Duration::from_secs(1));
            // A trial that is over may have taken the folder of the records away.
            let _ = flush.wait();
            end
        });
        let (addresses, handle) = told.recv().unwrap();
        let address = addresses[0].tcp().expect("the first listener is TCP");
        let client = Client::new(address, Own::default());
        let metrics = counted;
        Self {
            client,
            address,
            addresses,
            handle,
            metrics,
            recorder: writer,
            audit,
            kept,
            stop,
            running: Some(running),
        }
    }

    /// Ends the proxy and returns everything it recorded.
    pub(crate) fn end(mut self) -> Vec<Value> {
        self.stop();
        self.records()
    }

    /// Ends the proxy.
    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        self.ended().expect("the proxy ended well");
    }

    /// Waits until the proxy has ended.
    pub(crate) fn ended(&mut self) -> Result<(), RunError> {
        self.running.take().expect("a scene ends once").join().expect("its thread ended well")
    }

    /// Ends the proxy and returns what it has saved of day budgets.
    pub(crate) fn end_and_keep(self) -> Vec<Used> {
        let kept = self.kept.clone();
        self.end();
        kept.0.lock().unwrap().clone()
    }

    /// Returns what is recorded so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        read(&self.audit.path().join("00000001.jsonl"))
    }

    /// Waits until a record fits.
    pub(crate) fn record(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let records = self.records();
            if let Some(found) = records.iter().find(|record| fits(record)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "no record of {what} among {records:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the decision on an exchange and for its completion.
    pub(crate) fn both_records(&self, reason: &str) -> (Value, Value) {
        let decision = self
            .record(reason, |record| record["event"] == "decision" && record["reason"] == reason);
        let completion = self.record("its completion", |record| {
            record["event"] == "completion" && record["id"] == decision["id"]
        });
        (decision, completion)
    }

    /// Waits until nothing is open any more: no task and no socket is left behind.
    pub(crate) fn wait_until_empty(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.handle.live() > 0 {
            assert!(Instant::now() < deadline, "{} entries are still live", self.handle.live());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Begins a record, signed with a key of its own.
fn record(settings: RecordSettings, clock: Arc<dyn Clock>) -> (Recorder, Flush) {
    Recorder::open(settings, HeadKey::generate().unwrap(), clock).unwrap()
}

/// Compiles a policy that must be good.
pub(crate) fn compile(text: &str) -> Arc<Policy> {
    let loaded = Policy::load(text);
    Arc::new(loaded.policy.unwrap_or_else(|| panic!("{:#?}", loaded.problems)))
}

fn read(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(is_about_traffic).collect()
}

/// Whether a record is not one of the recorder's own: that it began, and what it signed.
pub(crate) fn is_about_traffic(record: &Value) -> bool {
    record["event"] != "audit.start" && record["event"] != "audit.head"
}

/// Where day budgets are kept from one scene to the next.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Mutex<Vec<Used>>);

impl BudgetStore for Kept {
    fn save(&self, used: &[Used]) -> io::Result<()> {
        *self.0.lock().unwrap() = used.to_vec();
        Ok(())
    }
}

/// The time of day.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
