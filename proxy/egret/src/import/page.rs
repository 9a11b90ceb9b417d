//! The policy that is being written: rules, and comments on what became of each line.

use std::collections::{BTreeSet, HashMap, HashSet};

use egret_policy::{Host, Loaded, Policy};
use ipnet::IpNet;

use crate::toml_text::{key, list, quoted};

/// A host as `hosts` or `suffixes` lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Entry {
    /// Every DNS name.
    Any,
    Exact(String),
    Suffix(String),
}

impl Entry {
    /// Reads the host itself.
    pub(super) fn exact(text: &str) -> Result<Self, String> {
        let host = Host::from_policy(text).map_err(|error| error.to_string())?;
        Ok(Self::Exact(host.to_string()))
    }

    /// Reads what is below a name.
    pub(super) fn below(text: &str) -> Result<Self, String> {
        Ok(Self::Suffix(format!(".{}", name(text)?)))
    }

    /// Reads a name and what is below it.
    pub(super) fn at_or_below(text: &str) -> Result<Self, String> {
        Ok(Self::Suffix(name(text)?))
    }
}

fn name(text: &str) -> Result<String, String> {
    match Host::from_policy(text).map_err(|error| error.to_string())? {
        Host::Name(name) => Ok(name.to_string()),
        Host::Address(_) => Err("an address has nothing below it".to_owned()),
    }
}

/// A rule to be written.
#[derive(Debug, Default)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) effect: Effect,
    /// The line it comes from, and what stands there.
    pub(super) line: usize,
    pub(super) source: String,
    /// Labels that the worker must have, by name.
    pub(super) labels: Vec<(String, String)>,
    pub(super) ids: Vec<String>,
    pub(super) hosts: Vec<Entry>,
    pub(super) schemes: Vec<&'static str>,
    pub(super) ports: BTreeSet<u16>,
    pub(super) methods: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Allow,
    #[default]
    Deny,
}

/// The text as far as it is written.
pub(super) struct Page {
    head: String,
    networks: BTreeSet<IpNet>,
    body: String,
    ids: HashSet<String>,
    /// The number that the next rule of an id gets.
    numbers: HashMap<String, usize>,
    /// Hosts that may stand in a rule.
    fit: HashMap<Effect, HashSet<Entry>>,
    /// What was found of each host of a rule with a problem.
    judged: HashMap<(Effect, Entry), Option<String>>,
    rules: usize,
    left_out: usize,
    spent: usize,
    /// The line that was too much.
    full: Option<usize>,
}

impl Page {
    pub(super) fn new(file: &str) -> Self {
        let head = format!(
            "# Made of {} by `egret import`; what no rule allows is denied.\n",
            plain(file)
        );
        Self {
            head,
            networks: BTreeSet::new(),
            body: String::new(),
            ids: HashSet::new(),
            numbers: HashMap::new(),
            fit: HashMap::new(),
            judged: HashMap::new(),
            rules: 0,
            left_out: 0,
            spent: 0,
            full: None,
        }
    }

    pub(super) fn rules(&self) -> usize {
        self.rules
    }

    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Returns the line with which it became too much.
    pub(super) fn full(&self) -> Option<usize> {
        self.full
    }

    /// Counts what a line asks to be gone through or written, and whether there is room for it: a
    /// short text can name a long list again and again.
    pub(super) fn spend(&mut self, line: usize, entries: usize) -> Result<(), String> {
        self.spent = self.spent.saturating_add(entries);
        match self.spent > MOST {
            true => {
                self.full.get_or_insert(line);
                Err(TOO_MUCH.to_owned())
            }
            false => Ok(()),
        }
    }

    /// Says something about the whole.
    pub(super) fn preface(&mut self, text: &str) {
        for line in text.lines() {
            self.head += &format!("# {}\n", line.replace(char::is_control, " "));
        }
    }

    /// Says something about a line that takes nothing away.
    pub(super) fn remark(&mut self, line: usize, text: &str) {
        if self.spend(line, 1).is_err() {
            return;
        }
        self.body += &format!("\n# line {line}: {}\n", plain(text));
    }

    /// Says what is not taken over.
    pub(super) fn leave_out(&mut self, line: usize, text: &str) {
        if self.spend(line, 1).is_err() {
            return;
        }
        self.left_out += 1;
        self.body += &format!("\n# not taken over, line {line}: {}\n", plain(text));
    }

    /// Has every address of a network denied.
    pub(super) fn deny_network(&mut self, network: IpNet) {
        self.networks.insert(network.trunc());
    }

    /// Writes a rule. What no rule could have is left out of an allow, and refuses a deny.
    pub(super) fn rule(&mut self, mut rule: Rule) -> Result<(), String> {
        self.spend(rule.line, rule.len())?;
        let mut seen = HashSet::new();
        rule.hosts.retain(|host| seen.insert(host.clone()));
        self.name(&mut rule);
        if let Some(problem) = self.first_problem_with(&mut rule) {
            if rule.effect == Effect::Deny {
                return Err(problem);
            }
            for host in std::mem::take(&mut rule.hosts) {
                match self.problem_with(rule.effect, &host) {
                    None => rule.hosts.push(host),
                    Some(problem) => self.leave_out(rule.line, &problem),
                }
            }
            if rule.hosts.is_empty() {
                self.leave_out(rule.line, &format!("`{}` names no host", rule.source));
                return Ok(());
            }
            if let Some(problem) = self.first_problem_with(&mut rule) {
                self.leave_out(rule.line, &format!("{}: {problem}", rule.source));
                return Ok(());
            }
        }
        self.rules += 1;
        let text = rule.written();
        self.body += &format!("\n# line {}: {}\n{text}", rule.line, plain(&rule.source));
        Ok(())
    }

    /// Writes a rule as a comment, for whoever knows that it may be taken over.
    pub(super) fn suggest(&mut self, mut rule: Rule, why: &str) -> Result<(), String> {
        self.spend(rule.line, rule.len())?;
        self.name(&mut rule);
        self.leave_out(rule.line, &format!("{}; {why}", rule.source));
        for line in rule.written().lines() {
            self.body += &format!("# {line}\n");
        }
        Ok(())
    }

    /// Returns why the policy itself would not have a rule. Hosts that other rules have had are
    /// not judged again: a list is named in many rules, and no host is a problem to another.
    fn first_problem_with(&mut self, rule: &mut Rule) -> Option<String> {
        let fit = self.fit.entry(rule.effect).or_default();
        let hosts = std::mem::take(&mut rule.hosts);
        rule.hosts = hosts.iter().filter(|host| !fit.contains(host)).cloned().collect();
        if rule.hosts.is_empty() {
            rule.hosts.extend(hosts.first().cloned());
        }
        let problem = first_problem(&rule.written());
        let judged = std::mem::replace(&mut rule.hosts, hosts);
        if problem.is_none() {
            fit.extend(judged);
        }
        problem
    }

    /// Returns why a host cannot stand in a rule; each is judged once.
    fn problem_with(&mut self, effect: Effect, host: &Entry) -> Option<String> {
        if self.fit.get(&effect).is_some_and(|fit| fit.contains(host)) {
            return None;
        }
        let judged = self.judged.entry((effect, host.clone()));
        judged.or_insert_with(|| problem_with(effect, host)).clone()
    }

    /// Makes an id one that a rule can have and no other has.
    fn name(&mut self, rule: &mut Rule) {
        let safe = |character: char| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
            _ => '-',
        };
        let id: String = rule.id.chars().take(LONGEST_ID).map(safe).collect();
        rule.id.clone_from(&id);
        while !self.ids.insert(rule.id.clone()) {
            let number = self.numbers.entry(id.clone()).or_insert(1);
            *number += 1;
            rule.id = format!("{id}-{number}");
        }
    }

    /// Returns the whole.
    pub(super) fn written(self) -> String {
        let mut text = format!("{}\nversion = 1\n", self.head);
        if !self.networks.is_empty() {
            let networks: Vec<_> = self.networks.iter().map(ToString::to_string).collect();
            text += &format!("\n[network]\ndeny = {}\n", list(&networks));
        }
        text + &self.body
    }
}

impl Rule {
    /// Returns how many entries are written.
    fn len(&self) -> usize {
        let Self { labels, ids, hosts, ports, methods, .. } = self;
        labels.len() + ids.len() + hosts.len() + ports.len() + methods.len()
    }

    fn written(&self) -> String {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        let mut text = format!("[[rule]]\nid = {}\neffect = \"{effect}\"\n", quoted(&self.id));
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{} = {}", key(name), quoted(value)))
            .collect();
        let mut workers = Vec::new();
        if !self.ids.is_empty() {
            workers.push(format!("ids = {}", list(&self.ids).replace('\n', " ")));
        }
        if !labels.is_empty() {
            workers.push(format!("labels = {{ {} }}", labels.join(", ")));
        }
        if !workers.is_empty() {
            text += &format!("workers = {{ {} }}\n", workers.join(", "));
        }
        let (mut hosts, mut suffixes) = (Vec::new(), Vec::new());
        for entry in &self.hosts {
            match entry {
                Entry::Any => hosts.push("*"),
                Entry::Exact(host) => hosts.push(host.as_str()),
                Entry::Suffix(suffix) => suffixes.push(suffix.as_str()),
            }
        }
        for (name, entries) in [("hosts", hosts), ("suffixes", suffixes)] {
            if !entries.is_empty() {
                text += &format!("{name} = {}\n", list(&entries));
            }
        }
        if !self.schemes.is_empty() {
            text += &format!("schemes = {}\n", list(&self.schemes));
        }
        if !self.ports.is_empty() {
            let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
            text += &format!("ports = [{}]\n", ports.join(", "));
        }
        if !self.methods.is_empty() {
            text += &format!("methods = {}\n", list(&self.methods));
        }
        text
    }
}

/// Why a host cannot stand in a rule, by the words of the policy itself.
fn problem_with(effect: Effect, host: &Entry) -> Option<String> {
    let (id, hosts) = ("host".to_owned(), vec![host.clone()]);
    first_problem(&Rule { id, effect, hosts, ..Rule::default() }.written())
}

fn first_problem(rule: &str) -> Option<String> {
    let Loaded { problems, .. } = Policy::load(&format!("version = 1\n{rule}"));
    problems.into_iter().next().map(|problem| problem.message)
}

/// A text for one line of comment: no control characters, and not all of a long one.
pub(super) fn plain(text: &str) -> String {
    let shown = text.chars().map(|character| match character.is_control() {
        true => ' ',
        false => character,
    });
    let mut plain: String = shown.clone().take(LONGEST_COMMENT).collect();
    if shown.count() > LONGEST_COMMENT {
        plain.push('…');
    }
    plain
}

/// More than the rules of any such file name, and as much as is written without a long wait.
const MOST: usize = 1 << 16;
pub(super) const TOO_MUCH: &str = "with this the rules name more than a policy should; \
                                   take the file over in parts";
const LONGEST_COMMENT: usize = 160;
/// Shorter than an id may be, so that a number fits behind it.
const LONGEST_ID: usize = 56;
