//! From what was seen to as few rules as allow no more.
//!
//! A rule allows every worker that it names every one of its hosts with every one of its ports,
//! methods and paths. So only what was seen in all these combinations is put together: workers
//! that did the same at a host, and hosts at which the same workers did the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Seen, Sight, Tally, paths};

/// What may be done at a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) scheme: &'static str,
    pub(super) ports: BTreeSet<u16>,
    /// None where no request was seen: then every one is allowed.
    pub(super) methods: BTreeSet<String>,
    pub(super) paths: BTreeSet<String>,
    /// Why there are no methods or paths where there could be, and what that allows.
    pub(super) note: Option<&'static str>,
}

/// A rule, and what it comes from.
#[derive(Debug)]
pub(super) struct Suggested {
    pub(super) id: String,
    pub(super) workers: BTreeSet<String>,
    pub(super) shape: Shape,
    /// Hosts, each with a request that was seen there: method and path.
    pub(super) hosts: BTreeMap<String, Option<(String, String)>>,
    pub(super) tally: Tally,
    /// Whether the scheme rests on no more than the port.
    pub(super) guessed: bool,
}

#[derive(Debug)]
pub(super) struct Rules(pub(super) Vec<Suggested>);

const MANY: &str = "the paths are too many, or of a form that a policy cannot name: with these \
    methods every path is allowed, seen or not, but for odd forms where another rule of the host \
    names paths";
const NONE: &str = "no request was seen: every method and every path is allowed";

/// What was done in one shape, with an example of it.
#[derive(Debug, Default, Clone)]
struct Done {
    tally: Tally,
    guessed: bool,
    example: Option<(String, String)>,
}

impl Rules {
    pub(super) fn of(seen: &Seen, taken: impl Fn(&str) -> bool) -> Self {
        let mut by_host: BTreeMap<(Shape, &str), (BTreeSet<String>, Done)> = BTreeMap::new();
        for ((worker, host), done) in by_worker(seen) {
            for (shape, done) in done {
                let (workers, sum) = by_host.entry((shape, host)).or_default();
                workers.insert(worker.to_owned());
                sum.tally.add(&done.tally);
                sum.guessed |= done.guessed;
                sum.example = sum.example.take().or(done.example);
            }
        }
        let mut together: BTreeMap<(BTreeSet<String>, Shape), BTreeMap<&str, Done>> =
            BTreeMap::new();
        for ((shape, host), (workers, done)) in by_host {
            together.entry((workers, shape)).or_default().insert(host, done);
        }
        let mut rules: Vec<Suggested> = Vec::new();
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for ((workers, shape), hosts) in together {
            let first = hosts.keys().next().copied().unwrap_or_default();
            let id = free(first, |id| taken(id) || ids.contains(id));
            ids.insert(id.clone());
            let mut tally = Tally::default();
            hosts.values().for_each(|done| tally.add(&done.tally));
            let guessed = hosts.values().any(|done| done.guessed);
            let hosts =
                hosts.into_iter().map(|(host, done)| (host.to_owned(), done.example)).collect();
            rules.push(Suggested { id, workers, shape, hosts, tally, guessed });
        }
        Self(rules)
    }
}

type ByWorker<'s> = BTreeMap<(&'s str, &'s str), BTreeMap<Shape, Done>>;

/// The shapes of what each worker did at each host.
fn by_worker(seen: &Seen) -> ByWorker<'_> {
    let mut blind: BTreeMap<(&str, &str, &'static str), (BTreeSet<u16>, Done)> = BTreeMap::new();
    let mut all = ByWorker::new();
    for (Place { worker, host, port, scheme }, sight) in &seen.places {
        if *scheme == "http" {
            let shapes = all.entry((worker.as_str(), host.as_str())).or_default();
            shapes.extend(requests(*port, sight));
            continue;
        }
        let (ports, done) = blind.entry((worker.as_str(), host.as_str(), *scheme)).or_default();
        ports.insert(*port);
        done.tally.add(&sight.plainly);
        done.guessed |= sight.guessed;
    }
    for ((worker, host, scheme), (ports, done)) in blind {
        let (methods, paths) = (BTreeSet::new(), BTreeSet::new());
        let shape = Shape { scheme, ports, methods, paths, note: None };
        let shapes = all.entry((worker, host)).or_default();
        shapes.insert(shape, done);
    }
    all
}

/// The shapes of the requests at one port: one for each set of methods that paths were asked with,
/// and one for the methods of which the paths cannot be told.
fn requests(port: u16, sight: &Sight) -> Vec<(Shape, Done)> {
    let Sight { plainly, requests, beyond, methods: _, odd, guessed } = sight;
    let shape = |methods, paths, note| Shape {
        scheme: "http",
        ports: BTreeSet::from([port]),
        methods,
        paths,
        note,
    };
    if requests.is_empty() && beyond.is_empty() {
        let done = Done { tally: plainly.clone(), guessed: *guessed, example: None };
        return vec![(shape(BTreeSet::new(), BTreeSet::new(), Some(NONE)), done)];
    }
    let mut by_methods: BTreeMap<BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
    for (path, methods) in requests {
        by_methods.entry(methods.keys().map(String::as_str).collect()).or_default().push(path);
    }
    let mut shapes = Vec::new();
    let (mut open, mut sum) = (BTreeSet::new(), Done::default());
    for (methods, paths) in by_methods {
        let mut done = Done::default();
        for path in &paths {
            for (method, tally) in &requests[*path] {
                done.tally.add(tally);
                done.example.get_or_insert_with(|| (method.clone(), (*path).to_owned()));
            }
        }
        let names = methods.into_iter().map(str::to_owned);
        // Where rules name paths, those of an odd form are refused: there no rule may name any.
        match paths::patterns(paths).filter(|_| !odd) {
            Some(patterns) => shapes.push((shape(names.collect(), patterns, None), done)),
            None => {
                open.extend(names);
                sum.tally.add(&done.tally);
            }
        }
    }
    for (method, tally) in beyond {
        open.insert(method.clone());
        sum.tally.add(tally);
    }
    if !open.is_empty() {
        shapes.push((shape(open, BTreeSet::new(), Some(MANY)), sum));
    }
    shapes
}

/// An id for the rule whose first host this is.
fn free(host: &str, taken: impl Fn(&str) -> bool) -> String {
    let base: String = host.chars().take(48).map(|c| if c == ':' { '-' } else { c }).collect();
    let base = format!("seen-{base}");
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or(base)
}
