//! squid.conf: `acl` and `http_access`, of which the first line that matches decides.
//!
//! Here a deny wins wherever it stands. So a deny that comes before what it denies is a rule, and
//! one that comes after an allow takes more away than it did, which is said. A deny that no rule
//! can say would be lost: the allows that come after it are written as comments, for somebody who
//! knows better; so are all allows where another directive may deny. What an allow asks for besides the host has to be said, too, or it is left out.

use std::collections::BTreeSet;

use self::{
    acl::{Acl, Acls, Ports},
    bounds::Bounds,
    line::Line,
};
use super::{
    Refused,
    page::{Effect, Entry, Page, Rule, plain},
};

mod acl;
mod bounds;
mod line;
mod others;

/// A condition of `http_access`.
struct Condition<'a> {
    /// Without a `!` before it.
    holds: bool,
    name: &'a str,
    acl: &'a Acl,
}

/// Translates the text of a squid.conf.
pub(super) fn translate(text: &str, page: &mut Page) -> Result<(), Refused> {
    let lines = line::read(text)?;
    page.preface(
        "Lists of sources and of users are labels here; `[[worker]]` in egret.toml gives them.\n\
         Where squid names no port, the rules allow http on 80 and https on 443.",
    );
    let mut acls = Acls::predefined();
    let mut access = Access { bounds: Bounds::default(), lost: None, closed: None, last: None };
    let mut others = Vec::new();
    for line in &lines {
        match line.words[0].as_str() {
            "acl" | "http_access" if line.words.iter().any(|word| word.contains("${")) => {
                return Err(Refused::new(line.number, "squid puts its own words in for `${`"));
            }
            "acl" => acls.add(line)?,
            "http_access" => {}
            "include" => {
                return Err(Refused::new(
                    line.number,
                    "what is included may deny more; write its lines in the place of this one",
                ));
            }
            "if" | "else" | "endif" => {
                return Err(Refused::new(line.number, "lines that hold only sometimes"));
            }
            name if others::denies_nothing(&line.words) => {
                others.push(format!("{name} ({})", line.number));
            }
            // Where it stands makes no difference to squid, so every allow is in doubt.
            _ => {
                page.leave_out(line.number, &line.words.join(" "));
                access.lost.get_or_insert(line.number);
            }
        }
    }
    // A list is one thing for squid, also for the lines that come before some of its values.
    for line in lines.iter().filter(|line| line.words[0] == "http_access") {
        access.take(line, &acls, page)?;
    }
    access.end(page);
    access.bounds.explain_labels(&acls, page);
    if !others.is_empty() {
        page.preface("Lines that are about something else:");
        for some in others.chunks(5) {
            page.preface(&format!("  {}", some.join(", ")));
        }
    }
    Ok(())
}

/// The lines of `http_access` as far as they are read.
struct Access {
    bounds: Bounds,
    /// The line of a deny that no rule says.
    lost: Option<usize>,
    /// The line that denies all that is left.
    closed: Option<usize>,
    /// The last line, and whether it denies.
    last: Option<(usize, bool)>,
}

impl Access {
    fn take(&mut self, line: &Line, acls: &Acls, page: &mut Page) -> Result<(), Refused> {
        let Line { number, words } = line;
        let (denies, names) = match words.get(1).map(String::as_str) {
            Some("allow") => (false, &words[2..]),
            Some("deny") => (true, &words[2..]),
            Some(_) | None => {
                return Err(Refused::new(*number, "`http_access` says `allow` or `deny`"));
            }
        };
        if names.is_empty() {
            return Err(Refused::new(*number, "squid skips a line that names no list"));
        }
        self.last = Some((*number, denies));
        let source = plain(&words.join(" "));
        if let Some(closed) = self.closed {
            page.remark(
                *number,
                &format!("{source}: never reached, line {closed} denies the rest"),
            );
            return Ok(());
        }
        let unknown = Acl::Foreign("no list of that name before this line".to_owned());
        let conditions = names.iter().map(|word| {
            let (holds, name) = match word.strip_prefix('!') {
                Some(name) => (false, name),
                None => (true, word.as_str()),
            };
            match acls.find_from(*number, name) {
                Some(known) => Condition { holds, name: &known.name, acl: &known.acl },
                None => Condition { holds, name, acl: &unknown },
            }
        });
        // `all` says nothing beside others.
        let conditions: Vec<_> =
            conditions.filter(|given| !(given.holds && *given.acl == Acl::All)).collect();
        let values: usize = conditions.iter().map(|given| given.acl.len()).sum();
        let compared = match denies {
            true => 0,
            false => {
                let ports = conditions.iter().filter_map(|given| given.acl.ports()).map(Ports::len);
                (1 + ports.sum::<usize>()).saturating_mul(self.bounds.ranges())
            }
        };
        page.spend(*number, values.saturating_add(compared))
            .map_err(|problem| Refused::new(*number, problem))?;
        match denies {
            true => self.deny(*number, &source, &conditions, page),
            false => self.allow(*number, &source, &conditions, page),
        }
    }

    fn deny(
        &mut self,
        line: usize,
        source: &str,
        conditions: &[Condition<'_>],
        page: &mut Page,
    ) -> Result<(), Refused> {
        if conditions.is_empty() {
            self.closed = Some(line);
            return Ok(());
        }
        let held = || conditions.iter().filter(|given| given.holds).map(|given| given.acl);
        if let Some(why) = held().find_map(Acl::moot) {
            page.remark(line, &format!("{source}: {why}"));
            return Ok(());
        }
        if self.bounds.narrow(conditions) {
            page.remark(line, &format!("{source}: kept in the rules that follow"));
            return Ok(());
        }
        let mut said = 1;
        if let Some(hosts) = held().find_map(Acl::hosts) {
            let hosts = hosts.to_vec();
            let ports = held().find_map(Acl::ports).filter(|ports| !ports.has_wide_range());
            said += usize::from(ports.is_some());
            let id = format!("line-{line}");
            let source = source.to_owned();
            let ports = ports.map(Ports::listed).unwrap_or_default();
            page.rule(Rule {
                id,
                effect: Effect::Deny,
                line,
                source,
                hosts,
                ports,
                ..Rule::default()
            })
            .map_err(|problem| Refused::new(line, problem))?;
        } else if let Some(networks) = held().find_map(Acl::addresses) {
            networks.iter().for_each(|network| page.deny_network(*network));
            page.remark(line, &format!("{source}: in `[network] deny`"));
        } else {
            page.leave_out(line, source);
            self.lost.get_or_insert(line);
            return Ok(());
        }
        if conditions.len() > said {
            page.remark(line, "this deny is wider than it was: its other conditions are left out");
        }
        if let Some(first) = self.bounds.first_allow {
            page.remark(
                line,
                &format!("a deny wins always here; in squid line {first} came before this one"),
            );
        }
        Ok(())
    }

    fn allow(
        &mut self,
        line: usize,
        source: &str,
        conditions: &[Condition<'_>],
        page: &mut Page,
    ) -> Result<(), Refused> {
        let asked = match Asked::of(conditions) {
            Ok(asked) => asked,
            Err(Unsaid::Moot(why)) => {
                page.remark(line, &format!("{source}: {why}"));
                return Ok(());
            }
            Err(Unsaid::Foreign(why)) => {
                page.leave_out(line, &format!("{source}: {why}"));
                return Ok(());
            }
        };
        self.bounds.first_allow.get_or_insert(line);
        if asked.wide {
            page.remark(line, "of a wide range of ports only 80 and 443 are taken over");
        }
        let rules = match self.bounds.rules(line, source, asked) {
            Ok(rules) => rules,
            Err(why) => {
                page.leave_out(line, &format!("{source}: {why}"));
                return Ok(());
            }
        };
        for rule in rules {
            let bounded =
                rule.hosts != [Entry::Any] || !rule.labels.is_empty() || !rule.ids.is_empty();
            let written = match self.lost {
                Some(lost) => page.suggest(rule, &format!("line {lost} may deny some of it")),
                None if !bounded => page.suggest(rule, "it allows everything to everybody"),
                None => page.rule(rule),
            };
            written.map_err(|problem| Refused::new(line, problem))?;
        }
        Ok(())
    }

    fn end(&self, page: &mut Page) {
        match (self.closed, self.last) {
            (Some(line), _) => page.remark(line, "denies the rest, as every policy does"),
            (None, Some((line, true))) => page.leave_out(
                line,
                "squid lets through what no line matches when the last one is a deny; here it is \
                 denied",
            ),
            (None, Some((_, false)) | None) => {}
        }
    }
}

/// What an allow asks of a request.
#[derive(Default)]
struct Asked {
    hosts: Option<Vec<Entry>>,
    ports: Option<BTreeSet<u16>>,
    /// Whether a wide range of ports was cut.
    wide: bool,
    methods: Option<BTreeSet<String>>,
    labels: Vec<String>,
    ids: Vec<String>,
}

/// Why an allow is not taken over.
enum Unsaid {
    Moot(&'static str),
    Foreign(String),
}

impl Asked {
    fn of(conditions: &[Condition<'_>]) -> Result<Self, Unsaid> {
        let mut asked = Self::default();
        let twice = |name: &str| Unsaid::Foreign(format!("`{name}` is the second of its type"));
        for Condition { holds, name, acl } in conditions {
            match (holds, acl) {
                (true, Acl::Hosts(hosts)) if asked.hosts.is_none() => {
                    asked.hosts = Some(hosts.clone());
                }
                (true, Acl::Ports(ports)) if asked.ports.is_none() => {
                    asked.ports = Some(ports.listed());
                    asked.wide = ports.has_wide_range();
                }
                (true, Acl::Methods(methods)) if asked.methods.is_none() => {
                    asked.methods = Some(methods.clone());
                }
                (true, Acl::Users(Some(users))) if asked.ids.is_empty() => {
                    asked.ids.clone_from(users);
                }
                (true, Acl::Hosts(_) | Acl::Ports(_) | Acl::Methods(_) | Acl::Users(Some(_))) => {
                    return Err(twice(name));
                }
                (true, Acl::Sources(_) | Acl::Users(None)) => asked.labels.push((*name).to_owned()),
                (true, Acl::Moot(why)) => return Err(Unsaid::Moot(why)),
                (true, Acl::All) => {}
                (true, Acl::Foreign(why)) => {
                    return Err(Unsaid::Foreign(format!("`{name}`: {why}")));
                }
                (true, Acl::Addresses(_)) => {
                    let why = "a rule names hosts; `[[network.allow]]` opens networks for it";
                    return Err(Unsaid::Foreign(format!("`{name}`: {why}")));
                }
                (false, _) => {
                    let why = format!("an allow cannot say what does not hold: `!{name}`");
                    return Err(Unsaid::Foreign(why));
                }
            }
        }
        Ok(asked)
    }
}
