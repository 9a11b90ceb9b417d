use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::PROXY_AUTHORIZATION};
use sha2::{Digest, Sha256};

use super::*;

/// Everybody there is. `near` and `far` share a network and are told apart by their tokens.
const WORKERS: &str = "
    worker    source                   uid   token
    badge     -                        -     badge-token
    room      10.1.0.0/16,fd00:1::/32  -     -
    near      10.2.0.0/16              -     near-token
    far       10.2.0.0/16,10.3.3.3/32  -     far-token
    user      -                        1000  -
    both      -                        1001  both-token
";

/// The rule, case by case: what a listener takes, who connects from where (an address, or the uid
/// of a Unix peer), what `Proxy-Authorization` holds, and who that is.
const RULE: &str = "
    listener takes          from           shows                  identified as

    token                   10.9.9.9       -                      required
    token                   10.9.9.9       badge:badge-token      badge
    token                   10.9.9.9       badge:wrong            invalid
    token                   10.9.9.9       nobody:badge-token     invalid
    token                   10.9.9.9       near:badge-token       invalid
    token                   10.9.9.9       room:                  invalid
    token                   10.9.9.9       bearer=badge-token     badge
    token                   10.9.9.9       bearer=wrong           invalid
    token                   uid=1000       badge:badge-token      badge

    token,anonymous         127.0.0.1      -                      anonymous
    token,anonymous         127.0.0.1      badge:badge-token      badge
    token,anonymous         127.0.0.1      badge:wrong            invalid
    anonymous,token         127.0.0.1      badge:badge-token      badge
    anonymous,token         127.0.0.1      badge:wrong            invalid

    anonymous               127.0.0.1      badge:wrong            anonymous
    anonymous               10.1.0.1       -                      anonymous
    anonymous               uid=1000       -                      anonymous
    source                  10.1.0.1       badge:badge-token      room
    peer                    uid=1000       badge:wrong            user

    source                  10.1.0.1       -                      room
    source                  fd00:1::1      -                      room
    source                  10.0.255.255   -                      required
    source                  10.4.0.0       -                      required
    source                  fd00:2::1      -                      required
    source,anonymous        10.1.0.1       -                      room
    source,anonymous        10.9.9.9       -                      anonymous
    peer                    uid=1000       -                      user
    peer                    uid=1002       -                      required
    peer,anonymous          uid=1000       -                      user
    peer,anonymous          uid=1002       -                      anonymous
    peer                    10.1.0.1       -                      required
    source                  uid=1000       -                      required

    source,token            10.2.0.1       near:near-token        near
    source,token            10.2.0.1       far:far-token          far
    source,token            10.2.0.1       bearer=near-token      near
    source,token            10.2.0.1       near:far-token         invalid
    source,token            10.3.3.3       far:far-token          far
    source,token            10.3.3.3       near:near-token        invalid
    source,token            10.9.9.9       near:near-token        invalid
    peer,token              uid=1001       both:both-token        both
    peer,token              uid=1002       both:both-token        invalid

    token                   10.2.0.1       near:near-token        invalid
    token                   uid=1001       both:both-token        invalid
    token                   10.1.0.1       both:both-token        invalid
    source,token            10.9.9.9       both:both-token        invalid

    source,token            10.2.0.1       -                      required
    source,token            10.3.3.3       -                      required
    peer,token              uid=1001       -                      required
    source,token,anonymous  10.2.0.1       -                      required
    source,token,anonymous  10.3.3.3       -                      required
    peer,token,anonymous    uid=1001       -                      required
    source,anonymous        10.3.3.3       -                      required
    source,anonymous        10.3.3.3       far:far-token          required
    peer,anonymous          uid=1001       both:both-token        required

    source,token            10.9.9.9       badge:badge-token      badge
    source,token            10.1.0.1       badge:badge-token      invalid
    source,token            10.2.0.1       badge:badge-token      invalid
    source,token            10.3.3.3       badge:badge-token      invalid
    source,token            10.1.0.1       near:near-token        invalid
    source,token            10.1.0.1       badge:wrong            invalid
    peer,token              uid=1002       badge:badge-token      badge
    peer,token              uid=1000       badge:badge-token      invalid
    peer,token              uid=1001       badge:badge-token      invalid
    peer,token              uid=1000       both:both-token        invalid
";

fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| !row.is_empty()).skip(1)
}

fn workers() -> StaticWorkers {
    StaticWorkers::new(known())
}

fn known() -> Vec<KnownWorker> {
    let known = |row: Vec<&str>| {
        let [id, source, uid, token] = row[..] else { panic!("{row:?}") };
        let id = WorkerId::parse(id).unwrap();
        let given = |text: &str| text != "-";
        KnownWorker {
            worker: Arc::new(Worker { id, labels: Default::default() }),
            proofs: Proofs {
                token_sha256: given(token).then(|| Sha256::digest(token).into()),
                source: source.split(',').filter_map(|network| network.parse().ok()).collect(),
                uid: uid.parse().ok(),
            },
        }
    };
    rows(WORKERS).map(known).collect()
}

fn listener(takes: &str) -> Identification {
    let kind = |word| match word {
        "token" => IdentityKind::Token,
        "source" => IdentityKind::Source,
        "peer" => IdentityKind::Peer,
        "anonymous" => IdentityKind::Anonymous,
        other => panic!("{other}"),
    };
    Identification::new(takes.split(',').map(kind).collect())
}

fn peer(from: &str) -> Peer {
    match from.strip_prefix("uid=") {
        Some(uid) => Peer::Unix { uid: uid.parse().unwrap() },
        None => Peer::Tcp((from.parse::<IpAddr>().unwrap(), 40000).into()),
    }
}

fn authorization(values: &[&str]) -> HeaderMap {
    let value = |text: &&str| HeaderValue::from_str(text).unwrap();
    values.iter().map(|text| (PROXY_AUTHORIZATION, value(text))).collect()
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn shows(shown: &str) -> HeaderMap {
    match (shown, shown.strip_prefix("bearer=")) {
        ("-", _) => HeaderMap::new(),
        (_, Some(token)) => authorization(&[&format!("Bearer {token}")]),
        (pair, None) => authorization(&[&basic(pair)]),
    }
}

fn identified(takes: &str, from: &str, headers: &HeaderMap, workers: &StaticWorkers) -> String {
    match listener(takes).identify(headers, &peer(from), workers) {
        Ok(worker) => worker.id.to_string(),
        Err(IdentityError::Required) => "required".to_owned(),
        Err(IdentityError::Invalid) => "invalid".to_owned(),
    }
}

#[test]
fn the_rule_holds_case_by_case() {
    let workers = workers();
    let mut wrong = Vec::new();
    for row in rows(RULE) {
        let [takes, from, shown, expected] = row[..] else { panic!("{row:?}") };
        let got = identified(takes, from, &shows(shown), &workers);
        if got != expected {
            wrong.push(format!("{takes} | {from} | {shown}: {got}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The order in which a listener names its kinds is no order in which they are tried.
#[test]
fn the_order_of_the_kinds_plays_no_part() {
    let workers = workers();
    for row in rows(RULE) {
        let [takes, from, shown, expected] = row[..] else { panic!("{row:?}") };
        let reversed: Vec<&str> = takes.split(',').rev().collect();
        assert_eq!(
            identified(&reversed.join(","), from, &shows(shown), &workers),
            expected,
            "{reversed:?} | {from} | {shown}"
        );
    }
}

#[test]
fn odd_credentials_are_invalid_and_never_no_credentials() {
    let workers = workers();
    let good = basic("badge:badge-token");
    let twice = authorization(&[&good, &good]);
    let mixed = authorization(&[&good, "Bearer badge-token"]);
    let odd = ["Basic", "Basic ", "Basic !!!", "Digest eDp5", "Bearer", "Bearer ", ""];
    let no_colon = basic("badge-token");
    let odd = odd.iter().copied().chain([no_colon.as_str()]).map(|text| authorization(&[text]));
    for headers in odd.chain([twice, mixed]) {
        for takes in ["token", "token,anonymous"] {
            assert_eq!(
                identified(takes, "127.0.0.1", &headers, &workers),
                "invalid",
                "{headers:?}"
            );
        }
    }
    for spelling in [good.replace("Basic", "basic"), good.replace(' ', "  ")] {
        let headers = authorization(&[&spelling]);
        assert_eq!(identified("token", "127.0.0.1", &headers, &workers), "badge", "{spelling}");
    }
}

/// What the reader of the configuration refuses is not left to chance if it gets here: whoever
/// cannot be told from another is nobody.
#[test]
fn workers_that_cannot_be_told_apart_are_not_guessed() {
    let worker = |id: &str, source: &str, uid: Option<u32>| KnownWorker {
        worker: Arc::new(Worker { id: WorkerId::parse(id).unwrap(), labels: Default::default() }),
        proofs: Proofs { source: source.parse().into_iter().collect(), uid, token_sha256: None },
    };
    let workers = StaticWorkers::new(vec![
        worker("outer", "10.0.0.0/8", None),
        worker("inner", "10.1.0.0/16", None),
        worker("one", "", Some(7)),
        worker("other", "", Some(7)),
    ]);
    let nothing = HeaderMap::new();
    assert_eq!(identified("source", "10.2.0.1", &nothing, &workers), "outer");
    assert_eq!(identified("source,anonymous", "10.1.0.1", &nothing, &workers), "required");
    assert_eq!(identified("peer,anonymous", "uid=7", &nothing, &workers), "required");
}

/// What was identified under another configuration is not who has the name now, unless nothing about
/// it has changed.
#[test]
fn a_worker_keeps_its_rights_only_while_all_about_it_stays_the_same() {
    let (before, listener) = (workers(), listener("token"));
    let anonymous = WorkerId::parse("anonymous").unwrap();
    let anonymous = Arc::new(Worker { id: anonymous, labels: Default::default() });
    let badge = before.with_id("badge").unwrap().worker.clone();
    assert!(listener.is_admitted(&badge, &before));
    assert!(listener.is_admitted(&anonymous, &before));

    let after = |change: &dyn Fn(&mut KnownWorker)| {
        let mut next = known();
        next.reverse();
        next.iter_mut().filter(|known| known.worker.id == badge.id).for_each(change);
        let (after, gone) = before.succeeded_by(next);
        assert!(listener.is_admitted(&anonymous, &after));
        (listener.is_admitted(&badge, &after), gone.into_iter().collect::<Vec<_>>())
    };
    let lost = (false, vec![badge.id.clone()]);
    assert_eq!(after(&|_| {}), (true, vec![]));
    assert_eq!(after(&|known| known.proofs.uid = Some(77)), lost);
    assert_eq!(after(&|known| known.proofs.token_sha256 = Some([7; 32])), lost);
    let labels = || [("pool", "build")].into_iter().collect();
    let labelled = || Arc::new(Worker { id: badge.id.clone(), labels: labels() });
    assert_eq!(after(&|known| known.worker = labelled()), lost);
    let other = || Arc::new(Worker { id: anonymous.id.clone(), labels: labels() });
    assert_eq!(after(&|known| known.worker = other()), lost);
}
