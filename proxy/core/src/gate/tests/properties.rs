//! Properties over arbitrary bytes, without hyper where its absence makes them sharper.

use proptest::prelude::*;

use super::{
    super::fuzzed::{Drained, drain},
    *,
};

pub(super) fn drained(bytes: &[u8]) -> Drained {
    // No divisor of any limit.
    drain(vec![bytes.to_vec()], 8999)
}

/// Well-formed messages, what hyper is to be given of them, and how many there are.
fn messages() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let head = |framing: &str, name: &str, value: &str| {
        format!(
            "PUT http://a.example/{name} HTTP/1.1\r\nHost: a.example\r\n{name}:{value}\r\n{framing}\r\n"
        )
    };
    let field = || ("[a-z!#$%&'*+.^_`|~-]{1,20}x", "[ \t!-~\u{80}-\u{ff}]{0,40}");
    let data = || proptest::collection::vec(any::<u8>(), 0..300);
    let plain = field().prop_map(move |(name, value)| {
        let head = head("", &name.replace(['^', '`', '|', '#', '%'], ""), &value).into_bytes();
        (head.clone(), head)
    });
    let length = (field(), data()).prop_map(move |((_, value), data)| {
        let head = head(&format!("content-length: {}\r\n", data.len()), "x", &value);
        let message = [head.as_bytes(), &data].concat();
        (message.clone(), message)
    });
    let chunked = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..5)
        .prop_map(move |chunks| {
            let head = head("Transfer-Encoding: chunked\r\n", "x", "");
            let mut sent = head.clone().into_bytes();
            let mut clean = head.into_bytes();
            for chunk in chunks {
                sent.extend(format!("{:04X};x=\"y\"\r\n", chunk.len()).into_bytes());
                clean.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                for message in [&mut sent, &mut clean] {
                    message.extend(&chunk);
                    message.extend(b"\r\n");
                }
            }
            sent.extend(b"0\r\nx: y\r\n\r\n");
            clean.extend(b"0\r\n\r\n");
            (sent, clean)
        });
    proptest::collection::vec(prop_oneof![plain, length, chunked], 0..4)
        .prop_map(|messages| messages.into_iter().unzip::<_, _, Vec<_>, Vec<_>>())
        .prop_map(|(sent, clean)| (sent.concat(), clean.concat()))
}

/// Something a client might write: well-formed or not, or well-formed with a few bytes changed.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let mangled =
        (messages(), proptest::collection::vec((any::<prop::sample::Index>(), odd()), 0..3))
            .prop_map(|((mut bytes, _), changes)| {
                for (at, byte) in
                    changes.into_iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>()
                {
                    let at = at.index(bytes.len());
                    match byte {
                        Some(byte) => bytes.insert(at, byte),
                        None => drop(bytes.remove(at)),
                    }
                }
                bytes
            });
    let tail = proptest::collection::vec(any::<u8>(), 0..100);
    prop_oneof![1 => tail.clone(), 4 => (mangled, tail).prop_map(|(head, tail)| [head, tail].concat())]
}

fn odd() -> impl Strategy<Value = Option<u8>> {
    let byte = prop::sample::select(b"\r\n \t:;,\0\x7f\x80\xff01aZ-/".to_vec());
    prop_oneof![3 => byte.prop_map(Some), 1 => Just(None)]
}

fn cut(bytes: &[u8], at: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<_> = at.iter().map(|at| at.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|range| bytes[range[0]..range[1]].to_vec()).collect()
}

proptest! {
    /// Any way of cutting the bytes gives the same facts and the same bytes to hyper.
    #[test]
    fn cutting_changes_nothing(
        bytes in bytes(),
        at in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        room in 1_usize..9000,
    ) {
        let mut whole = drained(&bytes);
        let mut apart = drain(cut(&bytes, &at), room);
        let mut single = drain(bytes.chunks(1).map(<[u8]>::to_vec).collect(), 1);
        prop_assert_eq!(&whole.released, &apart.released);
        prop_assert_eq!(&whole.released, &single.released);
        let facts = whole.facts();
        prop_assert_eq!(&facts, &apart.facts());
        prop_assert_eq!(&facts, &single.facts());
    }

    /// Good messages come through whole, and of a bad one behind them not a byte.
    #[test]
    fn of_a_bad_head_nothing_is_released(
        (sent, clean) in messages(),
        bad in prop::sample::select(vec![
            &b"\n"[..], b"\r\r", b"\r\n\r\n", b"G@T ", b"GET  ", b"GET \xff", b"GET / HTTP/1.2",
            b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\n X: y", b"GET / HTTP/1.1\r\nX : y",
            b"GET / HTTP/1.1\r\nX: \0", b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n",
        ]),
        tail in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut drained = drained(&[&sent, bad, &tail].concat());
        let stand_in = drained.released.strip_prefix(&clean[..]);
        prop_assert!(stand_in.is_some_and(|stand_in| stand_in.starts_with(b"GET http://refused.invalid/ ")));
        let (facts, fault) = drained.facts();
        prop_assert!(matches!(facts.last(), Some(HeadFact::Refused(_))));
        prop_assert_eq!(fault, None);
    }

    /// hyper takes every head that the gate passes, and reads the same out of it.
    #[test]
    fn hyper_never_answers_by_itself(bytes in bytes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let origin = Origin::new(Manner::Refuses);
        let reply = runtime.block_on(exchange(&origin, [&bytes[..]]));
        let (facts, fault) = drained(&bytes).facts();
        let seen = origin.seen();
        prop_assert_eq!(statuses(&reply).len(), seen.len());
        prop_assert_eq!(seen.iter().map(|seen| seen.fact.clone()).collect::<Vec<_>>(), facts);
        prop_assert_eq!(seen.iter().find_map(|seen| seen.body.clone().err().flatten()), fault);
        for seen in seen {
            if let HeadFact::Passed(head) = seen.fact {
                prop_assert_eq!(seen.method, head.method);
                prop_assert!(head.target.starts_with(seen.target.trim_end_matches('/')));
            }
        }
    }
}
