//! `egret suggest`: the least policy that allows what was seen.
//!
//! What was allowed, denied for want of a rule, or let through by report mode becomes rules: exact
//! hosts for exact workers, together only where scheme, ports and workers agree, so that no pair is
//! allowed that was not seen. Methods and paths are named where requests were seen; a tunnel hides
//! them. Forbidden addresses, literals and what a rule denies are left out, and counted. The same
//! records give the same text, which is loaded and passes its own tests before it is printed.

use std::collections::{BTreeMap, BTreeSet};

use egret_policy::{
    AddressClass, Host, Method, Outline, OwnAddresses, Policy, Reason, TargetError, Timestamp,
    classify, metadata_name, source::shown,
};

use self::prove::proved;
use crate::{
    asked::{Asked, Protocol},
    cli,
    environment::Environment,
    failure::{Exit, Failure},
    output, policy,
    records::{Decisions, Judged, Record, Trail},
    remedy::{plain, scheme},
};

mod paths;
mod prove;
mod rules;
mod text;

/// Distinct workers with host, scheme and port that are told apart.
const PLACES: usize = 100_000;
/// Distinct paths of one place; beyond, only methods are told apart.
const PATHS: usize = 500;
/// Distinct methods of one place; what comes with others is left out.
const METHODS: usize = 32;
/// What is named of each kind of what is left out.
const EXAMPLES: usize = 5;
/// Opaque tunnels cannot be allowed beside others to the same place.
const NEITHER: &str = "of neither TLS nor HTTP where TLS or HTTP was seen too";

/// A policy that suggestions are added to.
struct Base {
    text: String,
    policy: Policy,
    outline: Outline,
}

/// Where a worker went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    worker: String,
    host: String,
    port: u16,
    scheme: &'static str,
}

/// How often, when, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally {
    allowed: u64,
    denied: u64,
    reported: u64,
    first: String,
    last: String,
}

/// What was seen at one place.
#[derive(Debug, Default)]
struct Sight {
    /// Tunnels.
    plainly: Tally,
    /// Requests by path and method.
    requests: BTreeMap<String, BTreeMap<String, Tally>>,
    /// Requests whose paths are too many to be told apart, by method.
    beyond: BTreeMap<String, Tally>,
    /// All methods of both.
    methods: BTreeSet<String>,
    /// Whether a path of them has a form that is refused wherever rules name paths.
    odd: bool,
    /// Whether nothing was seen of it but the port.
    guessed: bool,
}

/// All that was seen.
#[derive(Debug, Default)]
struct Seen {
    places: BTreeMap<Place, Sight>,
    /// Tunnels in which nothing was said, by worker, host and port.
    unseen: BTreeMap<(String, String, u16), (Tally, &'static str)>,
    /// What is not suggested: why, how often, and for example.
    left_out: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// What the base allows already.
    covered: u64,
}

pub(crate) fn run(args: &cli::Suggest, environment: &Environment) -> Result<Exit, Failure> {
    let trail = Trail::named(&args.source, environment)?;
    let base = args.base.as_deref().map(policy::outlined).transpose()?;
    let base = base.map(|(source, policy, outline)| Base { text: source.text, policy, outline });
    let mut seen = read(args, &trail, base.as_ref())?;
    seen.settle();
    let text = proved(base.as_ref(), seen)?;
    output::text(&text)?;
    Ok(Exit::Done)
}

fn read(args: &cli::Suggest, trail: &Trail, base: Option<&Base>) -> Result<Seen, Failure> {
    let now = Timestamp::now();
    let mut decisions = Decisions::of(trail, args.since, now)?;
    let mut seen = Seen::default();
    while let Some(record) = decisions.next()? {
        if record.is_of(args.worker.as_ref()) {
            seen.note(&record, base, now);
        }
    }
    Ok(seen)
}

impl Seen {
    fn note(&mut self, record: &Record, base: Option<&Base>, now: Timestamp) {
        let asked = Asked::of(record);
        let target = asked.as_ref().map(|asked| asked.authority.to_string()).unwrap_or_default();
        let Some((asked, judged)) = asked.zip(record.verdict) else {
            let why = match is_for_tls(record) {
                true => "that ask the proxy to speak TLS for them",
                false => "that cannot be understood, or of nobody known",
            };
            return self.leave_out(why, 1, target);
        };
        if let Some(why) = unfit(record, &asked, judged) {
            return self.leave_out(&why, 1, target);
        }
        if let Some(base) = base {
            let outcome = asked.judged(&base.policy, &OwnAddresses::default(), now);
            match (outcome.verdict, outcome.reason) {
                (Judged::Allow, _) => {
                    self.covered += 1;
                    return;
                }
                (Judged::Deny, Reason::RuleDenied | Reason::AddressForbidden) => {
                    return self.leave_out(
                        "that the given policy denies whatever is added",
                        1,
                        target,
                    );
                }
                (Judged::Deny | Judged::WouldDeny, _) if asked.is_beside(&base.policy, now) => {
                    return self.leave_out(NEITHER, 1, target);
                }
                (Judged::Deny | Judged::WouldDeny, _) => {}
            }
        }
        self.place(record, &asked, judged);
    }

    fn place(&mut self, record: &Record, asked: &Asked, judged: Judged) {
        let host = plain(asked.authority.host());
        let (worker, port) = (asked.worker.id.to_string(), asked.authority.port());
        let place = Place { worker, host, port, scheme: scheme(asked) };
        let full = self.places.len() + self.unseen.len() >= PLACES;
        if full && !self.places.contains_key(&place) {
            return self.leave_out("beyond what can be told apart", 1, asked.authority.to_string());
        }
        match asked.protocol {
            // The requests inside have records of their own.
            Protocol::PlainTunnel => {}
            Protocol::Unseen => {
                let Place { worker, host, port, scheme } = place;
                let key = (worker, host, port);
                let entry = self.unseen.entry(key).or_insert((Tally::default(), scheme));
                entry.0.count(record, judged);
            }
            Protocol::Request => {
                let path = record.path.clone().unwrap_or_default();
                // One such request must not open every path to its method.
                if judged == Judged::Deny && !paths::is_plain(&path) {
                    let why = "denied with a path that a policy cannot name";
                    return self.leave_out(why, 1, asked.authority.to_string());
                }
                let sight = self.places.entry(place).or_default();
                if !sight.count(path, &asked.method, record, judged) {
                    let why = "with more methods than can be told apart";
                    self.leave_out(why, 1, asked.authority.to_string());
                }
            }
            Protocol::Tls | Protocol::Opaque => {
                self.places.entry(place).or_default().plainly.count(record, judged);
            }
        }
    }

    fn leave_out(&mut self, why: &str, count: u64, target: String) {
        let (sum, examples) = self.left_out.entry(why.to_owned()).or_default();
        *sum += count;
        if examples.len() < EXAMPLES && !target.is_empty() {
            examples.insert(target);
        }
    }

    /// Makes places of what is left to be guessed, and takes away what cannot stand together.
    fn settle(&mut self) {
        for ((worker, host, port), (tally, scheme)) in std::mem::take(&mut self.unseen) {
            let at = |scheme| Place { worker: worker.clone(), host: host.clone(), port, scheme };
            // What the tunnel was for has been seen at another time.
            let told = ["https", "http", "tcp"].map(at);
            if told.iter().all(|place| !self.places.contains_key(place)) {
                let sight = Sight { plainly: tally, guessed: true, ..Sight::default() };
                self.places.insert(at(scheme), sight);
            }
        }
        let is_both = |place: &&Place| {
            let at = |scheme| Place { scheme, ..(*place).clone() };
            place.scheme == "tcp"
                && (self.places.contains_key(&at("https")) || self.places.contains_key(&at("http")))
        };
        let both: Vec<_> = self.places.keys().filter(is_both).cloned().collect();
        for place in both {
            let count = self.places.remove(&place).map_or(0, |sight| sight.plainly.count_all());
            self.leave_out(NEITHER, count, format!("{}:{}", place.host, place.port));
        }
    }
}

impl Sight {
    fn count_all(&self) -> u64 {
        let requests =
            self.requests.values().flat_map(BTreeMap::values).chain(self.beyond.values());
        self.plainly.count_all() + requests.map(Tally::count_all).sum::<u64>()
    }

    /// Counts a request; nothing is kept of one with a method too many.
    fn count(&mut self, path: String, method: &str, record: &Record, judged: Judged) -> bool {
        if !self.methods.contains(method) {
            if self.methods.len() == METHODS {
                return false;
            }
            self.methods.insert(method.to_owned());
        }
        self.odd |= !paths::is_plain(&path);
        let by_method = match self.requests.len() < PATHS || self.requests.contains_key(&path) {
            true => self.requests.entry(path).or_default(),
            false => &mut self.beyond,
        };
        by_method.entry(method.to_owned()).or_default().count(record, judged);
        true
    }
}

/// Why no rule is suggested for a request, if none is.
fn unfit(record: &Record, asked: &Asked, judged: Judged) -> Option<String> {
    let reason = record.reason.as_deref().unwrap_or_default();
    let for_want_of_a_rule = [
        Reason::HostNotAllowed,
        Reason::SchemeNotAllowed,
        Reason::PortNotAllowed,
        Reason::MethodNotAllowed,
        Reason::PathNotAllowed,
        Reason::ProtocolNotAllowed,
    ];
    let is_forbidden = |address| classify(address) != AddressClass::Public;
    match asked.authority.host() {
        Host::Name(name) if metadata_name(name) => {
            return Some("to metadata services or this machine, which are never opened".to_owned());
        }
        Host::Address(_) => return Some("to an address instead of a name".to_owned()),
        Host::Name(_) => {}
    }
    if reason == Reason::AddressForbidden.code()
        || asked.addresses.iter().copied().any(is_forbidden)
    {
        return Some(
            "to names with forbidden addresses, which `[[network.allow]]` opens".to_owned(),
        );
    }
    if reason == Reason::RuleDenied.code() {
        return Some("that a rule denies".to_owned());
    }
    if judged == Judged::Deny && !for_want_of_a_rule.iter().any(|one| one.code() == reason) {
        let code = shown(reason);
        return Some(format!("refused with {code}, for which no rule is missing"));
    }
    match Method::parse(&asked.method) {
        Err(TargetError::MethodRefused) => {
            return Some("with a method that is never forwarded".to_owned());
        }
        Ok(_) if asked.protocol != Protocol::Request || is_nameable(&asked.method) => {}
        Ok(_) | Err(TargetError::Malformed(_) | TargetError::Scheme) => {
            return Some("with a method that no rule can name".to_owned());
        }
    }
    None
}

/// Whether the proxy was to speak TLS for a client, which it does for none.
fn is_for_tls(record: &Record) -> bool {
    let method = record.method.as_deref();
    record.scheme.as_deref() == Some("https") && method.is_some_and(|method| method != "CONNECT")
}

/// Whether a policy can name the method, which it does in capitals.
fn is_nameable(method: &str) -> bool {
    method != "*" && method != "CONNECT" && !method.bytes().any(|byte| byte.is_ascii_lowercase())
}

impl Tally {
    fn count(&mut self, record: &Record, judged: Judged) {
        match judged {
            Judged::Allow => self.allowed += 1,
            Judged::Deny => self.denied += 1,
            Judged::WouldDeny => self.reported += 1,
        }
        self.span(&record.time, &record.time);
    }

    fn add(&mut self, other: &Self) {
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.reported += other.reported;
        if other.count_all() > 0 {
            self.span(&other.first, &other.last);
        }
    }

    fn count_all(&self) -> u64 {
        self.allowed + self.denied + self.reported
    }

    /// Times are written so that their order is that of their texts.
    fn span(&mut self, first: &str, last: &str) {
        if self.first.is_empty() || *first < *self.first {
            first.clone_into(&mut self.first);
        }
        if *last > *self.last {
            last.clone_into(&mut self.last);
        }
    }
}
