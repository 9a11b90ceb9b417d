use std::time::Duration;

use egret_proxy::{OnFailure, Transport};

use super::*;

mod identity;

const GOOD: &str =
    "version = 1\n[[listener]]\naddress = '127.0.0.1:3128'\nidentity = ['anonymous']\n";
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";

fn loaded(text: &str) -> Loaded {
    let source = SourceText { path: "etc/egret.toml".into(), text: text.to_owned() };
    let environment =
        Environment { state_home: Some("/home/me/state".into()), ..Environment::default() };
    load(&source, &environment)
}

#[track_caller]
fn accepted(text: &str) -> Config {
    let Loaded { config, problems, .. } = loaded(text);
    config.unwrap_or_else(|| panic!("{problems:#?}"))
}

/// Requires one problem, at a line, with a text in its message; and that there is a fix.
#[track_caller]
fn refused(text: &str, line: usize, message: &str) {
    let Loaded { config, problems, .. } = loaded(text);
    assert!(config.is_none(), "accepted:\n{text}");
    let [problem] = problems.as_slice() else { panic!("not one problem: {problems:#?}") };
    assert!(problem.message.contains(message), "{message:?} is not in {:?}", problem.message);
    assert_eq!(problem.line, line, "{problem:?}");
    assert!(!problem.fix.is_empty(), "{problem:?}");
}

fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

fn listener(address: &str, identity: &str) -> String {
    format!("version = 1\n[[listener]]\naddress = '{address}'\nidentity = {identity}\n")
}

#[test]
fn paths_are_relative_to_the_file_and_records_to_the_state() {
    let config = accepted(GOOD);
    assert_eq!(config.policy, Path::new("etc/policy.toml"));
    assert_eq!(config.state, Path::new("/home/me/state"));
    assert_eq!(config.audit.directory, Path::new("/home/me/state/audit"));
    let config =
        accepted(&format!("policy = '../p.toml'\nstate_dir = 'var'\n{GOOD}[audit]\npath = 'log'"));
    assert_eq!(config.policy, Path::new("etc/../p.toml"));
    assert_eq!(config.state, Path::new("etc/var"));
    assert_eq!(config.audit.directory, Path::new("etc/var/log"));
    let config = accepted(&format!("policy = '/p'\nstate_dir = '/s'\n{GOOD}[audit]\npath = '/a'"));
    assert_eq!(
        [config.policy, config.state, config.audit.directory]
            .map(|path| path.display().to_string()),
        ["/p", "/s", "/a"]
    );
    refused(&format!("policy = ''\n{GOOD}"), 1, "`policy` is not a path");
}

#[test]
fn a_file_of_another_version_or_of_none_is_refused() {
    refused(&GOOD.replace("= 1", "= 2"), 1, "reads version 1 of the file, not 2");
    refused(&GOOD.replace("version = 1\n", ""), 1, "has no `version`");
    refused("version = 1\n", 1, "has no `listener`");
    refused("version = 1\nlistener = []\n", 2, "there is no listener");
}

#[test]
fn anonymous_is_for_loopback_addresses() {
    for local in ["127.0.0.1:0", "127.9.9.9:3128", "[::1]:3128", "[::ffff:127.0.0.1]:3128"] {
        accepted(&listener(local, "['anonymous']"));
    }
    for open in ["0.0.0.0:3128", "[::]:3128", "10.0.0.1:3128", "[::ffff:10.0.0.1]:3128"] {
        refused(&listener(open, "['anonymous']"), 4, "everybody who reaches that address");
        accepted(&listener(open, "['token']"));
        refused(&listener(open, "['token', 'anonymous']"), 4, "everybody who reaches");
    }
}

#[test]
fn what_a_listener_cannot_be_is_refused() {
    refused(&listener("127.0.0.1:1", "[]"), 4, "would admit nobody");
    refused(&listener("127.0.0.1:1", "['token', 'token']"), 4, "there twice");
    refused(&listener("127.0.0.1:1", "['tokn']"), 4, "cannot be `tokn`");
    for kind in ["mtls", "lease"] {
        refused(&listener("127.0.0.1:1", &format!("['{kind}']")), 4, "not available in this");
    }
    refused(&listener("localhost:3128", "['token']"), 3, "not an address");
    refused(&with("tls = {}"), 5, "unknown key `tls` in [[listener]]");
    let twice = with("[[listener]]\naddress = '127.0.0.1:3128'\nidentity = ['token']\n");
    refused(&twice, 6, "this address is in line 3 already");
    accepted(&twice.replacen("3128", "3129", 1));
}

#[test]
fn a_worker_has_an_id_and_a_proof_that_somebody_takes() {
    let worker = |id: &str, token: &str| {
        let listener = listener("127.0.0.1:1", "['anonymous', 'token']");
        format!("{listener}[[worker]]\nid = '{id}'\ntoken_sha256 = '{token}'\n")
    };
    let config = accepted(&(worker("ci-1", HASH) + "labels = { pool = 'build' }\n"));
    assert_eq!(config.workers[0].worker.labels.value("pool"), Some("build"));
    assert_eq!(config.workers[0].proofs.token_sha256.map(|digest| digest[31]), Some(0xef));

    refused(&worker("anonymous", HASH), 6, "is reserved");
    refused(&worker("a:b", HASH), 6, "cannot hold a colon");
    refused(&worker("a b", HASH), 6, "`a b` is not an id");
    refused(&worker("ci-1", &HASH[1..]), 7, "not a SHA-256");
    refused(&worker("ci-1", &HASH.replacen('0', "+", 1)), 7, "not a SHA-256");
    refused(&worker("ci-1", HASH).replace("token_sha256", "#"), 5, "[[worker]] has no proof");
    refused(&worker("ci-1", OF_NOTHING), 7, "the SHA-256 of nothing");
    refused(&(worker("ci-1", HASH) + "certificate_sha256 = 'a'"), 8, "unknown key");
    refused(&(worker("ci-1", HASH) + "labels = { a = 1 }"), 8, "must be a text");
    let untaken = worker("ci-1", HASH).replace(", 'token'", "");
    refused(&untaken, 6, "no listener takes the proof of worker `ci-1`");

    let second = |id: &str, token: &str| {
        worker("ci-1", HASH) + &format!("[[worker]]\nid = '{id}'\ntoken_sha256 = '{token}'\n")
    };
    accepted(&second("ci-2", &HASH.replace('0', "1")));
    refused(&second("ci-1", &HASH.replace('0', "1")), 9, "of this id is in line 6 already");
    // Case plays no part in hex: the same token twice.
    refused(&second("ci-2", &HASH.to_uppercase()), 10, "with this token is in line 7 already");
}

#[test]
fn names_and_name_servers() {
    let config = accepted(&with(
        "[dns]\nservers = ['127.0.0.1:5353', '[::1]:53']\ntimeout = '500ms'\nmax_ttl = '5m'\n\
         hosts = { 'db.internal' = ['10.20.0.7', 'fd00::7'] }\n",
    ));
    let dns = config.settings.dns;
    assert_eq!(dns.servers.map(|servers| servers.len()), Some(2));
    assert_eq!((dns.timeout.as_millis(), dns.max_ttl.as_secs()), (500, 300));
    assert_eq!(dns.hosts.values().next().map(Vec::len), Some(2));

    let dns = |line: &str| with(&format!("[dns]\n{line}\n"));
    refused(&dns("servers = []"), 6, "`servers` is empty");
    refused(&dns("servers = ['127.0.0.1']"), 6, "not an address");
    refused(&dns("servers = ['127.0.0.1:0']"), 6, "nobody can be asked");
    refused(&dns("timeout = '0s'"), 6, "not a duration");
    refused(&dns("hosts = { 'DB.internal' = ['10.0.0.1'] }"), 6, "not in normal form");
    refused(&dns("hosts = { '10.0.0.1' = ['10.0.0.1'] }"), 6, "is not a host name");
    refused(&dns("hosts = { a = ['010.0.0.1'] }"), 6, "not an IP address");
    refused(&dns("hosts = { a = [] }"), 6, "a name without an address");
}

#[test]
fn name_servers_by_tls_and_https() {
    let folder = tempfile::TempDir::new().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, egret_testkit::pki::Pki::new().unwrap().root_pem()).unwrap();
    let dns = |servers: &str| {
        with(&format!("[dns]\nservers = [{servers}]\n[tls]\nroots = '{}'\n", roots.display()))
    };
    let read = |servers: &str| {
        let dns = accepted(&dns(servers)).settings.dns;
        let shown = dns.servers.unwrap().into_iter().map(|server| match server.transport {
            Transport::Cleartext => server.address.to_string(),
            Transport::Tls { verified } => format!("tls {} {}", server.address, verified.to_str()),
            Transport::Https { verified, path } => {
                format!("https {}{path} {}", server.address, verified.to_str())
            }
        });
        (shown.collect::<Vec<_>>(), dns.roots.len())
    };
    assert_eq!(read("'192.0.2.1:53'"), (vec!["192.0.2.1:53".into()], 0), "read when needed");
    for (entry, expected) in [
        ("tls://192.0.2.1#dns.test", "tls 192.0.2.1:853 dns.test"),
        ("tls://192.0.2.1:8853#dns.test", "tls 192.0.2.1:8853 dns.test"),
        ("tls://[2001:db8::1]#dns.test", "tls [2001:db8::1]:853 dns.test"),
        ("tls://[2001:db8::1]:8853", "tls [2001:db8::1]:8853 2001:db8::1"),
        ("tls://192.0.2.1", "tls 192.0.2.1:853 192.0.2.1"),
        ("https://192.0.2.1#dns.test", "https 192.0.2.1:443/dns-query dns.test"),
        ("https://192.0.2.1:8443/q/x#dns.test", "https 192.0.2.1:8443/q/x dns.test"),
        ("https://192.0.2.1/dns-query", "https 192.0.2.1:443/dns-query 192.0.2.1"),
    ] {
        assert_eq!(read(&format!("'{entry}'")), (vec![expected.to_owned()], 1), "{entry}");
    }
    read("'tls://192.0.2.1#a.test', 'https://192.0.2.2#b.test', '127.0.0.1:53', '[::1]:53'");

    let entry = |entry: &str| dns(&format!("'{entry}'"));
    refused(&entry("tls://dns.quad9.net"), 6, "`dns.quad9.net` is not an IP address");
    refused(&entry("https://dns.quad9.net/dns-query"), 6, "`dns.quad9.net` is not an IP");
    refused(&entry("tls://2001:db8::1#dns.test"), 6, "where the address");
    refused(&entry("tls://[192.0.2.1]"), 6, "brackets are for IPv6");
    refused(&entry("tls://192.0.2.1#"), 6, "not what a certificate could carry");
    refused(&entry("tls://192.0.2.1#a b"), 6, "not what a certificate could carry");
    refused(&entry("tls://192.0.2.1/dns-query#dns.test"), 6, "has no path");
    refused(&entry("tls://192.0.2.1:0#dns.test"), 6, "nobody can be asked");
    refused(&entry("tls://user@192.0.2.1#dns.test"), 6, "not an IP address");
    refused(&entry("https://192.0.2.1/dns-query{?dns}#dns.test"), 6, "is not a path");
    refused(&entry("https://[2001:db8::1]/dns-query"), 6, "verified by its name");
    refused(&entry("quic://192.0.2.1#dns.test"), 6, "not spoken to by `quic`");
    refused(&entry("http://192.0.2.1/dns-query"), 6, "not spoken to by `http`");
    refused(&entry("tls://[fe80::1]#dns.test"), 6, "depends on an interface");
    refused(&entry("[fe80::1%2]:53"), 6, "depends on an interface");
    refused(&entry("tls://[fe80::1%eth0]#dns.test"), 6, "not an IP address");
    refused(&dns("'tls://192.0.2.1#a.test', '192.0.2.2:53'"), 6, "in cleartext");
    refused(&dns(&["'192.0.2.1:53'"; 9].join(", ")), 6, "there are 9 name servers");
}

#[test]
fn limits_have_bounds() {
    let limits =
        accepted(&with("[limits]\nconnections = 7\nhead_bytes = '8KiB'\ndrain_timeout = '1s'\n"))
            .settings
            .limits;
    assert_eq!((limits.connections, limits.head_bytes), (7, 8192));
    assert_eq!(limits.drain_timeout.as_secs(), 1);
    assert_eq!(limits.connections_per_worker, ConnectionLimits::default().connections_per_worker);

    let limit = |line: &str| with(&format!("[limits]\n{line}\n"));
    refused(&limit("connections = 0"), 6, "out of range");
    refused(&limit("head_bytes = 100"), 6, "out of range");
    refused(&limit("head_bytes = '2MiB'"), 6, "out of range");
    refused(&limit("header_timeout = '1.5s'"), 6, "not a duration");
    let denials = |line: &str| accepted(&limit(line)).settings.limits.denials_per_minute.get();
    assert_eq!((denials("connections = 7"), denials("denials_per_minute = 1")), (600, 1));
    refused(&limit("denials_per_minute = 0"), 6, "out of range");
    refused(&limit("denials_per_minute = 1000001"), 6, "out of range");
}

#[test]
fn records_are_kept_as_the_file_says() {
    let audit = |line: &str| with(&format!("[audit]\n{line}\n"));
    let config = accepted(&audit("on_failure = 'continue'\nsegment = '64KiB'\nkeep = '7d'"));
    let RecordSettings { directory, on_failure, segment, keep } = config.audit;
    assert_eq!(directory, Path::new("/home/me/state/audit"));
    assert_eq!((on_failure, segment), (OnFailure::Continue, 64 << 10));
    assert_eq!(keep, Duration::from_hours(7 * 24));
    let RecordSettings { on_failure, segment, keep, .. } = accepted(GOOD).audit;
    assert_eq!((on_failure, segment), (OnFailure::Refuse, 256 << 20));
    assert_eq!(keep, Duration::from_hours(90 * 24));

    refused(&audit("on_failure = 'ignore'"), 6, "cannot be `ignore`");
    refused(&audit("segment = '63KiB'"), 6, "out of range");
    refused(&audit("segment = '2TiB'"), 6, "out of range");
    refused(&audit("keep = 90"), 6, "has no unit");
    refused(&audit("keep = '0d'"), 6, "not a duration");
}

#[test]
fn trusted_roots_hold_a_certificate() {
    let folder = tempfile::TempDir::new().unwrap();
    let tls = |roots: &str| with(&format!("[tls]\nroots = '{roots}'\n"));
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        tls(&folder.path().join(name).display().to_string())
    };
    accepted(&tls("system"));
    accepted(&tls("bundled"));
    let root = egret_testkit::pki::Pki::new().unwrap().root_pem();
    accepted(&file("good", &root));
    let odd = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    refused(&file("odd", &format!("{root}{odd}")), 6, "certificate 2 of");
    refused(&file("empty", "no PEM\n"), 6, "holds no certificate");
    refused(
        &file("key", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"),
        6,
        "no certificate",
    );
    refused(&file("torn", "-----BEGIN CERTIFICATE-----\nMAA=\n"), 6, "not valid PEM");
    refused(&tls("/nowhere.pem"), 6, "cannot be read");
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let metrics = |address: &str| with(&format!("[metrics]\naddress = '{address}'\n"));
    assert_eq!(accepted(GOOD).metrics, None, "nobody listens who was not asked to");
    let address = accepted(&metrics("127.0.0.1:9181")).metrics.unwrap();
    assert_eq!(address.to_string(), "127.0.0.1:9181");
    refused(&with("[metrics]\n"), 5, "has no `address`");
    refused(&metrics("localhost:9181"), 6, "not an address");
    refused(&metrics("unix:/run/metrics.sock"), 6, "not an address");
    refused(&metrics("127.0.0.1:3128"), 6, "this address is in line 3 already");
    refused(&metrics("0.0.0.0:3128"), 3, "is taken: `0.0.0.0:3128` is every address");

    let warnings = |address: &str| loaded(&metrics(address)).warnings.len();
    assert_eq!((warnings("127.0.0.1:9181"), warnings("[::1]:9181")), (0, 0));
    assert_eq!((warnings("0.0.0.0:9181"), warnings("192.0.2.1:9181")), (1, 1));
}

#[test]
fn all_problems_are_reported_at_once() {
    let Loaded { problems, .. } = loaded(
        "verion = 1\n[[listener]]\nadress = '127.0.0.1:1'\nidentity = ['tokn']\n[limits]\n\
         connections = 'many'\n",
    );
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 1, 2, 3, 4, 6], "{problems:#?}");
    let fixes: Vec<_> = problems.iter().map(|problem| problem.fix.as_str()).collect();
    assert!(fixes.contains(&"did you mean `version`?"), "{fixes:?}");
    assert!(fixes.contains(&"did you mean `address`?"), "{fixes:?}");
}

/// The reader knows exactly the keys that the schema has, in every table.
#[test]
fn the_schema_has_the_keys_of_the_reader() {
    let schema: serde_json::Value = serde_json::from_str(crate::schema::CONFIG).unwrap();
    let text = "zzzzzz = 1\n[[listener]]\nzzzzzz = 1\n[[worker]]\nzzzzzz = 1\n[dns]\nzzzzzz = 1\n\
                [tls]\nzzzzzz = 1\n[limits]\nzzzzzz = 1\n[audit]\nzzzzzz = 1\n\
                [metrics]\nzzzzzz = 1\n";
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for problem in loaded(text).problems {
        if let Some((name, keys)) =
            problem.fix.strip_prefix("keys of ").and_then(|rest| rest.split_once(": "))
        {
            let mut keys: Vec<_> = keys.split(", ").map(str::to_owned).collect();
            keys.sort_unstable();
            known.insert(name.trim_matches(['[', ']']).to_owned(), keys);
        }
    }
    let keys = |table: &serde_json::Value| -> Vec<String> {
        assert_eq!(table["additionalProperties"], false);
        table["properties"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(known.remove("the file"), Some(keys(&schema)));
    for name in ["listener", "worker", "dns", "tls", "limits", "audit", "metrics"] {
        assert_eq!(known.remove(name), Some(keys(&schema["definitions"][name])), "{name}");
    }
    assert_eq!(known, BTreeMap::new(), "tables without a schema");
}

#[test]
fn the_starter_configuration_is_valid() {
    let Loaded { config, problems, warnings } = loaded(crate::starter::CONFIG);
    assert!(config.is_some(), "{problems:#?}");
    assert!(warnings.is_empty(), "{warnings:#?}");
}

/// What the starter file shows commented out is what the reader takes, with the defaults it has.
#[test]
fn the_commented_part_of_the_starter_configuration_is_valid_too() {
    let uncommented: String = crate::starter::CONFIG
        .lines()
        .filter_map(|line| line.strip_prefix("# ").or(Some(line)))
        .filter(|line| line.starts_with(['[', '#']) || line.contains(" = "))
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = accepted(&uncommented);
    assert_eq!(config.workers.len(), 2);
    let (limits, default) = (config.settings.limits, ConnectionLimits::default());
    assert_eq!(format!("{limits:?}"), format!("{default:?}"));
    let default = RecordSettings::in_directory(&config.audit.directory);
    assert_eq!(format!("{:?}", config.audit), format!("{default:?}"));
    let (dns, default) = (config.settings.dns, DnsSettings::default());
    assert_eq!((dns.timeout, dns.max_ttl), (default.timeout, default.max_ttl));
}
