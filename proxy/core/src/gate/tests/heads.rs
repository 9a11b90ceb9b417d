//! Each rule about heads: what breaks it, beside the nearest thing that does not.

use super::*;

/// Each head goes through once: `Ok` when it was passed, and then hyper was given it whole.
fn judge(head: &str) -> Result<PassedHead, Fault> {
    let drained = drained(head.as_bytes());
    match drained.facts.next() {
        HeadFact::Passed(passed) => Ok(passed),
        HeadFact::Refused(fault) => {
            assert!(drained.released.starts_with(b"GET http://refused.invalid/ HTTP/1."));
            Err(fault)
        }
    }
}

#[track_caller]
fn check(good: &str, bad: &str, fault: Fault) {
    assert!(judge(good).is_ok(), "{good:?}: {:?}", judge(good));
    assert_eq!(judge(bad), Err(fault), "{bad:?}");
}

/// A head with these lines behind the request line and Host.
fn with(lines: &str) -> String {
    format!("POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n")
}

#[track_caller]
fn check_lines(good: &str, bad: &str, fault: Fault) {
    check(&with(good), &with(bad), fault);
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

#[test]
fn request_lines() {
    let many = "M".repeat(32);
    for (good, bad, fault) in [
        ("GET / HTTP/1.1", "G[T / HTTP/1.1", Fault::Method),
        ("g!#$%&'*+-.^_`|~9 / HTTP/1.1", "g\u{e9}t / HTTP/1.1", Fault::Method),
        ("GET / HTTP/1.1", " GET / HTTP/1.1", Fault::Method),
        (&format!("{many} / HTTP/1.1"), &format!("{many}M / HTTP/1.1"), Fault::Method),
        ("GET / HTTP/1.1", "GET  / HTTP/1.1", Fault::TargetByte),
        ("GET / HTTP/1.1", "GET\t/ HTTP/1.1", Fault::Method),
        ("GET /a%20b HTTP/1.1", "GET /a b HTTP/1.1", Fault::Version),
        ("GET /~ HTTP/1.1", "GET /\x7f HTTP/1.1", Fault::TargetByte),
        ("GET /%C3%A9 HTTP/1.1", "GET /\u{e9} HTTP/1.1", Fault::TargetByte),
        ("GET http://a/ HTTP/1.1", "GET http:/// HTTP/1.1", Fault::Target),
        ("CONNECT a:443 HTTP/1.1", "CONNECT a:443/ HTTP/1.1", Fault::Target),
        ("GET / HTTP/1.0", "GET / HTTP/1.2", Fault::Version),
        ("GET / HTTP/1.1", "GET / http/1.1", Fault::Version),
        ("GET / HTTP/1.1", "GET / HTTP/1.1 ", Fault::Version),
        ("GET / HTTP/1.1", "GET / HTTP/1.1\n", Fault::LineEnd),
        ("GET / HTTP/1.1", "GET / HTTP/1.1\r", Fault::LineEnd),
        ("GET / HTTP/1.1", "GET /\r\n", Fault::TargetByte),
        ("\r\nGET / HTTP/1.1", "\r\n\r\nGET / HTTP/1.1", Fault::Method),
        ("\r\nGET / HTTP/1.1", "\nGET / HTTP/1.1", Fault::Method),
        ("\r\nGET / HTTP/1.1", "\rGET / HTTP/1.1", Fault::LineEnd),
        ("GET / HTTP/1.1", "PRI * HTTP/2.0", Fault::Version),
    ] {
        check(&line(good), &line(bad), fault);
    }
}

#[test]
fn field_lines() {
    let long = "n".repeat(256);
    for (good, bad, fault) in [
        ("X:\r\n", "X\r\n", Fault::FieldName),
        ("X: y\r\n", ": y\r\n", Fault::FieldName),
        ("X: y\r\n", "X : y\r\n", Fault::FieldName),
        ("X: y\r\n", "X(: y\r\n", Fault::FieldName),
        ("X: y\r\n", " X: y\r\n", Fault::Fold),
        ("X: y\r\nZ: z\r\n", "X: y\r\n\tz\r\n", Fault::Fold),
        ("X: y\r\n", "X: y\n", Fault::LineEnd),
        ("X: y\r\n", "X: y\r\r\n", Fault::LineEnd),
        ("X: y\r\n", "\n", Fault::LineEnd),
        ("X: \ty\u{e9}\t \r\n", "X: y\0\r\n", Fault::FieldValue),
        ("X: ~\r\n", "X: \x7f\r\n", Fault::FieldValue),
        (&format!("{long}: y\r\n"), &format!("{long}n: y\r\n"), too_large(Part::FieldName)),
        (&"X: y\r\n".repeat(99), &"X: y\r\n".repeat(100), too_large(Part::Fields)),
    ] {
        check_lines(good, bad, fault);
    }
}

#[test]
fn framing_fields() {
    for (good, bad, fault) in [
        ("Content-Length: 5\r\n", "Content-Length: +5\r\n", Fault::ContentLength),
        ("Content-Length: 5 \t\r\n", "Content-Length: 5,5\r\n", Fault::ContentLength),
        ("Content-Length: 0\r\n", "Content-Length: \r\n", Fault::ContentLength),
        ("X: \u{b}5\r\n", "Content-Length: \u{a0}5\r\n", Fault::ContentLength),
        (
            "Content-Length: 9999999999999999999\r\n",
            "Content-Length: 10000000000000000000\r\n",
            Fault::ContentLength,
        ),
        (
            "Content-Length: 5\r\n",
            "Content-Length: 5\r\ncontent-length: 5\r\n",
            Fault::ContentLengthRepeated,
        ),
        (
            "transfer-encoding:cHUNKED\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            Fault::TransferEncoding,
        ),
        ("TE: identity\r\n", "Transfer-Encoding: identity\r\n", Fault::TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Fault::TransferEncodingRepeated,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            Fault::BothLengths,
        ),
        (
            "Content-Length: 0\r\n",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            Fault::BothLengths,
        ),
        ("Expect: 100-Continue\r\n", "Expect: 100-continue, x\r\n", Fault::Expect),
        ("Expect: 100-continue\r\n", &"Expect: 100-continue\r\n".repeat(2), Fault::Expect),
        ("Connection: close,, te\r\n", "Connection: close; te\r\n", Fault::Connection),
        ("Connection: hosts\r\n", "Connection: close, HOST\r\n", Fault::FramingNominated),
        (
            "Connection: x-content-length\r\n",
            "Connection: Content-Length\r\n",
            Fault::FramingNominated,
        ),
        (
            "Connection: te\r\n",
            "Connection: x\r\nConnection: transfer-encoding\r\n",
            Fault::FramingNominated,
        ),
        (
            &"Connection: a,b\r\n".repeat(32),
            &["Connection: a,b\r\n".repeat(32), "Connection: c\r\n".into()].concat(),
            too_large(Part::ConnectionOptions),
        ),
        ("X-Host: b\r\n", "Host: a.example\r\n", Fault::HostRepeated),
    ] {
        // A tab is white space; a vertical tab is in no value at all, so its neighbour differs.
        let good = good.replace('\u{b}', "\t");
        check_lines(&good, bad, fault);
    }
}

#[test]
fn host_and_version() {
    let modern = "GET / HTTP/1.1\r\n";
    let old = "GET / HTTP/1.0\r\n";
    for (good, bad, fault) in [
        (format!("{old}\r\n"), format!("{modern}\r\n"), Fault::HostMissing),
        (format!("{modern}Host: \r\n\r\n"), format!("{modern}hOst: a b\r\n\r\n"), Fault::Host),
        (
            format!("{old}Host: a\r\n\r\n"),
            format!("{old}Host: a\r\nHost: a\r\n\r\n"),
            Fault::HostRepeated,
        ),
        (
            format!("{old}Content-Length: 5\r\n\r\n"),
            format!("{old}Transfer-Encoding: chunked\r\n\r\n"),
            Fault::TransferEncodingVersion,
        ),
        (format!("{old}X: y\r\n\r\n"), format!("{old}Expect: 100-continue\r\n\r\n"), Fault::Expect),
    ] {
        check(&good, &bad, fault);
    }
}

#[test]
fn connect_has_no_body() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n";
    for framing in ["Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"] {
        check(&format!("{connect}\r\n"), &format!("{connect}{framing}\r\n"), Fault::ConnectBody);
    }
}

#[test]
fn sizes() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length));
    check(&target(8191), &target(8192), too_large(Part::Target));
    let head = |length: usize| {
        let rest = length - with("X: \r\n").len();
        with(&format!("X: {}\r\n", "a".repeat(rest)))
    };
    check(&head(64 << 10), &head((64 << 10) + 1), too_large(Part::Head));
}

#[test]
fn facts_are_those_of_the_wire() {
    let head = "OPTIONS http://u@A.example:080/%2e/?q#f HTTP/1.0\r\nhOST: \t A.example \r\n\r\n";
    assert_eq!(
        judge(head),
        Ok(PassedHead {
            target: "http://u@A.example:080/%2e/?q#f".into(),
            method: "OPTIONS".into(),
            version: Version::HTTP_10,
            host: Some("A.example".into()),
        })
    );
}

fn too_large(what: Part) -> Fault {
    Fault::TooLarge { what }
}
