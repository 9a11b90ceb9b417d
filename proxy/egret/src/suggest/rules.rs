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
    /// Why there are no paths where there could be.
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

const MANY: &str =
    "the paths are too many, or of a form that a policy cannot name: all are allowed";

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

/// Paths, each with what was asked of it by method.
type Asked<'s> = Vec<(&'s str, &'s BTreeMap<String, Tally>)>;

/// The shapes of the requests at one port: one for each set of methods that paths were asked with.
fn requests(port: u16, sight: &Sight) -> Vec<(Shape, Done)> {
    let Sight { plainly, requests, guessed } = sight;
    let shape = |methods, paths, note| Shape {
        scheme: "http",
        ports: BTreeSet::from([port]),
        methods,
        paths,
        note,
    };
    let mut by_methods: BTreeMap<BTreeSet<String>, Asked<'_>> = BTreeMap::new();
    for (path, methods) in requests {
        let names = methods.keys().cloned().collect();
        by_methods.entry(names).or_default().push((path, methods));
    }
    let patterns: Vec<_> = by_methods
        .values()
        .map(|asked| paths::patterns(asked.iter().map(|(path, _)| *path)))
        .collect();
    let done = |asked: &[(&str, &BTreeMap<String, Tally>)]| {
        let mut done = Done::default();
        for (path, methods) in asked {
            for (method, tally) in *methods {
                done.tally.add(tally);
                done.example.get_or_insert_with(|| (method.clone(), (*path).to_owned()));
            }
        }
        done
    };
    let unnamed = plainly.count_all() > 0 || patterns.iter().any(Option::is_none);
    if !unnamed {
        let each = by_methods.into_iter().zip(patterns);
        return each
            .map(|((methods, asked), paths)| {
                (shape(methods, paths.unwrap_or_default(), None), done(&asked))
            })
            .collect();
    }
    // Paths that are only told apart for some methods would refuse the others.
    let methods: BTreeSet<String> = match plainly.count_all() {
        0 => requests.values().flat_map(BTreeMap::keys).cloned().collect(),
        _ => BTreeSet::new(),
    };
    let note = (!requests.is_empty()).then_some(MANY);
    let asked: Vec<_> = by_methods.into_values().flatten().collect();
    let mut sum = done(&asked);
    sum.tally.add(plainly);
    sum.example = None;
    sum.guessed = *guessed;
    vec![(shape(methods, BTreeSet::new(), note), sum)]
}

/// An id for the rule whose first host this is.
fn free(host: &str, taken: impl Fn(&str) -> bool) -> String {
    let base: String = host.chars().take(48).map(|c| if c == ':' { '-' } else { c }).collect();
    let base = format!("seen-{base}");
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or(base)
}
