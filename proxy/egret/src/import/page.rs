//! The policy that is being written: rules, and comments on what became of each line.

use std::collections::BTreeSet;

use egret_policy::{Host, Loaded, Policy};
use ipnet::IpNet;

use crate::toml_text::{key, list, quoted};

/// A host as `hosts` or `suffixes` lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    ids: BTreeSet<String>,
    rules: usize,
    left_out: usize,
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
            ids: BTreeSet::new(),
            rules: 0,
            left_out: 0,
        }
    }

    pub(super) fn rules(&self) -> usize {
        self.rules
    }

    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Says something about the whole.
    pub(super) fn preface(&mut self, text: &str) {
        for line in text.lines() {
            self.head += &format!("# {}\n", line.replace(char::is_control, " "));
        }
    }

    /// Says something about a line that takes nothing away.
    pub(super) fn remark(&mut self, line: usize, text: &str) {
        self.body += &format!("\n# line {line}: {}\n", plain(text));
    }

    /// Says what is not taken over.
    pub(super) fn leave_out(&mut self, line: usize, text: &str) {
        self.left_out += 1;
        self.body += &format!("\n# not taken over, line {line}: {}\n", plain(text));
    }

    /// Has every address of a network denied.
    pub(super) fn deny_network(&mut self, network: IpNet) {
        self.networks.insert(network.trunc());
    }

    /// Writes a rule. What no rule could have is left out of an allow, and refuses a deny.
    pub(super) fn rule(&mut self, mut rule: Rule) -> Result<(), String> {
        let mut kept: Vec<Entry> = Vec::new();
        for host in std::mem::take(&mut rule.hosts) {
            match (problem_with(rule.effect, &host), rule.effect) {
                (None, _) if kept.contains(&host) => {}
                (None, _) => kept.push(host),
                (Some(problem), Effect::Allow) => self.leave_out(rule.line, &problem),
                (Some(problem), Effect::Deny) => return Err(problem),
            }
        }
        rule.hosts = kept;
        if rule.hosts.is_empty() {
            self.leave_out(rule.line, &format!("`{}` names no host", rule.source));
            return Ok(());
        }
        self.name(&mut rule);
        let text = rule.written();
        match (first_problem(&text), rule.effect) {
            (None, _) => {}
            (Some(problem), Effect::Allow) => {
                self.leave_out(rule.line, &format!("{}: {problem}", rule.source));
                return Ok(());
            }
            (Some(problem), Effect::Deny) => return Err(problem),
        }
        self.rules += 1;
        self.body += &format!("\n# line {}: {}\n{text}", rule.line, plain(&rule.source));
        Ok(())
    }

    /// Writes a rule as a comment, for whoever knows that it may be taken over.
    pub(super) fn suggest(&mut self, mut rule: Rule, why: &str) {
        self.name(&mut rule);
        self.leave_out(rule.line, &format!("{}; {why}", rule.source));
        for line in rule.written().lines() {
            self.body += &format!("# {line}\n");
        }
    }

    /// Makes an id one that a rule can have and no other has.
    fn name(&mut self, rule: &mut Rule) {
        let safe = |character: char| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
            _ => '-',
        };
        let id: String = rule.id.chars().take(LONGEST_ID).map(safe).collect();
        let numbered = (2..).map(|number| format!("{id}-{number}"));
        let free = std::iter::once(id.clone()).chain(numbered).find(|id| !self.ids.contains(id));
        rule.id = free.expect("there are more numbers than rules");
        self.ids.insert(rule.id.clone());
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

const LONGEST_COMMENT: usize = 160;
/// Shorter than an id may be, so that a number fits behind it.
const LONGEST_ID: usize = 56;
