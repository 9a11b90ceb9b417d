use super::*;
use crate::decide::{Ask, TunnelAsk};
use crate::pin::Answers;
use crate::policy::Policy;
use crate::target::{Authority, Method, Target};
use crate::worker::{Labels, Worker};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const PUBLIC: &str = "140.82.112.6";

fn policy(rules: &str) -> Policy {
    let loaded = Policy::load(&format!("version = 1\n{rules}"));
    loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

fn worker(id: &str) -> Worker {
    Worker { id: WorkerId::parse(id).unwrap(), labels: Labels::default() }
}

fn answers(host: &str) -> Answers {
    let address = host.trim_matches(['[', ']']).parse().unwrap_or(PUBLIC.parse().unwrap());
    Answers { addresses: vec![address], aliases: Vec::new() }
}

fn tunnel(policy: &Policy, authority: &str) -> TunnelGrant {
    let authority = Authority::connect(authority).unwrap();
    let ask = TunnelAsk { worker: &worker("w"), authority: &authority };
    let permit = policy.decide_tunnel(&ask, NOW).unwrap();
    let answers = answers(&permit.host().to_string());
    let pinned = permit.pin(&answers, &OwnAddresses::default()).unwrap();
    let first = pinned.addresses()[0];
    pinned.reached(first).unwrap()
}

fn request(policy: &Policy, who: &str, url: &str) -> Permit {
    let target = Target::absolute(url).unwrap();
    let method = Method::parse("GET").unwrap();
    policy.decide(&Ask { worker: &worker(who), method, target: &target }, NOW).unwrap()
}

fn grant(policy: &Policy, url: &str) -> Grant {
    let permit = request(policy, "w", url);
    let pinned = permit.pin(&answers(""), &OwnAddresses::default()).unwrap();
    let first = pinned.addresses()[0];
    pinned.reached(first).unwrap()
}

fn claim(sni: Sni<'_>) -> TlsClaim<'_> {
    TlsClaim { sni, ech: false }
}

fn reason<T>(outcome: Result<T, Denial>) -> Reason {
    outcome.err().map_or(Reason::Allowed, |denial| denial.reason)
}

const WEB: &str = "
    [[rule]]
    id = 'web'
    effect = 'allow'
    hosts = ['a.test', '140.82.112.6', '2606:50c0:8000::153']
    ";

#[test]
fn the_server_name_is_the_host_of_the_connect() {
    let policy = policy(WEB);
    let select =
        |authority: &str, sni| reason(tunnel(&policy, authority).select_tls(claim(sni), NOW));
    use Reason::{Allowed, SniMismatch};
    assert_eq!(select("a.test:443", Sni::Name("a.test")), Allowed);
    assert_eq!(select("a.test:443", Sni::Name("A.TEST")), Allowed);
    for other in ["b.test", "a.test.", "x.a.test", "a.tes", "", "140.82.112.6", "a.test\0"] {
        assert_eq!(select("a.test:443", Sni::Name(other)), SniMismatch, "{other:?}");
    }
    assert_eq!(select("a.test:443", Sni::Absent), SniMismatch);
    assert_eq!(select("a.test:443", Sni::Malformed), SniMismatch);
    assert_eq!(select("140.82.112.6:443", Sni::Absent), Allowed);
    assert_eq!(select("140.82.112.6:443", Sni::Name("140.82.112.6")), SniMismatch);
    assert_eq!(select("140.82.112.6:443", Sni::Name("a.test")), SniMismatch);
    assert_eq!(select("[2606:50c0:8000::153]:443", Sni::Absent), Allowed);
}

#[test]
fn a_rule_may_do_without_a_server_name_but_not_with_another() {
    let policy = policy(&format!("{WEB}sni = 'optional'\n"));
    let select = |sni| reason(tunnel(&policy, "a.test:443").select_tls(claim(sni), NOW));
    assert_eq!(select(Sni::Absent), Reason::Allowed);
    assert_eq!(select(Sni::Name("b.test")), Reason::SniMismatch);
    assert_eq!(select(Sni::Malformed), Reason::SniMismatch);
}

#[test]
fn an_encrypted_hello_needs_a_rule_that_sees_or_allows_it() {
    let select = |fields: &str| {
        let policy = policy(&format!("{WEB}{fields}\n"));
        let hello = TlsClaim { sni: Sni::Name("a.test"), ech: true };
        reason(tunnel(&policy, "a.test:443").select_tls(hello, NOW))
    };
    assert_eq!(select(""), Reason::EchRefused);
    assert_eq!(select("ech = 'allow'"), Reason::Allowed);
    assert_eq!(select("tls = 'intercept'"), Reason::Allowed);
}

#[test]
fn a_protocol_without_a_rule_is_refused_once_it_shows() {
    let web = policy(WEB);
    let raw = policy(&format!("{WEB}schemes = ['tcp']\n"));
    let plain = policy(&format!("{WEB}schemes = ['http']\n"));
    let tls = claim(Sni::Name("a.test"));
    let opaque = |policy: &Policy| tunnel(policy, "a.test:443").opaque();
    assert_eq!([&web, &raw, &plain].map(opaque), [false, true, false]);
    let http = |rules: &str| reason(tunnel(&policy(rules), "a.test:443").select_http());
    let deny = "[[rule]]\nid = 'no'\neffect = 'deny'\nschemes = ['http']\n";
    assert_eq!(http(WEB), Reason::ProtocolNotAllowed);
    assert_eq!(http(&format!("{WEB}schemes = ['http']\n")), Reason::Allowed);
    assert_eq!(http(&format!("{WEB}{deny}")), Reason::RuleDenied);
    // Allowed on another port is not allowed here.
    let elsewhere = "[[rule]]\nid = 'elsewhere'\neffect = 'allow'\nhosts = ['a.test']\n\
                     schemes = ['http']\nports = [80]\n";
    assert_eq!(http(&format!("{WEB}{elsewhere}")), Reason::ProtocolNotAllowed);
    let select = |policy: &Policy| {
        let tunnel = tunnel(policy, "a.test:443");
        [reason(tunnel.select_tls(tls, NOW)), reason(tunnel.select_opaque())]
    };
    assert_eq!(select(&web), [Reason::Allowed, Reason::ProtocolNotAllowed]);
    assert_eq!(select(&raw), [Reason::SchemeNotAllowed, Reason::Allowed]);
    assert_eq!(select(&plain), [Reason::SchemeNotAllowed, Reason::ProtocolNotAllowed]);
}

#[test]
fn what_is_only_reported_passes_unseen_with_strict_names() {
    let policy = policy("[defaults]\nmode = 'report'\nmax_duration = '7m'\n");
    let tunnel = tunnel(&policy, "a.test:443");
    assert!(!tunnel.opaque());
    let passage = tunnel.select_tls(claim(Sni::Name("a.test")), NOW).unwrap();
    assert_eq!(passage.verdict(), Verdict::WouldDeny(Reason::HostNotAllowed));
    assert_eq!((passage.rule(), passage.intercept()), (None, false));
    assert_eq!(passage.limits().max_duration.as_secs(), 420);
    assert_eq!(reason(tunnel.select_tls(claim(Sni::Name("b.test")), NOW)), Reason::SniMismatch);
    let opaque = tunnel.select_opaque().unwrap();
    assert_eq!(opaque.verdict(), Verdict::WouldDeny(Reason::HostNotAllowed));
}

#[test]
fn a_rule_that_expired_since_the_connect_selects_nothing() {
    let policy = policy(&format!("{WEB}expires = 1970-01-01T00:01:00Z\n"));
    let tunnel = tunnel(&policy, "a.test:443");
    let select = |second| {
        let now = Timestamp::from_second(second).unwrap();
        reason(tunnel.select_tls(claim(Sni::Name("a.test")), now))
    };
    assert_eq!(select(59), Reason::Allowed);
    assert_eq!(select(60), Reason::HostNotAllowed);
}

#[test]
fn the_first_allow_that_has_not_expired_is_selected() {
    let rule = |id: &str, second: u8, fields: &str| {
        format!(
            "[[rule]]\nid = '{id}'\neffect = 'allow'\nhosts = ['a.test']\n\
             expires = 1970-01-01T00:00:{second}Z\n{fields}\n"
        )
    };
    let rules = rule("short", 20, "sni = 'optional'") + &rule("long", 40, "sni = 'optional'");
    let select = |policy: &Policy, second, sni| {
        let now = Timestamp::from_second(second).unwrap();
        let passage = tunnel(policy, "a.test:443").select_tls(claim(sni), now)?;
        Ok((passage.rule().map(ToString::to_string), passage.verdict()))
    };
    let name = Sni::Name("a.test");
    let allowed = |rule: &str| Ok((Some(rule.to_owned()), Verdict::Allow));
    let enforce = policy(&rules);
    assert_eq!(select(&enforce, 19, name), allowed("short"));
    assert_eq!(select(&enforce, 20, name), allowed("long"));
    assert_eq!(reason(select(&enforce, 40, name)), Reason::HostNotAllowed);
    assert_eq!(select(&enforce, 0, Sni::Absent), allowed("short"));
    let report = policy(&format!("[defaults]\nmode = 'report'\n{rules}"));
    assert_eq!(select(&report, 39, name), allowed("long"));
    let reported = Verdict::WouldDeny(Reason::HostNotAllowed);
    assert_eq!(select(&report, 40, name), Ok((None, reported)));
    assert_eq!(reason(select(&report, 40, Sni::Absent)), Reason::SniMismatch);
}

#[test]
fn a_name_may_be_absent_only_where_every_live_rule_says_so() {
    let strict = "[[rule]]\nid = 'strict'\neffect = 'allow'\nhosts = ['a.test', '140.82.112.6']\n\
                  expires = 1970-01-01T00:00:10Z\n";
    for rules in
        [format!("{WEB}sni = 'optional'\n{strict}"), format!("{strict}{WEB}sni = 'optional'\n")]
    {
        let policy = policy(&rules);
        let select = |authority: &str, second, sni| {
            let now = Timestamp::from_second(second).unwrap();
            tunnel(&policy, authority).select_tls(claim(sni), now)
        };
        let denial = select("a.test:443", 9, Sni::Absent).unwrap_err();
        assert_eq!(denial.reason, Reason::SniMismatch);
        assert_eq!(denial.rule.unwrap().as_str(), "strict");
        assert_eq!(reason(select("a.test:443", 10, Sni::Absent)), Reason::Allowed);
        assert_eq!(reason(select("a.test:443", 9, Sni::Name("a.test"))), Reason::Allowed);
        assert_eq!(reason(select("140.82.112.6:443", 9, Sni::Absent)), Reason::Allowed);
    }
}

#[test]
fn a_request_goes_over_the_tunnel_of_its_worker_host_and_port_only() {
    let policy = policy(
        "[[rule]]
        id = 'web'
        effect = 'allow'
        hosts = ['a.test', 'b.test']
        schemes = ['http']
        ports = [80, 8080]",
    );
    let tunnel = tunnel(&policy, "a.test:80");
    let own = OwnAddresses::default();
    let over = |who, url| reason(request(&policy, who, url).over(&tunnel, &own));
    assert_eq!(over("w", "http://a.test/"), Reason::Allowed);
    assert_eq!(over("w", "http://a.test:8080/"), Reason::HostMismatch);
    assert_eq!(over("w", "http://b.test/"), Reason::HostMismatch);
    assert_eq!(over("v", "http://a.test/"), Reason::HostMismatch);
    let grant = request(&policy, "w", "http://a.test/").over(&tunnel, &own).unwrap();
    assert_eq!(grant.peer(), tunnel.peer());
}

#[test]
fn a_request_goes_over_a_tunnel_only_to_where_its_own_rule_may_go() {
    let policy = policy(
        "[network]
        [[network.allow]]
        cidr = '10.20.0.0/16'
        rules = ['connect']
        [[rule]]
        id = 'read'
        effect = 'allow'
        hosts = ['a.test']
        schemes = ['http']
        ports = [80]
        methods = ['GET']
        [[rule]]
        id = 'connect'
        effect = 'allow'
        hosts = ['a.test']
        schemes = ['https']
        ports = [80]",
    );
    let own = OwnAddresses::default();
    let authority = Authority::connect("a.test:80").unwrap();
    let over = |addresses: &[&str]| {
        let ask = TunnelAsk { worker: &worker("w"), authority: &authority };
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let answers = Answers { addresses, aliases: vec![] };
        let pinned = policy.decide_tunnel(&ask, NOW).unwrap().pin(&answers, &own).unwrap();
        let first = pinned.addresses()[0];
        let tunnel = pinned.reached(first).unwrap();
        reason(request(&policy, "w", "http://a.test/").over(&tunnel, &own))
    };
    assert_eq!(over(&[PUBLIC]), Reason::Allowed);
    assert_eq!(over(&["10.20.0.1"]), Reason::AddressForbidden);
    // The peer is the first; a direct request would be refused for the other.
    assert_eq!(over(&[PUBLIC, "10.20.0.1"]), Reason::AddressForbidden);
    assert_eq!(over(&[PUBLIC, "140.82.112.7"]), Reason::Allowed);
}

const LENDING: &str = "
    [[rule]]
    id = 'api'
    effect = 'allow'
    hosts = ['a.test', 'b.test']
    schemes = ['https', 'http']
    ports = [443, 8443, 80]
    tls = 'intercept'
    credentials = ['one', 'two']
    [[credential]]
    id = 'one'
    secret = 'local:one'
    hosts = ['a.test']
    inject = { header = 'authorization', value = 'Bearer {secret}' }
    [[credential]]
    id = 'two'
    secret = 'local:two'
    hosts = ['a.test', 'a.test:8443']
    inject = { header = 'x-api-key' }
    ";

#[test]
fn credentials_go_only_to_their_own_hosts_over_tls() {
    let policy = policy(LENDING);
    let placed = |url| {
        let grant = grant(&policy, url);
        let ids = grant.credentials().iter().map(ToString::to_string).collect::<Vec<_>>();
        ids.join(" ")
    };
    assert_eq!(placed("https://a.test/"), "one two");
    assert_eq!(placed("https://a.test:8443/"), "two");
    assert_eq!(placed("https://b.test/"), "");
    assert_eq!(placed("http://a.test/"), "");
    assert_eq!(placed("http://a.test:443/"), "");
}

#[test]
fn what_is_only_reported_carries_no_credential() {
    let mut text = format!("[defaults]\nmode = 'report'\n{LENDING}");
    text = text.replace("'intercept'", "'intercept'\nmethods = ['POST']");
    let policy = policy(&text);
    let grant = grant(&policy, "https://a.test/");
    assert_eq!(grant.verdict(), Verdict::WouldDeny(Reason::MethodNotAllowed));
    assert!(grant.credentials().is_empty());
}

#[test]
fn a_grant_tells_what_its_rule_says() {
    let policy = policy(
        "[defaults]
        idle_timeout = '30s'
        [[rule]]
        id = 'api'
        effect = 'allow'
        hosts = ['a.test']
        tls = 'intercept'
        methods = ['GET']
        expires = 2027-01-01T00:00:00Z
        limits = { requests_per_minute = 600, max_response_bytes = '100MiB' }
        [[rule]]
        id = 'open'
        effect = 'allow'
        hosts = ['b.test']",
    );
    let api = grant(&policy, "https://a.test/");
    assert_eq!(api.rule().unwrap().as_str(), "api");
    assert_eq!(api.expires().unwrap().to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(api.limits().requests_per_minute, Some(600));
    assert_eq!(api.limits().max_response_bytes, 100 << 20);
    assert_eq!(api.limits().max_request_bytes, 1 << 30);
    assert_eq!(api.limits().idle_timeout.as_secs(), 30);
    assert_eq!(api.revision(), policy.revision());
    assert!(api.strips_method_override());
    let open = grant(&policy, "https://b.test/");
    assert!(!open.strips_method_override());
    assert_eq!((open.expires(), open.verdict()), (None, Verdict::Allow));
}

#[test]
fn method_overrides_go_wherever_a_rule_judged_the_request() {
    let strips = |mode: &str, rules: &str| {
        let mut text = format!("[defaults]\nmode = '{mode}'\nschemes = ['http']\nports = [80]\n");
        for (at, rule) in rules.split('|').filter(|rule| !rule.is_empty()).enumerate() {
            text += &format!("[[rule]]\nid = 'r{at}'\n{}\n", rule.trim().replace(", ", "\n"));
        }
        grant(&policy(&text), "http://a.test/").strips_method_override()
    };
    let open = "effect = 'allow', hosts = ['a.test']";
    for judging in [
        "effect = 'deny', methods = ['DELETE']",
        "effect = 'deny', hosts = ['a.test'], paths = ['/admin/**']",
        "effect = 'allow', hosts = ['a.test'], methods = ['PUT']",
        "effect = 'allow', suffixes = ['test'], paths = ['/v1']",
    ] {
        assert!(strips("enforce", &format!("{open}|{judging}")), "{judging}");
        assert!(strips("report", judging), "{judging}");
    }
    for other in [
        "",
        "effect = 'deny', hosts = ['b.test'], methods = ['DELETE']",
        "effect = 'deny', workers = { ids = ['v'] }, methods = ['DELETE']",
        "effect = 'allow', hosts = ['a.test'], methods = ['PUT'], expires = 1970-01-01T00:00:00Z",
        "effect = 'deny', hosts = ['a.test'], ports = [8080]",
    ] {
        assert!(!strips("enforce", &format!("{open}|{other}")), "{other}");
        assert!(!strips("report", other), "{other}");
    }
}

#[test]
fn a_tunnel_tells_what_each_protocol_would_go_on_under() {
    let rules = "
        [[rule]]
        id = 'soon'
        effect = 'allow'
        hosts = ['a.test']
        expires = 1970-01-01T00:00:01Z
        limits = { tunnels = 1 }
        [[rule]]
        id = 'web'
        effect = 'allow'
        hosts = ['a.test']
        schemes = ['http', 'https']
        limits = { tunnels = 2 }";
    let told = |mode: &str, second: i64| {
        let policy = policy(&format!("[defaults]\nmode = '{mode}'\n{rules}"));
        let now = Timestamp::from_second(second).unwrap();
        let authority = Authority::connect("a.test:443").unwrap();
        let ask = TunnelAsk { worker: &worker("w"), authority: &authority };
        let permit = policy.decide_tunnel(&ask, NOW).unwrap();
        let told = |(rule, limits): (Option<&RuleId>, &RuleLimits)| {
            (rule.map(ToString::to_string).unwrap_or_default(), limits.tunnels)
        };
        let http = tunnel(&policy, "a.test:443").http_outcome(now).map(told);
        (permit.outcomes(now).map(told).collect::<Vec<_>>(), http)
    };
    let (soon, web) = (("soon".to_owned(), Some(1)), ("web".to_owned(), Some(2)));
    assert_eq!(told("enforce", 0), (vec![soon.clone(), web.clone()], Some(web.clone())));
    assert_eq!(told("enforce", 1), (vec![web.clone(), web.clone()], Some(web.clone())));
    let reported = (String::new(), None);
    assert_eq!(told("report", 0), (vec![soon, web.clone(), reported], Some(web)));
}

#[test]
fn a_policy_tells_the_limits_of_a_rule() {
    let policy = policy(&format!("{WEB}\nlimits = {{ tunnels = 5 }}"));
    let limits = |id| policy.limits(&RuleId::parse(id).unwrap()).map(|limits| limits.tunnels);
    assert_eq!((limits("web"), limits("other")), (Some(Some(5)), None));
}
