//! Which variables make clients use the proxy, and what they are to hold.
//!
//! What is set already is kept where it says more than where the proxy is: hosts that are reached
//! directly are added to, options of the Java machine are exchanged one by one. Doing it again
//! changes nothing. Two kinds of variable are left out on purpose: those that name certificates,
//! as TLS is not opened, and `NODE_OPTIONS`, as Node does not start with an option that it does not
//! know, and `NODE_USE_ENV_PROXY` does the same.

use crate::{environment::Environment, proxy_url::ProxyUrl};

/// A variable and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// `None` takes it out of the environment.
    pub(crate) value: Option<String>,
}

/// Returns what has to be set so that clients use the proxy.
pub(crate) fn to_set(proxy: &ProxyUrl, environment: &Environment) -> Vec<Variable> {
    let url = proxy.expose();
    let direct = directly(environment);
    let mut variables = Vec::new();
    let mut set = |name, value: &str| {
        variables.push(Variable { name, value: Some(value.to_owned()) });
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
    variables
}

/// Returns what takes back what [`to_set`] sets.
pub(crate) fn to_unset(environment: &Environment) -> Vec<Variable> {
    let plain = URLS.into_iter().chain([NODE, GIT]);
    let mut variables: Vec<_> = plain.map(|name| Variable { name, value: None }).collect();
    for name in DIRECT {
        let hosts = environment.variable(name).map(|set| hosts(set).filter(is_not_ours));
        let left: Vec<_> = hosts.into_iter().flatten().collect();
        let value = (!left.is_empty()).then(|| left.join(","));
        variables.push(Variable { name, value });
    }
    let options = environment.variable(JAVA).map(without_ours);
    variables.push(Variable { name: JAVA, value: options.filter(|left| !left.is_empty()) });
    variables
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
/// named there before. The rest is for clients that read none of these: global-agent, Yarn (1 as
/// npm's configuration, 2 and later by its own names), and npm, whose files would win otherwise.
const URLS: [&str; 12] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "GLOBAL_AGENT_HTTP_PROXY",
    "GLOBAL_AGENT_HTTPS_PROXY",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
];

/// Hold the hosts that are reached directly. Yarn has none of its own, and ends with a usage error
/// when it finds one.
const DIRECT: [&str; 3] = ["NO_PROXY", "no_proxy", "GLOBAL_AGENT_NO_PROXY"];

/// This machine, where the worker's own servers listen; egret refuses these addresses anyway.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Has Node itself read the variables, from version 22.21 and 24 on.
const NODE: &str = "NODE_USE_ENV_PROXY";
const GIT: &str = "GIT_HTTP_PROXY_AUTHMETHOD";
const JAVA: &str = "JAVA_TOOL_OPTIONS";
const JAVA_HTTP: [&str; 2] = ["-Dhttp.proxyHost", "-Dhttp.proxyPort"];
const JAVA_HTTPS: [&str; 2] = ["-Dhttps.proxyHost", "-Dhttps.proxyPort"];
const JAVA_BASIC: &str = "-Djdk.http.auth.tunneling.disabledSchemes";

/// The variables whose values are built upon.
pub(crate) const BUILT_UPON: [&str; 4] = [DIRECT[0], DIRECT[1], DIRECT[2], JAVA];

#[cfg(test)]
mod tests;
