//! The lines that would allow a request: each is written into the policy and tried before it is
//! shown.
//!
//! Two kinds are looked for, and the least of each is given: one word more in a rule that nearly
//! matches, or a rule of its own for this worker, host, scheme and port. What cannot be loaded with
//! the rest of the file, or does not allow the request then, is not shown. Nothing is written to
//! any file.

use egret_policy::{
    AddressClass, Field, Host, Loaded, NearRule, Outline, OwnAddresses, Policy, TestOutcome,
    Timestamp, classify, is_metadata,
};
use serde::Serialize;

use crate::{
    asked::{Asked, Outcome, Protocol},
    files::SourceText,
    records::Judged,
    toml_text::quoted,
};

mod edit;

/// A policy to be amended.
pub(crate) struct Law {
    pub(crate) source: SourceText,
    pub(crate) policy: Policy,
    outline: Outline,
    /// What egret keeps for itself, as far as it is known.
    pub(crate) own: OwnAddresses,
    pub(crate) now: Timestamp,
}

/// A change of the policy that would allow a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Remedy {
    /// Where the lines go.
    pub(crate) place: String,
    /// The lines, as they would stand there.
    pub(crate) lines: String,
    /// What they would open.
    pub(crate) opens: String,
    /// Tests of the policy, from 1, that expect otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) against: Vec<usize>,
}

/// A change that was not tried.
struct Draft {
    text: String,
    place: String,
    lines: String,
    opens: String,
}

impl Law {
    /// Takes a policy that has been loaded from its text.
    pub(crate) fn new(
        source: SourceText,
        policy: Policy,
        own: OwnAddresses,
        now: Timestamp,
    ) -> Self {
        let outline = Policy::outline(&source.text).unwrap_or_default();
        Self { source, policy, outline, own, now }
    }

    /// Judges a request by the policy as it is.
    pub(crate) fn judged(&self, asked: &Asked) -> Outcome {
        asked.judged(&self.policy, &self.own, self.now)
    }

    /// The rules that come closest: those that name the host, and the one for other hosts that is
    /// most like what is asked for.
    pub(crate) fn nearest(&self, asked: &Asked) -> Vec<NearRule> {
        let mut near = self.policy.near(&asked.question(), self.now);
        let others = near.split_off(near.partition_point(|near| !misses(near, Field::Hosts)));
        near.truncate(MOST);
        near.extend(self.likest(asked, others));
        near
    }

    /// The changes that would allow what a rule can allow.
    pub(crate) fn remedies(&self, asked: &Asked) -> Vec<Remedy> {
        let near = self.nearest(asked);
        let one_word: Vec<_> =
            near.iter().filter_map(|near| self.one_word_more(near, asked)).collect();
        let drafts = one_word.into_iter().chain(self.new_rule(asked, &near));
        drafts.filter_map(|draft| self.tried(draft, asked)).collect()
    }

    /// The change that opens least: a rule for just this where one can be made, one word more in a
    /// rule for others, too, only where none can. What the policy's own tests speak against is none.
    pub(crate) fn least(&self, asked: &Asked) -> Option<Remedy> {
        let near = self.nearest(asked);
        let one_word = near.iter().filter_map(|near| self.one_word_more(near, asked));
        let mut drafts = self.new_rule(asked, &near).into_iter().chain(one_word);
        drafts.find_map(|draft| self.tried(draft, asked).filter(|one| one.against.is_empty()))
    }

    /// The change that would open the addresses that were in the way, if they can be opened.
    pub(crate) fn openings(&self, asked: &Asked, rule: Option<&str>) -> Vec<Remedy> {
        let literal = match asked.authority.host() {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        };
        let forbidden: Vec<_> = asked
            .addresses
            .iter()
            .copied()
            .chain(literal.filter(|_| asked.addresses.is_empty()))
            .filter(|address| classify(*address) != AddressClass::Public)
            .collect();
        let Some(rule) = rule.filter(|_| !forbidden.is_empty()) else { return Vec::new() };
        if forbidden.iter().any(|address| is_metadata(*address)) {
            return Vec::new();
        }
        let blocks: Vec<_> = forbidden
            .iter()
            .map(|address| {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                format!("[[network.allow]]\ncidr = \"{address}/{bits}\"\nrules = [\"{rule}\"]\n")
            })
            .collect();
        let names: Vec<_> = forbidden.iter().map(ToString::to_string).collect();
        let lines = blocks.join("\n");
        let draft = Draft {
            text: edit::append(&self.source.text, &lines),
            place: format!("at the end of {}", self.source.name()),
            lines,
            opens: format!("opens {} to rule `{rule}`, for every name it allows", names.join(", ")),
        };
        self.tried(draft, asked).into_iter().collect()
    }

    fn tried(&self, draft: Draft, asked: &Asked) -> Option<Remedy> {
        let Loaded { policy, .. } = Policy::load(&draft.text);
        let policy = policy?;
        if asked.judged(&policy, &self.own, self.now).verdict != Judged::Allow {
            return None;
        }
        let outcomes = policy.run_tests(self.now);
        let against = outcomes.iter().filter(|test| !test.ok).map(TestOutcome::number).collect();
        let Draft { text: _, place, lines, opens } = draft;
        Some(Remedy { place, lines: lines.trim_end().to_owned(), opens, against })
    }

    /// One more value in the one key that does not match.
    fn one_word_more(&self, near: &NearRule, asked: &Asked) -> Option<Draft> {
        let [(field, _)] = near.misses.as_slice() else { return None };
        let id = near.id.as_str();
        let outline = self.outline.rule(id)?;
        let port = asked.authority.port();
        let (word, opens) = match field {
            Field::Hosts => (
                quoted(&plain(asked.authority.host())),
                format!("opens {} to whom and how rule `{id}` opens its other hosts", host(asked)),
            ),
            Field::Ports => {
                (port.to_string(), format!("opens port {port} on every host of rule `{id}`"))
            }
            Field::Schemes => {
                let scheme = scheme(asked);
                (quoted(scheme), format!("opens {scheme} on every host of rule `{id}`"))
            }
            Field::Methods => (
                quoted(&asked.method),
                format!("opens {} on every host and path of rule `{id}`", asked.method),
            ),
            Field::Paths => {
                let path = path(asked)?;
                (quoted(&path), format!("opens {path} on every host of rule `{id}`"))
            }
            Field::Workers | Field::Expires => return None,
        };
        // Where the key is not written, the values that hold by default have to be.
        let held: Vec<String> = match field {
            Field::Ports => outline.values("ports").to_vec(),
            Field::Schemes => outline.values("schemes").iter().map(|one| quoted(one)).collect(),
            Field::Hosts | Field::Methods | Field::Paths | Field::Workers | Field::Expires => {
                Vec::new()
            }
        };
        let edited = edit::with_one_more(&self.source.text, id, field.key(), &word, &held)?;
        Some(Draft {
            text: edited.text,
            place: format!("{}:{}, in rule `{id}`", self.source.name(), edited.line),
            lines: edited.lines,
            opens,
        })
    }

    fn new_rule(&self, asked: &Asked, near: &[NearRule]) -> Option<Draft> {
        let Asked { worker, method, authority, protocol, .. } = asked;
        let id = self.free_id(&plain(authority.host()));
        let (scheme, port) = (scheme(asked), authority.port());
        let mut lines = format!(
            "[[rule]]\nid = {}\neffect = \"allow\"\nworkers = {{ ids = [{}] }}\nhosts = [{}]\n\
             schemes = [{}]\nports = [{port}]\n",
            quoted(&id),
            quoted(worker.id.as_str()),
            quoted(&plain(authority.host())),
            quoted(scheme),
        );
        let mut what = match scheme {
            "tcp" => "whatever is sent there, uninspected".to_owned(),
            scheme => scheme.to_owned(),
        };
        if *protocol != Protocol::Request && scheme == "http" {
            what += ", every method and path";
        }
        if *protocol == Protocol::Request {
            lines += &format!("methods = [{}]\n", quoted(method));
            // Where rules tell the paths of the host apart, this one has to as well: any of them,
            // not just the few that come closest.
            let mut all = self.policy.near(&asked.question(), self.now);
            all.retain(|near| !misses(near, Field::Hosts));
            let has_paths = |near: &NearRule| {
                self.outline
                    .rule(near.id.as_str())
                    .is_some_and(|rule| rule.values("paths") != [EVERY])
            };
            let tells_apart = |near: &NearRule| misses(near, Field::Paths) || has_paths(near);
            let told_apart = near.iter().chain(&all).any(tells_apart);
            if told_apart {
                let path = path(asked)?;
                lines += &format!("paths = [{}]\n", quoted(&path));
                what += &format!(" {method} {path}");
            } else {
                what += &format!(" {method}, every path");
            }
        }
        Some(Draft {
            text: edit::append(&self.source.text, &lines),
            place: format!("at the end of {}", self.source.name()),
            lines,
            opens: format!("opens {authority} ({what}) to worker `{}`", worker.id),
        })
    }

    fn free_id(&self, host: &str) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let base: String = host.chars().map(safe).take(48).collect();
        let base = format!("allow-{base}");
        let taken = |id: &str| self.outline.rule(id).is_some();
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or(base)
    }

    /// The rule whose hosts share most of the name with what is asked for: two labels at least,
    /// and nothing of it that would open more than a host.
    fn likest(&self, asked: &Asked, others: Vec<NearRule>) -> Option<NearRule> {
        let name = asked.authority.host().name()?.as_str().to_owned();
        let unlocked = |id: &str| {
            let whole = self.outline.sections.first();
            let pairs = whole.map_or(&[][..], |whole| whole.values("network.allow"));
            pairs.iter().any(|pair| pair.ends_with(&format!(" {id}")))
        };
        let likeness = |near: &NearRule| {
            let rule = self.outline.rule(near.id.as_str())?;
            if !rule.values("credentials").is_empty() || unlocked(near.id.as_str()) {
                return None;
            }
            let hosts = rule.values("hosts").iter();
            hosts.map(|host| shared_labels(host.trim_start_matches(['+', '.']), &name)).max()
        };
        let mut best: Option<(usize, NearRule)> = None;
        for near in others {
            let Some(likeness) = likeness(&near).filter(|shared| *shared >= 2) else { continue };
            if best.as_ref().is_none_or(|(most, _)| likeness > *most) {
                best = Some((likeness, near));
            }
        }
        best.map(|(_, near)| near)
    }
}

/// How many rules are told at most.
const MOST: usize = 5;
/// How an outline writes that a key is left out.
const EVERY: &str = "*";

fn misses(near: &NearRule, field: Field) -> bool {
    near.misses.iter().any(|(missed, _)| *missed == field)
}

fn shared_labels(one: &str, other: &str) -> usize {
    one.rsplit('.').zip(other.rsplit('.')).take_while(|(one, other)| one == other).count()
}

/// A host as policies write it: an IPv6 address without brackets.
pub(crate) fn plain(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Address(address) => address.to_string(),
    }
}

/// The scheme that a rule would have to name. Before anything was said in a tunnel, its port has
/// to tell.
pub(crate) fn scheme(asked: &Asked) -> &'static str {
    match asked.protocol {
        Protocol::Tls => "https",
        Protocol::PlainTunnel | Protocol::Request => "http",
        Protocol::Opaque => "tcp",
        Protocol::Unseen => match asked.authority.port() {
            80 => "http",
            22 => "tcp",
            _ => "https",
        },
    }
}

/// The path as a pattern for it alone: a worker may ask for `/**` to have somebody allow just that.
fn path(asked: &Asked) -> Option<String> {
    if asked.for_server {
        return None;
    }
    let (_, rest) = asked.url.split_once("://")?;
    rest.find('/').map(|at| rest[at..].replace('*', "%2A"))
}

fn host(asked: &Asked) -> String {
    asked.authority.host().to_string()
}
