//! The proxy of a cell: started anew whenever something that it may remember changes.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    dns::{Entry, Zone, script::Addresses},
    pki::Files,
    proxy::{NotStarted, Proxy},
};

use super::{Cell, Fault, gone};
use crate::{
    case::{
        Case, Configured, Input, Policy,
        config::{Change, Settings},
    },
    target::Setup,
};

pub(super) struct Running {
    pub(super) proxy: Proxy,
    pub(super) directory: PathBuf,
    policy: Policy,
    settings: Settings,
    /// What it has been told about names, and may remember.
    served: BTreeMap<String, Addresses>,
    /// What it remembers is known to be wrong for the next case.
    spent: bool,
}

/// Whether there is a proxy to play against.
pub(super) enum Started {
    Yes,
    /// It refused what the case has set up, with these words.
    Refused(String),
}

impl Cell<'_> {
    /// Makes sure of a proxy with this policy whose memory cannot contradict the case.
    pub(super) fn ready_for(&mut self, case: &Case, policy: Policy) -> Result<Started, Fault> {
        let script = case.input.script();
        let line = |pick: fn(&Entry) -> &Option<String>| {
            script.iter().find_map(|entry| pick(entry).clone()).unwrap_or_default()
        };
        let resolv = line(|entry| &entry.resolv_conf);
        let hosts = line(|entry| &entry.hosts_file);
        let mut zone: BTreeMap<String, Addresses> =
            Zone::corpus().iter().map(|(name, found)| (name.clone(), found.clone())).collect();
        zone.extend(case.resolver.iter().map(|(name, found)| (name.clone(), found.clone())));
        let configured = case.input.configured();
        let settings = configured.map(|configured| configured.settings.clone()).unwrap_or_default();

        let remembers = self.target.caches_names();
        let odd_names = matches!(case.input, Input::Dns { .. }) && remembers
            || !resolv.is_empty()
            || !hosts.is_empty();
        let usable = self.running.as_mut().is_some_and(|running| {
            let stale = zone
                .iter()
                .any(|(name, now)| running.served.get(name).is_some_and(|before| before != now));
            running.policy == policy
                && running.settings == settings
                && !running.spent
                && !(remembers && stale)
                && running.proxy.is_alive()
        });
        let changes = configured.is_some_and(Configured::changes);
        if !usable || odd_names || changes {
            match self.start(policy, settings, &resolv, &hosts) {
                Ok(()) => {}
                // By itself, and with words: that is an answer to an odd setup. A proxy that hangs,
                // or does not take the usual one, is a fault.
                Err(Fault::Proxy(NotStarted { status: Some(_), said }))
                    if matches!(case.input, Input::Config(_)) =>
                {
                    let folder = format!("{}/", self.entered.directory().display());
                    return Ok(Started::Refused(said.replace(&folder, "")));
                }
                Err(fault) => return Err(fault),
            }
        }
        let running = self.running.as_mut().ok_or_else(gone)?;
        running.served.extend(zone);
        running.spent = odd_names || changes;
        self.dns.reset(case.resolver.clone(), script.to_vec());
        Ok(Started::Yes)
    }

    /// Changes the files of the running proxy, tells it so, and waits until it has said something
    /// about that or had the time to; false where it does not read them again.
    pub(crate) fn change(&self, change: &Change) -> io::Result<bool> {
        let running = self.running.as_ref().ok_or_else(gone)?;
        let setup = running.setup(&self.certificates);
        let said = || running.proxy.stdout().len() + running.proxy.stderr().len();
        let before = said();
        let Some(signal) = self.target.change(&setup, change)? else { return Ok(false) };
        running.proxy.signal(signal)?;
        let deadline = Instant::now() + HEEDED;
        while said() == before && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        // What was said may be the first word only.
        thread::sleep(SAID);
        Ok(true)
    }

    fn start(
        &mut self,
        policy: Policy,
        settings: Settings,
        resolv: &str,
        hosts: &str,
    ) -> Result<(), Fault> {
        self.running = None;
        self.entered.name_files(resolv, hosts)?;
        let directory = self.entered.directory().join("proxy");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory)?;
        let certificates = &self.certificates;
        let setup = Setup { directory: &directory, policy, settings: &settings, certificates };
        let command = self.target.command(&setup)?;
        let proxy = Proxy::start(command, self.target.ready(), Duration::from_secs(15))
            .map_err(Fault::Proxy)?;
        let served = BTreeMap::new();
        self.running = Some(Running { proxy, directory, policy, settings, served, spent: false });
        Ok(())
    }
}

impl Running {
    /// Returns what it was started with.
    pub(super) fn setup<'a>(&'a self, certificates: &'a Files) -> Setup<'a> {
        let Self { directory, policy, settings, .. } = self;
        Setup { directory, policy: *policy, settings, certificates }
    }
}

/// How long a proxy may take to read its files again, and to say all there is to say.
const HEEDED: Duration = Duration::from_secs(3);
const SAID: Duration = Duration::from_millis(200);
