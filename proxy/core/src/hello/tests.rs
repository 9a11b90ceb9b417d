use proptest::prelude::*;

use super::*;

/// rustls 0.23, TLS 1.3, to `api.example.com`.
const RUSTLS: &str = "\
    1603010103010000ff030387580aa1d5828f9f9015df0e840fed476de5edfc56563cf2bc44d0e074460a6220bb46\
    14d62735b6cb3506f13a8527b0f941501aecb08ea2abd76a0f73b5d72fa50014130213011303c02cc02bcca9c030\
    c02fcca800ff010000a20023000000000014001200000f6170692e6578616d706c652e636f6d000d001c001a0503\
    040306030807080608050804060105010401090409050906003300260024001d0020c414c19d0d153fbbd9aa3d3c\
    a179dbbe21dbfa0bb8d3ef950f8a8c0424f0b40b0010000e000c02683208687474702f312e31000a00040002001d\
    002b00050403040303002d0002010100050005010000000000170000000b00020100
";
/// rustls 0.23 to an IP address, for which it sends no name.
const RUSTLS_ADDRESS: &str = "\
    16030100eb010000e70303f532daf2c715d206e0d9978f8640ddc4ddec5f8c5cbf4d369806e6288a7dd70c20fa25\
    b35eea1a06e0882b30a5ad8be5605fbe69825d2b8a85bb28513b256927620014130213011303c02cc02bcca9c030\
    c02fcca800ff0100008a000500050100000000003300260024001d0020a2aaf650fe3f3f7c6ede25c214e4c6c7db\
    7c0585c0f6bf9a3d5b3ee809fa462d000b00020100002b00050403040303000d001c001a05030403060308070806\
    0805080406010501040109040905090600230000000a00040002001d001700000010000e000c0268320868747470\
    2f312e31002d00020101
";
/// OpenSSL 3.0, TLS 1.2, to `api.example.com`.
const OPENSSL: &str = "\
    16030100b5010000b103033ceba69a02366c222a55e2e9262aacf684445ea0ef6f2953e5fcca4ad4f00a9f00001e\
    c02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100006a00000014001200000f617069\
    2e6578616d706c652e636f6d000b000403000102000a000c000a001d0017001e0019001800230000001600000017\
    0000000d002a0028040305030603080708080809080a080b08040805080604010501060103030301030204020502\
    0602
";

fn captured(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn tls(sni: ClaimedName) -> FirstBytes {
    FirstBytes::Tls(ClientHello { sni, ech: false })
}

fn named(name: &str) -> FirstBytes {
    tls(ClaimedName::Name(name.into()))
}

/// A vector with its length in front, in so many bytes.
fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    [&content.len().to_be_bytes()[size_of::<usize>() - width..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    let entry = [&[0][..], &vector(2, name)].concat();
    extension(0, &vector(2, &entry))
}

/// A handshake message with these extensions.
fn hello(extensions: &[u8]) -> Vec<u8> {
    let start = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    message_of(1, &[&start[..], &vector(2, extensions)].concat())
}

fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(3, body)].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &vector(2, content)].concat()
}

/// A hello with one server name extension of this content.
fn names(content: &[u8]) -> Vec<u8> {
    record(&hello(&extension(0, content)))
}

fn claimed(bytes: &[u8]) -> ClaimedName {
    let told = classify(bytes);
    let FirstBytes::Tls(hello) = told else { panic!("{told:?}") };
    hello.sni
}

/// The answer, after a check that no shorter beginning gives another one.
#[track_caller]
fn told(bytes: &[u8]) -> FirstBytes {
    let told = classify(bytes);
    for end in 0..bytes.len() {
        let early = classify(&bytes[..end]);
        assert!(early == FirstBytes::NeedMore || early == told, "{early:?} after {end} bytes");
    }
    told
}

#[test]
fn captured_hellos_tell_their_name() {
    assert_eq!(told(&captured(RUSTLS)), named("api.example.com"));
    assert_eq!(told(&captured(OPENSSL)), named("api.example.com"));
    assert_eq!(told(&captured(RUSTLS_ADDRESS)), tls(ClaimedName::Absent));
}

#[test]
fn a_hello_may_be_cut_into_records_anywhere() {
    let whole = captured(RUSTLS);
    let message = &whole[5..];
    for at in 1..message.len() {
        let cut = [record(&message[..at]), record(&message[at..])].concat();
        assert_eq!(classify(&cut), named("api.example.com"));
    }
    let bytes: Vec<_> = message.chunks(1).flat_map(record).collect();
    assert_eq!(told(&bytes), named("api.example.com"));
}

#[test]
fn what_follows_in_a_record_of_its_own_is_not_looked_at() {
    let early_data = [&captured(RUSTLS)[..], &[20, 3, 3, 0, 1, 1, 23, 3, 3]].concat();
    assert_eq!(told(&early_data), named("api.example.com"));
}

#[test]
fn odd_names_are_malformed() {
    for (good, bad) in [
        ("a.example", &b"a.example."[..]),
        ("a.example", b".a.example"),
        ("a.example", b"a..example"),
        ("a.example", b"a.example\0.b.example"),
        ("xn--bcher-kva.example", "b\u{fc}cher.example".as_bytes()),
        ("a.example", b"\xff"),
        ("a.example", b""),
        ("a-b_c.Example", b"*.example"),
        ("1.2.3.4.example", b"1.2.3.4"),
        ("a.example", b"[::1]"),
        ("a.example", b"::1"),
        ("a.example", b"a.example:443"),
        ("a.example", b"a example"),
        (&"a.".repeat(127)[..253], &"a.".repeat(128).as_bytes()[..255]),
    ] {
        assert_eq!(told(&record(&hello(&sni(good.as_bytes())))), named(good));
        let bad = record(&hello(&sni(bad)));
        assert_eq!(told(&bad), tls(ClaimedName::Malformed), "beside {good}");
    }
}

#[test]
fn odd_name_lists_are_malformed() {
    let entry = |kind: u8, name: &[u8]| [&[kind][..], &vector(2, name)].concat();
    let one = entry(0, b"a.example");
    assert_eq!(claimed(&names(&vector(2, &one))), ClaimedName::Name("a.example".into()));
    for content in [
        vec![],
        vector(2, &[]),
        vector(2, &[&one[..], &one].concat()),
        vector(2, &[&one[..], &entry(1, b"x")].concat()),
        vector(2, &entry(1, b"a.example")),
        [&vector(2, &one)[..], &[0]].concat(),
        vector(2, &[&one[..], &[0]].concat()),
        vector(2, &one[..one.len() - 1]),
        vector(2, &one)[..5].to_vec(),
    ] {
        assert_eq!(claimed(&names(&content)), ClaimedName::Malformed, "{content:?}");
    }
    let twice = [sni(b"a.example"), sni(b"a.example")].concat();
    assert_eq!(claimed(&record(&hello(&twice))), ClaimedName::Malformed);
    let broken_first = [extension(0, &[]), sni(b"a.example")].concat();
    assert_eq!(claimed(&record(&hello(&broken_first))), ClaimedName::Malformed);
}

#[test]
fn a_hidden_name_is_told() {
    for (kind, ech) in
        [(0xfe0d, true), (0xfe0a, true), (0xffce, true), (0xfe0e, false), (0xfafa, false)]
    {
        let bytes = record(&hello(&[sni(b"a.example"), extension(kind, b"x")].concat()));
        let sni = ClaimedName::Name("a.example".into());
        assert_eq!(told(&bytes), FirstBytes::Tls(ClientHello { sni, ech }));
    }
}

#[test]
fn lengths_must_add_up() {
    let good = hello(&sni(b"a.example"));
    assert_eq!(told(&record(&good)), named("a.example"));
    // Each length of the hello, one too many and one too few, where its last byte stands.
    let session = 4 + 2 + 32;
    for at in [3, session, session + 2, session + 5, session + 8, session + 12] {
        for change in [1, u8::MAX] {
            let mut bad = good.clone();
            bad[at] = bad[at].wrapping_add(change);
            // Without the end of the stream a longer message is one that is not complete.
            let told = told(&[record(&bad), record(&[1])].concat());
            assert_eq!(told, FirstBytes::Other, "length at {at} changed by {change}");
        }
    }
    for message in [
        message_of(1, &[]),
        message_of(1, &[3; 34]),
        [&good[..], &[0]].concat(),
        message_of(1, &[&good[4..], &[0]].concat()),
        hello(&[extension(7, b"x"), extension(7, b"x")].concat()),
        message_of(1, &[&[3, 3][..], &[7; 32], &[0], &[0, 0], &[1, 0]].concat()),
        message_of(1, &[&[3, 3][..], &[7; 32], &[0], &[0, 1, 1], &[1, 0]].concat()),
        message_of(1, &[&[3, 3][..], &[7; 32], &[0], &[0, 2, 1, 1], &[0]].concat()),
        message_of(1, &[&[3, 3][..], &[7; 32], &[33], &[7; 33], &[0, 2, 1, 1], &[1, 0]].concat()),
    ] {
        assert_eq!(told(&record(&message)), FirstBytes::Other, "{message:?}");
    }
    let bare = message_of(1, &[&[3, 3][..], &[7; 32], &[0], &[0, 2, 1, 1], &[1, 0]].concat());
    assert_eq!(told(&record(&bare)), tls(ClaimedName::Absent));
}

#[test]
fn other_records_and_messages_are_other() {
    let good = hello(&sni(b"a.example"));
    for bytes in [
        record(&message_of(2, &good[4..])),
        record(&[&message_of(0, &[])[..], &good].concat()),
        [&[22, 2, 0][..], &vector(2, &good)].concat(),
        [&[21, 3, 1][..], &vector(2, &good)].concat(),
        [record(&[]), record(&good)].concat(),
        [&record(&good[..9])[..], &[21, 3, 1, 0, 2, 1, 0]].concat(),
        [&record(&good[..9])[..], &[20, 3, 1, 0, 1, 1], &record(&good[9..])].concat(),
        // The hello of SSL 2.
        vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10],
        vec![22, 3, 1, 0x40, 1],
    ] {
        assert_eq!(told(&bytes), FirstBytes::Other, "{bytes:?}");
    }
}

#[test]
fn size_is_bounded() {
    let padded = |length: usize| {
        let padding = extension(21, &vec![0; length]);
        let message = hello(&[sni(b"a.example"), padding].concat());
        message.chunks(RECORD_BYTES).flat_map(record).collect::<Vec<_>>()
    };
    let frame = padded(0).len();
    // Four records at most: three more headers.
    let fits = padded(HELLO_BYTES - frame - 3 * RECORD_HEADER);
    assert_eq!(fits.len(), HELLO_BYTES);
    assert_eq!(classify(&fits), named("a.example"));
    assert_eq!(classify(&fits[..fits.len() - 1]), FirstBytes::NeedMore);
    let over = padded(HELLO_BYTES - frame - 3 * RECORD_HEADER + 1);
    assert_eq!(classify(&over), FirstBytes::Other);
    assert_eq!(classify(&over[..over.len() - 10_000]), FirstBytes::Other);
    assert_eq!(classify(&record(&[1, 1, 0, 0])), FirstBytes::Other);
}

#[test]
fn http_is_a_method_and_a_space() {
    for method in
        ["GET ", "M-SEARCH * HTTP/1.1", "PRI * HTTP/2.0\r\n", &format!("{} ", "A".repeat(32))]
    {
        assert_eq!(told(method.as_bytes()), FirstBytes::Http, "{method}");
    }
    for other in [
        "SSH-2.0-OpenSSH_9.6 x",
        "GET\t/",
        "get / HTTP/1.1",
        "\r\nGET / HTTP/1.1",
        " GET / HTTP/1.1",
        "A1 ",
        "\0",
        &"A".repeat(33),
    ] {
        assert_eq!(told(other.as_bytes()), FirstBytes::Other, "{other}");
    }
    assert_eq!(told(b""), FirstBytes::NeedMore);
    assert_eq!(told(b"CONNECT"), FirstBytes::NeedMore);
}

fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let captured = prop::sample::select(vec![captured(RUSTLS), captured(OPENSSL)]);
    (captured, proptest::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_told_once_and_for_all(
        start in prop_oneof![mangled(), proptest::collection::vec(any::<u8>(), 0..80)],
        more in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let early = classify(&start);
        let late = classify(&[start, more].concat());
        prop_assert!(early == FirstBytes::NeedMore || early == late);
        if let FirstBytes::Tls(ClientHello { sni: ClaimedName::Name(name), .. }) = late {
            prop_assert!(is_host(&name));
        }
    }
}
