//! Which listeners and workers fit together, and what is said about those that do not.

use super::*;

const OTHER_HASH: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const UNIX: &str = "unix:/run/egret/proxy.sock";

fn worker(id: &str, proofs: &str) -> String {
    format!("[[worker]]\nid = '{id}'\n{proofs}\n")
}

fn token(hash: &str) -> String {
    format!("token_sha256 = '{hash}'")
}

/// Requires one problem, at the text `at`, with a text in its message and one in its fix.
#[track_caller]
fn refused_at(text: &str, at: &str, message: &str, fix: &str) {
    let Loaded { config, problems, .. } = loaded(text);
    assert!(config.is_none(), "accepted:\n{text}");
    let [problem] = problems.as_slice() else { panic!("not one problem: {problems:#?}") };
    assert!(problem.message.contains(message), "{message:?} is not in {:?}", problem.message);
    assert!(problem.fix.contains(fix), "{fix:?} is not in {:?}", problem.fix);
    assert!(
        text[problem.span.clone()].contains(at),
        "{at:?} is not in {:?}",
        &text[problem.span.clone()]
    );
}

#[test]
fn a_unix_socket_has_an_absolute_and_plain_path() {
    let config = accepted(&listener(UNIX, "['anonymous']"));
    assert_eq!(config.settings.listeners[0].address.to_string(), UNIX);
    let refused = |address: &str, message: &str, fix: &str| {
        refused_at(&listener(address, "['anonymous']"), address, message, fix);
    };
    refused("unix:proxy.sock", "not an absolute path", "unix:/run/egret/proxy.sock");
    refused("unix:./proxy.sock", "not an absolute path", "unix:/run/egret/proxy.sock");
    refused("unix:", "not an absolute path", "unix:/run/egret/proxy.sock");
    refused("unix:@egret", "without a file", "unix:/run/egret/proxy.sock");
    refused("unix:/run/../run/x", "not the plain path", "leave out `..`");
    refused("unix:/run/egret/", "not the plain path", "a slash at the end");
    refused(&format!("unix:/{}", "x".repeat(120)), "too long", "100 bytes");
    let control =
        listener("unix:/run/x", "['anonymous']").replace("'unix:/run/x'", "\"unix:/run/\\n\"");
    refused_at(&control, "unix", "not the plain path", "controls");
    // Two spellings of one path are one address.
    let twice = listener(UNIX, "['anonymous']")
        + "[[listener]]\naddress = 'unix:/run//egret/./proxy.sock'\nidentity = ['anonymous']\n";
    refused_at(&twice, "//egret", "this address is in line 3 already", "its own address");
}

#[test]
fn a_wildcard_is_every_address_of_its_port() {
    let two = |first: &str, second: &str| {
        let second = format!("[[listener]]\naddress = '{second}'\nidentity = ['token']\n");
        listener(first, "['token']") + &second + &worker("a", &token(HASH))
    };
    for (wildcard, covered) in [
        ("[::]:3128", "0.0.0.0:3128"),
        ("[::]:3128", "127.0.0.1:3128"),
        ("[::]:3128", "[::1]:3128"),
        ("0.0.0.0:3128", "127.0.0.1:3128"),
    ] {
        let every = format!("`{wildcard}` is every address");
        refused_at(&two(wildcard, covered), covered, &every, "different ports");
        refused_at(&two(covered, wildcard), covered, &every, "different ports");
        accepted(&two(wildcard, &covered.replace(":3128", ":3129")));
    }
    accepted(&two("0.0.0.0:3128", "[::1]:3128"));
    accepted(&two("127.0.0.1:3128", "[::1]:3128"));
    accepted(&two("[::]:0", "[::1]:0"));
}

#[test]
fn a_listener_takes_only_what_can_be_proved_there() {
    let user = worker("a", "uid = 1000");
    let room = worker("a", "source = ['10.1.0.0/16']");
    accepted(&(listener(UNIX, "['peer']") + &user));
    accepted(&(listener("127.0.0.1:1", "['source']") + &room));
    accepted(&(listener(UNIX, "['peer', 'anonymous']") + &user));
    for address in ["127.0.0.1:1", "[::1]:1", "10.0.0.1:1"] {
        let text = listener(address, "['token', 'peer']") + &worker("a", &token(HASH));
        refused_at(&text, "peer", "does not tell which user", "unix:/…");
    }
    let text = listener(UNIX, "['token', 'source']") + &worker("a", &token(HASH));
    refused_at(&text, "source", "whoever connects there has no address", "take `peer`");
}

#[test]
fn a_worker_gives_proofs_that_one_listener_takes_together() {
    let both = worker("a", &format!("source = ['10.1.0.0/16']\n{}", token(HASH)));
    accepted(&(listener("127.0.0.1:1", "['token', 'source']") + &both));
    let apart = listener("127.0.0.1:1", "['token', 'anonymous']")
        + "[[listener]]\naddress = '127.0.0.1:2'\nidentity = ['source', 'anonymous']\n"
        + &both;
    refused_at(&apart, "a", "no listener takes all proofs of worker `a`", "`source` and `token`");
    let tcp = listener("127.0.0.1:1", "['token', 'anonymous']") + &worker("a", "uid = 1000");
    refused_at(&tcp, "a", "no listener takes the proof", "a listener on a Unix socket");
    let never = listener(UNIX, "['peer', 'anonymous']")
        + &worker("a", "source = ['10.1.0.0/16']\nuid = 1000");
    refused_at(&never, "uid", "an address or a user, never both", "a worker for each");
    // A colon ends the user name of Basic credentials, and matters nowhere else.
    accepted(&(listener(UNIX, "['peer']") + &worker("a:b", "uid = 1000")));
    let none = listener("127.0.0.1:1", "['token', 'anonymous']") + &worker("a", "");
    refused_at(&none, "[[worker]]", "has no proof", "token_sha256");
}

#[test]
fn sources_are_networks_that_prove_something() {
    let text = |source: &str| {
        listener("127.0.0.1:1", "['source', 'anonymous']")
            + &worker("a", &format!("source = [{source}]"))
    };
    let config = accepted(&text("'10.1.0.0/16', '10.9.9.9/32', 'fd00::/8'"));
    assert_eq!(config.workers[0].proofs.source.len(), 3);
    refused_at(&text("'10.1.2.3/16'"), "10.1.2.3", "bits set behind its prefix", "`10.1.0.0/16`");
    refused_at(&text("'10.1.2.3'"), "10.1.2.3", "not a network", "`10.1.2.3/32`");
    refused_at(&text("'FD00::/8'"), "FD00", "not in normal form", "`fd00::/8`");
    refused_at(&text("'10.1.0.0/33'"), "33", "not a network", "10.20.0.0/16");
    refused_at(&text("'::ffff:10.1.0.0/112'"), "ffff", "IPv4", "`10.1.0.0/16`");
    refused_at(&text("'0.0.0.0/0'"), "0.0.0.0", "every address there is", "leave `source` out");
    refused_at(&text("'::/0'"), "::/0", "every address there is", "leave `source` out");
    refused_at(&text(""), "[]", "`source` is empty", "leave it out");
}

#[test]
fn users_are_numbers_that_mean_one_user() {
    let text =
        |uid: &str| listener(UNIX, "['peer', 'anonymous']") + &worker("a", &format!("uid = {uid}"));
    for good in ["0", "1000", "65533", "4294967294"] {
        accepted(&text(good));
    }
    refused_at(&text("4294967295"), "4294967295", "out of range", "0 to 4294967294");
    refused_at(&text("-1"), "-1", "out of range", "0 to 4294967294");
    refused_at(&text("'root'"), "root", "a whole number", "digits");
    refused_at(&text("65534"), "65534", "also stands for every user", "a user of its own");
}

#[test]
fn workers_of_one_place_need_a_token_each() {
    let two = |identity: &str, first: &str, second: &str| {
        let address = if identity.contains("peer") { UNIX } else { "127.0.0.1:1" };
        listener(address, identity) + &worker("a", first) + &worker("b", second)
    };
    let source = |network: &str| format!("source = ['{network}']");
    let and = |place: &str, hash: &str| format!("{place}\n{}", token(hash));
    let takes = "['source', 'token', 'anonymous']";
    let (wide, narrow) = (source("10.0.0.0/8"), source("10.1.0.0/16"));

    accepted(&two(takes, &source("10.1.0.0/16"), &source("10.2.0.0/16")));
    accepted(&two(takes, &and(&wide, HASH), &and(&narrow, OTHER_HASH)));
    accepted(&two(takes, &and(&wide, HASH), &and(&wide, OTHER_HASH)));
    for (first, second) in [
        (wide.clone(), narrow.clone()),
        (narrow.clone(), wide.clone()),
        (wide.clone(), wide.clone()),
        // The token of one would make it both, and without it must not make it the other.
        (and(&wide, HASH), narrow.clone()),
        (narrow.clone(), and(&wide, HASH)),
    ] {
        let text = two(takes, &first, &second);
        refused_at(&text, "10.", "shares addresses with `10.", "addresses of its own, or a token");
        assert!(loaded(&text).problems[0].line > 8, "the second of the two is named");
    }
    // Within one worker nothing has to be told apart.
    accepted(&two(takes, "source = ['10.0.0.0/8', '10.1.0.0/16']", &source("11.0.0.0/8")));
    // Nor is what lies between two others' networks, or behind a nested one, anybody's fault.
    accepted(&two(
        takes,
        "source = ['10.1.0.0/24', '10.1.2.0/24']",
        "source = ['10.1.1.0/24', '10.1.3.0/24']",
    ));

    let (takes, user) = ("['peer', 'token', 'anonymous']", "uid = 1000");
    accepted(&two(takes, user, "uid = 1001"));
    accepted(&two(takes, &and(user, HASH), &and(user, OTHER_HASH)));
    for (first, second) in [(user.to_owned(), user.to_owned()), (and(user, HASH), user.to_owned())]
    {
        let text = two(takes, &first, &second);
        refused_at(
            &text,
            "1000",
            "uid 1000 is a worker's in line",
            "a user of its own, or a token",
        );
    }
}

#[test]
fn a_listener_that_admits_nobody_is_worth_a_warning() {
    let warned = |text: &str| {
        let Loaded { config, warnings, problems } = loaded(text);
        assert!(config.is_some(), "{problems:?}");
        warnings.iter().any(|warning| warning.message.contains("admits nobody"))
    };
    assert!(warned(&listener("127.0.0.1:1", "['token']")));
    assert!(!warned(&listener("127.0.0.1:1", "['token', 'anonymous']")));
    assert!(!warned(&(listener("127.0.0.1:1", "['token']") + &worker("a", &token(HASH)))));
    let half = listener("127.0.0.1:1", "['token', 'source']")
        + "[[listener]]\naddress = '127.0.0.1:2'\nidentity = ['source']\n"
        + &worker("a", &format!("source = ['10.1.0.0/16']\n{}", token(HASH)));
    assert!(warned(&half));
}

#[test]
fn a_problem_has_no_consequences() {
    // What could not be read is required none the less, and neither missing nor shared.
    let torn = listener("127.0.0.1:1", "['source', 'token']")
        + &worker("a", "source = ['10.1.0.0/16']\ntoken_sha256 = 'short'")
        + &worker("b", &format!("source = ['10.1.0.0/16']\n{}", token(HASH)));
    refused_at(&torn, "short", "not a SHA-256", "egret worker token");
    let torn = listener("127.0.0.1:1", "['source', 'tokn']") + &worker("a", &token(HASH));
    let problems = loaded(&torn).problems;
    assert!(problems[0].fix.contains("did you mean `token`?"), "{problems:?}");
}
