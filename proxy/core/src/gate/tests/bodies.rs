//! Bodies: what breaks one, how it is answered, and what hyper is given of a good one.

use super::*;

const CHUNKED: &[u8] = b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const SIZED: &[u8] =
    b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n";

/// Returns what hyper is given behind the head of a chunked body.
fn judge(body: &str) -> Result<String, Fault> {
    let drained = drained(&[CHUNKED, body.as_bytes()].concat());
    let released = drained.released.strip_prefix(CHUNKED).unwrap();
    let released = String::from_utf8_lossy(released).into_owned();
    match drained.facts.body_fault() {
        None => Ok(released),
        Some(Fault::BodyCutShort) => Err(Fault::BodyCutShort),
        Some(fault) => {
            assert!(released.ends_with('!'), "{released:?} would not fail");
            Err(fault)
        }
    }
}

#[test]
fn chunks() {
    let long = |size: usize| format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(size - 1));
    let spread = |count: usize| format!("{}0\r\n\r\n", "1;xxxxxx\r\na\r\n".repeat(count));
    let trailers = |count: usize| format!("0\r\n{}\r\n", "x: y\r\n".repeat(count));
    let trailer = |size: usize| format!("0\r\nx:{}\r\n\r\n", "y".repeat(size - 6));
    let too_large = |what| Fault::TooLarge { what };
    for (good, bad, fault) in [
        ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n\r\n0\r\n\r\n", Fault::ChunkSize),
        ("000\r\n\r\n", "\r\n\r\n", Fault::ChunkSize),
        ("0000000000000000\r\n\r\n", "00000000000000000\r\n\r\n", Fault::ChunkSize),
        ("fF\r\n", "0xF\r\n", Fault::ChunkSize),
        ("4000000000000000\r\n", "4000000000000001\r\n", Fault::ChunkSize),
        ("4000000000000000\r\n", "ffffffffffffffff\r\n", Fault::ChunkSize),
        ("0\r\n\r\n", "0\n\r\n", Fault::ChunkSize),
        ("0\r\n\r\n", "0\r\r\n", Fault::LineEnd),
        ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", Fault::ChunkEnd),
        ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r0\r\n\r\n", Fault::ChunkEnd),
        ("0;a\r\n\r\n", "0;\r\n\r\n", Fault::ChunkExtension),
        ("0 ; a = b ; c\r\n\r\n", "0 \r\n\r\n", Fault::ChunkExtension),
        ("0;a=b\r\n\r\n", "0;a=\r\n\r\n", Fault::ChunkExtension),
        ("0;a=b\r\n\r\n", "0;=b\r\n\r\n", Fault::ChunkExtension),
        ("0;a=b;c\r\n\r\n", "0;a=b c\r\n\r\n", Fault::ChunkExtension),
        ("0;a=\"b\\\"c\"\r\n\r\n", "0;a=\"b\"c\"\r\n\r\n", Fault::ChunkExtension),
        ("0;a=\"\t\"\r\n\r\n", "0;a=\"\0\"\r\n\r\n", Fault::ChunkExtension),
        ("0;a=\"b\"\r\n\r\n", "0;a=\"b\r\n\r\n", Fault::ChunkExtension),
        (&long(16 << 10), &long((16 << 10) + 1), Fault::ChunkExtension),
        (&spread(2340), &spread(2341), Fault::ChunkExtension),
        ("0\r\nx: y\r\n\r\n", "0\r\nx y\r\n\r\n", Fault::FieldName),
        ("0\r\nx: y\r\n\r\n", "0\r\nx: y\n\n", Fault::LineEnd),
        (&trailers(100), &trailers(101), too_large(Part::Fields)),
        (&trailer(16 << 10), &trailer((16 << 10) + 1), too_large(Part::Trailers)),
    ] {
        let allowed = matches!(judge(good), Ok(_) | Err(Fault::BodyCutShort));
        assert!(allowed, "{good:.60?}: {:?}", judge(good));
        assert_eq!(judge(bad), Err(fault), "{bad:.60?}");
    }
}

#[tokio::test]
async fn a_broken_body_is_answered_and_ends_the_connection() {
    for (head, body, fault) in [
        (CHUNKED, &b"3\r\nabc\r\nz\r\n"[..], Fault::ChunkSize),
        (CHUNKED, b"3\r\nabcd\r\n0\r\n\r\n", Fault::ChunkEnd),
        (CHUNKED, b"3;\r\nabc\r\n0\r\n\r\n", Fault::ChunkExtension),
        (CHUNKED, b"3\r\nabc\r\n0\r\n x: y\r\n\r\n", Fault::Fold),
        (CHUNKED, b"3\r\nabc\r\n", Fault::BodyCutShort),
        (CHUNKED, b"3\r\na", Fault::BodyCutShort),
        (SIZED, b"abc", Fault::BodyCutShort),
    ] {
        let after: &[u8] = if fault == Fault::BodyCutShort { b"" } else { GET };
        let (origin, reply) = run(Manner::Opens, &[head, body, after]).await;
        assert_eq!(statuses(&reply), [400], "{fault}");
        assert_eq!(origin.seen().len(), 1);
        assert_eq!(origin.seen()[0].body, Err(Some(fault)));
    }
}

#[tokio::test]
async fn extensions_and_trailers_are_checked_and_dropped() {
    let body = b"3 ; a = \"x\\\"\xff\"; b=c;d\r\nabc\r\n0A\r\n0123456789\r\n000\r\nHost: b\r\nX: y\r\n\r\n";
    let drained = drained(&[CHUNKED, body, GET].concat());
    let clean = b"3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(drained.released, [CHUNKED, clean, GET].concat());
}

#[tokio::test]
async fn leading_zeros_of_a_length_are_not_handed_on() {
    let head =
        b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0010\r\n\r\n";
    let drained = drained(&[head, &b"0123456789"[..], GET].concat());
    let clean =
        b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length:   10\r\n\r\n";
    assert_eq!(drained.released, [clean, &b"0123456789"[..], GET].concat());
}
