//! Which variables make clients use the proxy, and what they are to hold.
//!
//! What is set already is kept where it says more than where the proxy is: hosts that are reached
//! directly are added to, options of the Java machine and settings of git are exchanged one by one.
//! Doing it again changes nothing. Two kinds of variable are left out on purpose: those that name
//! certificates, as TLS is not opened, and `NODE_OPTIONS`, as Node does not start with an option that
//! it does not know, and `NODE_USE_ENV_PROXY` does the same.

use std::borrow::Cow;

use crate::{environment::Environment, proxy_url::ProxyUrl};

/// A variable and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: Cow<'static, str>,
    /// `None` takes it out of the environment.
    pub(crate) value: Option<String>,
}

/// Returns what has to be set so that clients use the proxy.
pub(crate) fn to_set(proxy: &ProxyUrl, environment: &Environment) -> Vec<Variable> {
    let url = proxy.expose();
    let direct = directly(environment);
    let mut variables = Vec::new();
    let mut set = |name: &'static str, value: &str| {
        variables.push(Variable { name: name.into(), value: Some(value.to_owned()) });
    };
    for name in URLS {
        set(name, &url);
    }
    for name in DIRECT {
        set(name, &direct);
    }
    set(NODE, "1");
    if proxy.has_token() {
        // Otherwise git asks without, is refused, and asks again: a recorded denial each time.
        set(GIT, "basic");
    }
    let kept = environment.variable(JAVA).map(without_ours).unwrap_or_default();
    let options = java(proxy);
    set(JAVA, &if kept.is_empty() { options } else { format!("{kept} {options}") });
    variables.extend(git(&url, &environment.git));
    variables
}

/// Returns what takes back what [`to_set`] sets.
pub(crate) fn to_unset(environment: &Environment) -> Vec<Variable> {
    let plain = URLS.into_iter().chain([NODE, GIT]);
    let mut variables: Vec<_> =
        plain.map(|name| Variable { name: name.into(), value: None }).collect();
    for name in DIRECT {
        let hosts = environment.variable(name).map(|set| hosts(set).filter(is_not_ours));
        let left: Vec<_> = hosts.into_iter().flatten().collect();
        let value = (!left.is_empty()).then(|| left.join(","));
        variables.push(Variable { name: name.into(), value });
    }
    let options = environment.variable(JAVA).map(without_ours);
    let options = options.filter(|left| !left.is_empty());
    variables.push(Variable { name: JAVA.into(), value: options });
    variables.extend(git_back(&environment.git));
    variables
}

/// Has git take the proxy from the environment as a setting of its own, which wins over the one of
/// its files; the settings beside it stay as they are.
fn git(url: &str, before: &[(String, String)]) -> Vec<Variable> {
    let named = before.iter().enumerate().filter(|(_, (key, _))| is_git_proxy(key));
    let mut places: Vec<_> = named.map(|(place, _)| place).collect();
    if places.is_empty() {
        places.push(before.len());
    }
    let count = places.iter().map(|place| place + 1).fold(before.len(), usize::max);
    let mut variables = vec![git_count(count)];
    for place in places {
        variables.extend(git_setting(place, Some((GIT_PROXY, url))));
    }
    variables
}

/// Takes the proxy out of the settings of git and closes the gap. What stays in its place is not
/// told: it may be anything, a secret too.
fn git_back(before: &[(String, String)]) -> Vec<Variable> {
    let left: Vec<_> = before.iter().filter(|(key, _)| !is_git_proxy(key)).collect();
    let mut variables = Vec::new();
    if left.is_empty() || left.len() < before.len() {
        variables.push(git_count(left.len()));
    }
    for place in 0..before.len().max(1) {
        let now = left.get(place).copied();
        if now.is_none() || now != before.get(place) {
            let setting = now.map(|(key, value)| (key.as_str(), value.as_str()));
            variables.extend(git_setting(place, setting));
        }
    }
    variables
}

fn git_count(count: usize) -> Variable {
    Variable { name: GIT_COUNT.into(), value: (count > 0).then(|| count.to_string()) }
}

fn git_setting(place: usize, setting: Option<(&str, &str)>) -> [Variable; 2] {
    let (key, value) = setting.unzip();
    [(GIT_KEY, key), (GIT_VALUE, value)].map(|(name, text)| Variable {
        name: format!("{name}{place}").into(),
        value: text.map(str::to_owned),
    })
}

fn is_git_proxy(key: &str) -> bool {
    key.eq_ignore_ascii_case(GIT_PROXY)
}

/// Reads the settings that the environment gives to git, as far as git itself would take them.
pub(crate) fn git_settings(variable: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let count = variable(GIT_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0);
    let setting = |place: usize| {
        Some((variable(&format!("{GIT_KEY}{place}"))?, variable(&format!("{GIT_VALUE}{place}"))?))
    };
    (0..count).map_while(setting).collect()
}

/// What is set of the hosts that are reached directly, without the proxy, and this machine.
///
/// Plain names and addresses, a comma and no blank: the one form that all clients read alike.
fn directly(environment: &Environment) -> String {
    let set = DIRECT.into_iter().filter_map(|name| environment.variable(name)).flat_map(hosts);
    let mut direct: Vec<&str> = Vec::new();
    for host in set.chain(LOCAL) {
        if !direct.iter().any(|before| before.eq_ignore_ascii_case(host)) {
            direct.push(host);
        }
    }
    direct.join(",")
}

/// Whether everything is to be reached directly, so that the proxy is asked nothing.
pub(crate) fn all_is_direct(environment: &Environment) -> bool {
    DIRECT
        .into_iter()
        .filter_map(|name| environment.variable(name))
        .flat_map(hosts)
        .any(|host| host == "*")
}

fn hosts(set: &str) -> impl Iterator<Item = &str> {
    set.split([',', ' ', '\t']).filter(|host| !host.is_empty())
}

fn is_not_ours(host: &&str) -> bool {
    !LOCAL.iter().any(|local| local.eq_ignore_ascii_case(host))
}

/// Where the proxy is, for Java. Never the token: the machine prints the variable on stderr at each
/// start, and knows no option for it. A program that answers a challenge itself may do so for
/// tunnels, too, which it may not by default.
fn java(proxy: &ProxyUrl) -> String {
    let (host, port) = (proxy.address.ip().to_string(), proxy.address.port().to_string());
    let mut options = vec![(JAVA_HTTP[0], &*host), (JAVA_HTTP[1], &port)];
    options.extend([(JAVA_HTTPS[0], &*host), (JAVA_HTTPS[1], &port)]);
    if proxy.has_token() {
        options.push((JAVA_BASIC, ""));
    }
    let options: Vec<_> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    options.join(" ")
}

/// The options that are set, but for those that [`java`] writes; byte for byte what they were.
fn without_ours(set: &str) -> String {
    let is_ours = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        JAVA_HTTP.contains(&name) || JAVA_HTTPS.contains(&name) || name == JAVA_BASIC
    };
    let kept: Vec<_> = set.split(' ').filter(|option| !is_ours(option)).collect();
    kept.join(" ")
}

/// Hold the URL of the proxy.
///
/// Both cases, as curl, wget and apt read only the lower one of `http_proxy`, and an empty one of
/// either disables the other in some. `ALL_PROXY` stands for every other scheme: what egret cannot
/// carry is then denied and recorded, instead of going round it, or through the proxy that was
/// named there before; so it is with FTP, whose own variable would win. The rest is for clients
/// that read none of these (global-agent, and Yarn: 1 as npm's configuration, 2 and later by its
/// own names), and for npm and cargo, whose files would win otherwise. Pip's own variable is not
/// among them: it wins over the hosts that are reached directly.
const URLS: [&str; 15] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "GLOBAL_AGENT_HTTP_PROXY",
    "GLOBAL_AGENT_HTTPS_PROXY",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "CARGO_HTTP_PROXY",
];

/// Hold the hosts that are reached directly. Yarn has none of its own, and ends with a usage error
/// when it finds one.
const DIRECT: [&str; 3] = ["NO_PROXY", "no_proxy", "GLOBAL_AGENT_NO_PROXY"];

/// This machine, where the worker's own servers listen; egret refuses these addresses anyway.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Has Node itself read the variables, from version 22.21 and 24 on.
const NODE: &str = "NODE_USE_ENV_PROXY";
const GIT: &str = "GIT_HTTP_PROXY_AUTHMETHOD";
const GIT_PROXY: &str = "http.proxy";
const GIT_COUNT: &str = "GIT_CONFIG_COUNT";
const GIT_KEY: &str = "GIT_CONFIG_KEY_";
const GIT_VALUE: &str = "GIT_CONFIG_VALUE_";
const JAVA: &str = "JAVA_TOOL_OPTIONS";
const JAVA_HTTP: [&str; 2] = ["-Dhttp.proxyHost", "-Dhttp.proxyPort"];
const JAVA_HTTPS: [&str; 2] = ["-Dhttps.proxyHost", "-Dhttps.proxyPort"];
const JAVA_BASIC: &str = "-Djdk.http.auth.tunneling.disabledSchemes";

/// The variables whose values are built upon.
pub(crate) const BUILT_UPON: [&str; 4] = [DIRECT[0], DIRECT[1], DIRECT[2], JAVA];

#[cfg(test)]
mod tests;
