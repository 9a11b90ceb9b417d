//! The raw cases of the attack suite, replayed whole and byte by byte.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::*;

const FAMILIES: [&str; 12] = [
    "authority-mismatch",
    "baseline-allow",
    "connect-upgrade",
    "expect-1xx",
    "header-collision",
    "hop-by-hop",
    "host-control-bytes",
    "http-syntax",
    "smuggle-chunked",
    "smuggle-cl-te",
    "smuggle-content-length",
    "trace-echo",
];

/// Well-formed as framing; what is wrong with them is for the caller to say, who knows targets:
/// a path in Host, an unknown method, a long list in an ordinary field.
const FOR_THE_CALLER: [&str; 3] = ["AUT-008", "SYX-035", "SYX-045"];

/// The origin of this case answers before the body, which never comes; ours waits for it.
const ANSWERED_EARLY: &str = "EXP-008";

struct Case {
    id: String,
    expected: String,
    must: Vec<String>,
    pieces: Vec<Vec<u8>>,
}

#[tokio::test]
async fn every_raw_case_ends_as_it_says() {
    let cases = cases();
    assert!(cases.len() >= 150, "only {} raw cases found", cases.len());
    for case in &cases {
        let origin = Origin::new(Manner::Opens);
        let reply = exchange(&origin, case.pieces.iter().map(Vec::as_slice)).await;
        check(case, &origin.seen(), &statuses(&reply));
    }
}

#[tokio::test]
async fn every_raw_case_ends_the_same_byte_by_byte() {
    for case in cases() {
        let whole = Origin::new(Manner::Refuses);
        let apart = Origin::new(Manner::Refuses);
        let bytes = case.pieces.concat();
        let once = exchange(&whole, [&bytes[..]]).await;
        let often = exchange(&apart, bytes.chunks(1)).await;
        assert_eq!(whole.seen(), apart.seen(), "{}", case.id);
        assert_eq!(statuses(&once), statuses(&often), "{}", case.id);
    }
}

fn check(case: &Case, seen: &[Seen], statuses: &[u16]) {
    let id = &case.id;
    let faults = |seen: &Seen| match (&seen.fact, &seen.body) {
        (HeadFact::Refused(fault), _) | (HeadFact::Passed(_), Err(Some(fault))) => Some(*fault),
        (HeadFact::Passed(_), Err(None) | Ok(_)) => None,
    };
    assert!(!seen.is_empty(), "{id}: the service was never asked");
    assert!(seen.iter().all(|seen| seen.body != Err(None)), "{id}: a body failed without a fault");
    assert!(seen.iter().all(|seen| !seen.trailers), "{id}: trailers came through");
    let last = faults(&seen[seen.len() - 1]);
    match case.expected.as_str() {
        "reject-400" if FOR_THE_CALLER.contains(&id.as_str()) => assert_eq!(last, None, "{id}"),
        "reject-400" => {
            assert!(last.is_some(), "{id}: passed: {seen:?}");
            assert!(matches!(statuses.last(), Some(400 | 431)), "{id}: {statuses:?}");
            assert!(seen.iter().all(|seen| !seen.target.contains("__smuggled")), "{id}");
        }
        "allow" if id == ANSWERED_EARLY => assert_eq!(last, Some(Fault::BodyCutShort)),
        // Whether a target may be reached is not the gate's to say: these are well-formed.
        "allow" | "deny" => {
            assert_eq!(last, None, "{id}: {seen:?}");
            assert!(statuses.iter().all(|status| matches!(status, 200 | 101)), "{id}");
        }
        // Targets of the wrong form pass, bytes that no target may hold do not.
        "either" => assert_eq!(last.is_some(), id.starts_with("CTL"), "{id}: {last:?}"),
        other => panic!("{id}: unknown expectation {other}"),
    }
    for must in &case.must {
        if let Some(body) = must.strip_prefix("upstream_body==") {
            assert_eq!(seen[0].body.as_deref(), Ok(body.as_bytes()), "{id}");
        }
        if let Some(count) = must.strip_prefix("upstream_requests==") {
            assert_eq!(seen.len().to_string(), count, "{id}: {seen:?}");
        }
    }
}

fn cases() -> Vec<Case> {
    FAMILIES.iter().flat_map(|family| read(family)).collect()
}

/// The raw cases of a family that go to a cleartext port.
fn read(family: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../attack-scenarios/cases");
    let text = fs::read_to_string(folder.join(format!("{family}.jsonl"))).unwrap();
    let values = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    values.filter(|case| case["kind"] == "raw").filter(is_plain).map(case).collect()
}

fn is_plain(case: &Value) -> bool {
    let channel = &case["channel"];
    let listed = channel.as_array().into_iter().flatten().any(|channel| channel == "plain");
    listed || channel == "plain" || channel.is_null()
}

fn case(value: Value) -> Case {
    let input = &value["input"];
    let segments = input["segments"].as_array().map_or(std::slice::from_ref(input), Vec::as_slice);
    let decode = |segment: &Value| {
        BASE64_STANDARD.decode(segment["bytes_b64"].as_str().unwrap_or_default()).unwrap()
    };
    let words = |words: &Value| -> Vec<String> {
        let words = words.as_array().into_iter().flatten();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    Case {
        id: value["id"].as_str().unwrap().to_owned(),
        expected: value["expected"].as_str().unwrap().to_owned(),
        must: words(&value["must"]),
        pieces: segments.iter().map(decode).collect(),
    }
}
