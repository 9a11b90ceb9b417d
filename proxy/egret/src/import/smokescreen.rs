//! Smokescreen's ACL, version 1: services with what each may reach, a default, and two lists for
//! all.
//!
//! A service becomes the label `service` of workers. The default becomes such a label, too: a rule
//! without workers would also serve the services that have a list of their own. In Smokescreen a
//! service's list wins over `global_deny_list`; here a deny wins always, which is less. A key of
//! the file itself, or of a service, that is not known may be a list of denies, so it refuses.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    Refused,
    page::{Effect, Entry, Page, Rule, plain},
    yaml::{self, Kind, Node},
};

/// Translates the text of an ACL.
pub(super) fn translate(text: &str, page: &mut Page) -> Result<(), Refused> {
    let root = yaml::read(text)?;
    let top = map(&root, "the file")?;
    let find = |key: &str| top.iter().find(|(name, _)| name == key).map(|(_, node)| &**node);
    match find("version").map(|node| (node.line, node.text())) {
        Some((_, Some("v1"))) => {}
        Some((line, _)) => return Err(Refused::new(line, "only version v1 is understood")),
        None => return Err(Refused::new(root.line, "there is no `version: v1`")),
    }
    page.preface(
        "A worker gets the label `service`, whose value is the name of its service:\n\
         egret worker token ID --label service=NAME\n\
         Smokescreen allows every port of a host; the rules allow http on 80 and https on 443.",
    );
    for (name, node) in top {
        if !KEYS.contains(&name.as_str()) {
            let name = plain(name);
            return Err(Refused::new(node.line, format!("`{name}` is not understood")));
        }
    }
    let everywhere = match find("global_allow_list") {
        Some(list) => domains(list, "global_allow_list", page)?,
        None => Vec::new(),
    };
    let denied = find("global_deny_list");
    if let Some(list) = denied {
        deny(list, page)?;
    }
    let mut services = Vec::new();
    for node in find("services").map_or(Ok(&[][..]), |node| list(node, "services"))? {
        services.push(Service::read(node, page)?);
    }
    let mut names: BTreeSet<_> = services.iter().map(|service| service.name.clone()).collect();
    if let Some(node) = find("default") {
        let mut service = Service::read_default(node, page)?;
        while !names.insert(service.name.clone()) {
            service.name += "-default";
        }
        page.remark(
            node.line,
            &format!("workers of no other service get the label `service = \"{}\"`", service.name),
        );
        services.push(service);
    }
    if denied.is_some() && services.iter().any(|service| !service.hosts.is_empty()) {
        page.remark(
            denied.map_or(0, |list| list.line),
            "a deny wins always here; in Smokescreen a service's own list wins over this one",
        );
    }
    for service in services {
        service.write(&everywhere, page)?;
    }
    Ok(())
}

/// What one kind of client may reach.
struct Service {
    line: usize,
    name: String,
    hosts: Vec<Entry>,
}

impl Service {
    fn read(node: &Node, page: &mut Page) -> Result<Self, Refused> {
        let name = map(node, "a service")?.iter().find(|(key, _)| key == "name");
        let name = name.and_then(|(_, name)| name.text()).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Refused::new(node.line, "the service has no `name`"))?;
        Self::read_as(name.to_owned(), node, Open::Taken, page)
    }

    fn read_default(node: &Node, page: &mut Page) -> Result<Self, Refused> {
        let name = map(node, "`default`")?.iter().find(|(key, _)| key == "name");
        let name = name.and_then(|(_, name)| name.text()).filter(|name| !name.is_empty());
        Self::read_as(name.unwrap_or("default").to_owned(), node, Open::LeftOut, page)
    }

    fn read_as(name: String, node: &Node, open: Open, page: &mut Page) -> Result<Self, Refused> {
        let mut hosts = Vec::new();
        for (key, value) in map(node, "a service")? {
            let line = value.line;
            match key.as_str() {
                "name" | "project" => {}
                "action" => match (value.text(), open) {
                    (Some("enforce"), _) => {}
                    (Some("open"), Open::Taken) => hosts.push(Entry::Any),
                    (Some("open"), Open::LeftOut) => page.leave_out(
                        line,
                        "the default is `open`: everybody reaches everything; list the hosts",
                    ),
                    (Some("report"), _) => page.leave_out(
                        line,
                        &format!(
                            "`{name}` is in `report`: what is not listed is let through there, \
                                  and denied here; `mode = \"report\"` does that for a whole policy"
                        ),
                    ),
                    (_, _) => page.leave_out(line, "the action is not understood: `enforce` it is"),
                },
                "allowed_domains" => hosts.extend(domains(value, key, page)?),
                "allowed_domains_mitm" => hosts.extend(opened(value, page)?),
                "allowed_external_proxies" => page.leave_out(
                    line,
                    "no request goes to another proxy; its own hosts are reached directly",
                ),
                _ => {
                    let (key, name) = (plain(key), plain(&name));
                    let problem = format!("`{key}` of `{name}` is not understood");
                    return Err(Refused::new(line, problem));
                }
            }
        }
        Ok(Self { line: node.line, name, hosts })
    }

    fn write(self, everywhere: &[Entry], page: &mut Page) -> Result<(), Refused> {
        let Self { line, name, hosts } = self;
        let every = everywhere.to_vec();
        for (what, hosts) in [("service", hosts), ("global-allow", every)] {
            if hosts.is_empty() {
                continue;
            }
            let source = match what {
                "service" => format!("service {name}"),
                _ => format!("global_allow_list, for service {name}"),
            };
            page.rule(Rule {
                id: format!("{what}-{name}"),
                effect: Effect::Allow,
                line,
                source,
                labels: vec![("service".to_owned(), name.clone())],
                hosts,
                schemes: vec!["http", "https"],
                ports: [80, 443].into(),
                ..Rule::default()
            })
            .map_err(|problem| Refused::new(line, problem))?;
        }
        Ok(())
    }
}

/// What becomes of `action: open`.
#[derive(Clone, Copy)]
enum Open {
    /// Everything is allowed to one service, as its owner wanted.
    Taken,
    /// For all that are not listed it would be no policy any more.
    LeftOut,
}

fn deny(node: &Node, page: &mut Page) -> Result<(), Refused> {
    let entries = list(node, "global_deny_list")?.iter().map(|node| entry(node));
    let hosts = entries.collect::<Result<Vec<_>, _>>()?;
    if hosts.is_empty() {
        return Ok(());
    }
    let (id, source) = ("global-deny".to_owned(), "global_deny_list".to_owned());
    page.rule(Rule { id, line: node.line, source, hosts, ..Rule::default() })
        .map_err(|problem| Refused::new(node.line, problem))
}

/// Reads domains that are allowed; one that is none allows nothing.
fn domains(node: &Node, name: &str, page: &mut Page) -> Result<Vec<Entry>, Refused> {
    let mut hosts = Vec::new();
    for node in list(node, name)? {
        match entry(node) {
            Ok(host) => hosts.push(host),
            Err(Refused { line, problem }) => page.leave_out(line, &problem),
        }
    }
    Ok(hosts)
}

/// Reads domains whose traffic is opened: they are reached, and not opened.
fn opened(node: &Node, page: &mut Page) -> Result<Vec<Entry>, Refused> {
    let mut hosts = Vec::new();
    for node in list(node, "allowed_domains_mitm")? {
        let keys = map(node, "a domain of `allowed_domains_mitm`")?;
        let Some((_, domain)) = keys.iter().find(|(key, _)| key == "domain") else {
            page.leave_out(node.line, "there is no `domain`");
            continue;
        };
        match entry(domain) {
            Ok(host) => hosts.push(host),
            Err(Refused { line, problem }) => page.leave_out(line, &problem),
        }
        for (key, value) in keys.iter().filter(|(key, _)| key != "domain") {
            page.leave_out(value.line, &format!("`{key}`: TLS is relayed and not opened"));
        }
    }
    Ok(hosts)
}

/// `example.com` is that host; `*.example.com` all below it, however deep.
fn entry(node: &Node) -> Result<Entry, Refused> {
    let text = node.text().ok_or_else(|| Refused::new(node.line, "this is no domain"))?;
    let read = match text.strip_prefix("*.") {
        Some(name) => Entry::below(name),
        None => Entry::exact(text),
    };
    read.map_err(|problem| Refused::new(node.line, format!("`{text}` is not a host: {problem}")))
}

fn map<'n>(node: &'n Node, what: &str) -> Result<&'n [(String, Rc<Node>)], Refused> {
    match &node.kind {
        Kind::Map(entries) => Ok(entries),
        Kind::Scalar(_) | Kind::List(_) => {
            Err(Refused::new(node.line, format!("{what} is no table of keys and values")))
        }
    }
}

/// A list, also an empty one that is written as nothing at all.
fn list<'n>(node: &'n Node, what: &str) -> Result<&'n [Rc<Node>], Refused> {
    match &node.kind {
        Kind::List(entries) => Ok(entries),
        Kind::Scalar(text) if ["", "~", "null"].contains(&text.as_str()) => Ok(&[]),
        Kind::Scalar(_) | Kind::Map(_) => {
            Err(Refused::new(node.line, format!("`{what}` is no list")))
        }
    }
}

const KEYS: [&str; 5] = ["version", "services", "default", "global_allow_list", "global_deny_list"];
