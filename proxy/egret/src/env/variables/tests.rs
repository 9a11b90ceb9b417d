use super::*;

fn proxy(token: bool) -> ProxyUrl {
    ProxyUrl::for_tests("127.0.0.1:3128", token.then_some(("ci-1", "t0ken")))
}

fn environment(set: &[(&'static str, &str)]) -> Environment {
    let built_upon = set.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Environment { built_upon, ..Environment::default() }
}

fn value<'a>(variables: &'a [Variable], name: &str) -> Option<&'a str> {
    let variable = variables.iter().find(|variable| variable.name == name);
    variable.unwrap_or_else(|| panic!("no {name}")).value.as_deref()
}

#[test]
fn every_name_of_the_proxy_holds_its_url() {
    let variables = to_set(&proxy(true), &environment(&[]));
    for name in [
        "http_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ftp_proxy",
        "YARN_HTTPS_PROXY",
        "npm_config_proxy",
        "CARGO_HTTP_PROXY",
    ] {
        assert_eq!(value(&variables, name), Some("http://ci-1:t0ken@127.0.0.1:3128"));
    }
    assert_eq!(value(&variables, NODE), Some("1"));
    assert_eq!(value(&variables, GIT), Some("basic"));
}

#[test]
fn names_of_certificates_and_of_node_options_are_not_there() {
    for Variable { name, .. } in to_set(&proxy(true), &environment(&[])) {
        assert!(!name.contains("CERT") && !name.contains("CA_BUNDLE"), "{name}");
        assert!(!["NODE_OPTIONS", "YARN_NO_PROXY"].contains(&&*name), "{name}");
    }
}

#[test]
fn hosts_that_are_reached_directly_are_added_to_and_never_lost() {
    let check = |set: &[(&'static str, &str)], expected: &str| {
        let variables = to_set(&proxy(false), &environment(set));
        for name in DIRECT {
            assert_eq!(value(&variables, name), Some(expected), "{set:?}");
        }
    };
    check(&[], "localhost,127.0.0.1,::1");
    check(&[("NO_PROXY", "")], "localhost,127.0.0.1,::1");
    check(&[("NO_PROXY", ".corp, LOCALHOST,")], ".corp,LOCALHOST,127.0.0.1,::1");
    check(
        &[("NO_PROXY", "a,b"), ("no_proxy", "b,c"), ("GLOBAL_AGENT_NO_PROXY", "d")],
        "a,b,c,d,localhost,127.0.0.1,::1",
    );
}

#[test]
fn options_of_java_are_kept_and_never_name_the_token() {
    let check = |set: &str, expected: &str| {
        let variables = to_set(&proxy(true), &environment(&[(JAVA, set)]));
        assert_eq!(value(&variables, JAVA), Some(expected));
    };
    let ours = "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 \
                -Dhttps.proxyPort=3128 -Djdk.http.auth.tunneling.disabledSchemes=";
    check("", ours);
    check("-Xmx1g  -Da='b c'", &format!("-Xmx1g  -Da='b c' {ours}"));
    check("-Dhttps.proxyHost=other -Xmx1g", &format!("-Xmx1g {ours}"));
    let without = to_set(&proxy(false), &environment(&[]));
    assert!(!value(&without, JAVA).unwrap().contains("disabledSchemes"));
}

#[test]
fn doing_it_twice_changes_nothing() {
    let before =
        environment(&[("NO_PROXY", "a,b"), ("no_proxy", "c"), (JAVA, "-Xmx1g -Dhttp.proxyPort=1")]);
    let once = to_set(&proxy(true), &before);
    let after: Vec<_> = BUILT_UPON.map(|name| (name, value(&once, name).unwrap())).to_vec();
    let after = Environment { git: git_after(&once, &[]), ..environment(&after) };
    assert_eq!(to_set(&proxy(true), &after), once);
}

#[test]
fn taking_it_back_leaves_what_was_there_before() {
    let set = to_set(&proxy(true), &environment(&[("NO_PROXY", "a,b"), (JAVA, "-Xmx1g")]));
    let after: Vec<_> = BUILT_UPON.map(|name| (name, value(&set, name).unwrap())).to_vec();
    let back = to_unset(&environment(&after));
    assert_eq!(value(&back, "NO_PROXY"), Some("a,b"));
    assert_eq!(value(&back, JAVA), Some("-Xmx1g"));
    let back = to_unset(&environment(&[]));
    assert!(back.iter().all(|variable| variable.value.is_none()), "{back:?}");
    let named = |variables: &[Variable]| {
        variables
            .iter()
            .map(|variable| variable.name.clone())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(named(&back), named(&set), "all that is set is taken back");
}

#[test]
fn a_star_takes_everything_round_the_proxy() {
    assert!(all_is_direct(&environment(&[("no_proxy", "a, *")])));
    assert!(!all_is_direct(&environment(&[("no_proxy", "*.example.com")])));
}

/// The settings of git after the variables were set where there were those before.
fn git_after(variables: &[Variable], before: &[(String, String)]) -> Vec<(String, String)> {
    let find = |name: &str| variables.iter().find(|variable| variable.name == name);
    let kept = |name: &str| {
        if name == GIT_COUNT {
            return Some(before.len().to_string());
        }
        let (place, value) = match name.strip_prefix(GIT_KEY) {
            Some(place) => (place, false),
            None => (name.strip_prefix(GIT_VALUE)?, true),
        };
        let (key, kept) = before.get(place.parse::<usize>().unwrap())?;
        Some(if value { kept } else { key }.clone())
    };
    git_settings(|name| find(name).map_or_else(|| kept(name), |variable| variable.value.clone()))
}

#[test]
fn settings_of_git_are_kept_and_the_proxy_among_them_is_exchanged() {
    let url = "http://127.0.0.1:3128";
    let settings = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let check = |before: &[(&str, &str)], set: &[(&str, &str)], back: &[(&str, &str)]| {
        let before = Environment { git: settings(before), ..Environment::default() };
        let after = git_after(&to_set(&proxy(false), &before), &before.git);
        assert_eq!(after, settings(set));
        let set = Environment { git: after, ..Environment::default() };
        assert_eq!(git_after(&to_unset(&set), &set.git), settings(back));
    };
    let (user, other) = (("user.name", "a"), ("core.editor", "vi"));
    check(&[], &[("http.proxy", url)], &[]);
    check(&[user, other], &[user, other, ("http.proxy", url)], &[user, other]);
    check(
        &[user, ("HTTP.Proxy", "http://other:1"), other],
        &[user, ("http.proxy", url), other],
        &[user, other],
    );
    // What is not ours is not even printed.
    let others = Environment { git: settings(&[user, other]), ..Environment::default() };
    assert!(to_unset(&others).iter().all(|variable| !variable.name.starts_with("GIT_CONFIG_")));
    let broken = [("GIT_CONFIG_COUNT", "2"), ("GIT_CONFIG_KEY_0", "a.b")];
    let read = |name: &str| broken.iter().find(|(set, _)| *set == name).map(|set| set.1.to_owned());
    assert!(git_settings(read).is_empty());
}
