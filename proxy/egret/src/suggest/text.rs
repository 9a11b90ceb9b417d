//! A suggestion as TOML, with what it rests on as comments.

use std::{collections::BTreeMap, fmt::Display};

use egret_policy::source::shown;

use super::{
    Seen, Tally,
    rules::{Rules, Suggested},
};
use crate::{records::when, toml_text::quoted};

/// Writes the policy: the base as it is, if there is one, and the rules with their tests.
pub(super) fn written(base: Option<&str>, rules: &Rules, seen: &Seen) -> String {
    let mut text = match base {
        Some(base) => {
            format!("{}\n\n# What follows was suggested from records.\n", base.trim_end())
        }
        None => "# Suggested from records: what was seen, and no more. Read it before use.\n\
                 version = 1\n"
            .to_owned(),
    };
    text += &left_out(seen);
    for rule in &rules.0 {
        text += &drawn(rule);
    }
    let mut naming: BTreeMap<&str, usize> = BTreeMap::new();
    for host in rules.0.iter().flat_map(|rule| rule.hosts.keys()) {
        *naming.entry(host).or_default() += 1;
    }
    for rule in &rules.0 {
        text += &tests(rule, &naming);
    }
    if base.is_none() {
        let numbered = (2..).map(|number| format!("not-seen-{number}.invalid"));
        let mut names = std::iter::once("not-seen.invalid".to_owned()).chain(numbered);
        let unseen = names.find(|name| !naming.contains_key(name.as_str())).unwrap_or_default();
        text += &format!(
            "\n[[test]]   # what was not seen is not allowed\nurl = \"https://{unseen}/\"\n\
             expect = \"deny\"\nreason = \"egress.host_not_allowed\"\n"
        );
    }
    text
}

fn left_out(seen: &Seen) -> String {
    let Seen { left_out, covered, .. } = seen;
    let mut text = String::new();
    if *covered > 0 {
        text += &format!("# Allowed already: {covered}.\n");
    }
    if !left_out.is_empty() {
        text += "# Left out:\n";
    }
    for (why, (count, examples)) in left_out {
        let examples: Vec<_> = examples.iter().map(|one| shown(one)).collect();
        let such_as = match examples.is_empty() {
            true => String::new(),
            false => format!(", such as {}", examples.join(", ")),
        };
        text += &format!("#   {count} {why}{such_as}\n");
    }
    text
}

fn drawn(rule: &Suggested) -> String {
    let Suggested { id, workers, shape, hosts, tally, guessed } = rule;
    let Tally { allowed, denied, reported, first, last } = tally;
    let became: Vec<_> = [(allowed, "allowed"), (denied, "denied"), (reported, "only reported")]
        .into_iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let seen = match tally.count_all() {
        1 => format!("once, at {}", when(first)),
        count => format!("{count} times, {} to {}", when(first), when(last)),
    };
    let mut text = format!("\n# Seen {seen}: {}.\n", became.join(", "));
    if *guessed {
        text += "# Note: tunnels were denied before anything was said in them; the scheme is that of \
                 the port.\n";
    }
    if let Some(note) = shape.note {
        text += &format!("# Note: {note}.\n");
    }
    if shape.paths.iter().any(|path| path.contains('*')) {
        text += "# Note: `*` is any segment; what was seen there were different ids.\n";
    }
    if shape.scheme == "tcp" {
        text += "# Note: neither TLS nor HTTP; whatever is sent there is relayed uninspected.\n";
    }
    text += &format!("[[rule]]\nid = {}\neffect = \"allow\"\n", quoted(id));
    text += &format!("workers = {{ ids = [{}] }}\n", list(workers.iter().map(|id| quoted(id))));
    text += &entries("hosts", hosts.keys().map(|host| quoted(host)).collect());
    text += &format!("schemes = [{}]\n", quoted(shape.scheme));
    text += &format!("ports = [{}]\n", list(&shape.ports));
    if !shape.methods.is_empty() {
        let methods = shape.methods.iter().map(|method| quoted(method));
        text += &format!("methods = [{}]\n", list(methods));
    }
    if !shape.paths.is_empty() {
        text += &entries("paths", shape.paths.iter().map(|path| quoted(path)).collect());
    }
    text
}

/// A list on one line where it fits, else an entry to a line.
fn entries(key: &str, entries: Vec<String>) -> String {
    let short = format!("{key} = [{}]\n", list(&entries));
    if short.len() <= 100 {
        return short;
    }
    let lines: String = entries.iter().map(|entry| format!("    {entry},\n")).collect();
    format!("{key} = [\n{lines}]\n")
}

/// `naming` says how many rules name a host.
fn tests(rule: &Suggested, naming: &BTreeMap<&str, usize>) -> String {
    let Suggested { id, workers, shape, hosts, .. } = rule;
    let worker = workers.first().map(|id| quoted(id)).unwrap_or_default();
    let port = shape.ports.first().copied().unwrap_or_default();
    let mut text = String::new();
    for (host, example) in hosts {
        text += &format!("\n[[test]]\nworker = {{ id = {worker} }}\n");
        let asked = example.clone().or_else(|| {
            let method = shape.methods.first()?;
            Some((method.clone(), "/".to_owned()))
        });
        let (method, path) = asked.unzip();
        let path = path.filter(|path| path.starts_with('/'));
        let url = match shape.scheme {
            "tcp" => format!("tcp://{host}:{port}"),
            scheme => format!("{scheme}://{host}:{port}{}", path.as_deref().unwrap_or("/")),
        };
        if let Some(method) = method {
            text += &format!("method = {}\n", quoted(&method));
        }
        text += &format!("url = {}\nexpect = \"allow\"\n", quoted(&url));
        // A request may also match a rule for more paths, and the first in the file is what counts.
        let alone = naming.get(host.as_str()) == Some(&1);
        if alone || shape.scheme != "http" {
            text += &format!("rule = {}\n", quoted(id));
        }
    }
    text
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
