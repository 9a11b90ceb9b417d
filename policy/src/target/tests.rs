use proptest::prelude::*;

use super::*;
use crate::host::Host;

fn connect(text: &str) -> Result<String, TargetError> {
    Authority::connect(text).map(|authority| authority.to_string())
}

fn absolute(text: &str) -> Result<String, TargetError> {
    Target::absolute(text).map(|target| target.to_string())
}

fn malformed<T>(fault: Malformed) -> Result<T, TargetError> {
    Err(TargetError::Malformed(fault))
}

#[test]
fn a_connect_target_states_its_port_in_plain_digits() {
    assert_eq!(connect("a.example:1").unwrap(), "a.example:1");
    assert_eq!(connect("a.example:65535").unwrap(), "a.example:65535");
    assert_eq!(connect("[::1]:443").unwrap(), "[::1]:443");
    for text in ["a.example", "a.example:", "[::1]", "[::1]:"] {
        assert_eq!(connect(text), malformed(Malformed::PortMissing), "{text}");
    }
    for text in ["a.example:0", "a.example:65536", "a.example:99999"] {
        assert_eq!(connect(text), malformed(Malformed::PortRange), "{text}");
    }
    for port in ["+443", "-1", "0443", "00", " 443", "443 ", "4e2", "https", "100443", "443:443"] {
        let text = format!("a.example:{port}");
        assert_eq!(connect(&text), malformed(Malformed::PortSyntax), "{text}");
    }
}

#[test]
fn a_default_port_fills_in_and_is_never_zero() {
    let read =
        |text, port| Authority::with_default(text, port).map(|a| (a.host().clone(), a.port()));
    let host = Host::from_wire("a.example").unwrap();
    assert_eq!(read("a.example", 80), Ok((host.clone(), 80)));
    assert_eq!(read("a.example:443", 80), Ok((host, 443)));
    assert_eq!(read("a.example:", 80), malformed(Malformed::PortMissing));
    assert_eq!(read("a.example", 0), malformed(Malformed::PortRange));
}

#[test]
fn userinfo_is_refused_on_both_sides_of_the_question_who_is_the_host() {
    for text in ["b@a.example:443", "a.example@b:443", "a.example:443@b:443", "@a.example:443"] {
        assert_eq!(connect(text), malformed(Malformed::Userinfo), "{text}");
        let url = format!("http://{text}/");
        assert_eq!(absolute(&url), malformed(Malformed::Userinfo), "{url}");
    }
    // Behind the authority an `@` is an ordinary byte.
    assert_eq!(absolute("http://a.example/@b").unwrap(), "http://a.example:80/@b");
    assert_eq!(absolute("http://a.example?@b").unwrap(), "http://a.example:80/?@b");
}

#[test]
fn a_target_is_read_into_its_parts() {
    let target = Target::absolute("HTTPS://API.example:8443/a/b?c=/d?e").unwrap();
    assert_eq!(target.scheme(), Scheme::Https);
    assert_eq!(target.authority(), &Authority::connect("api.example:8443").unwrap());
    assert_eq!(target.path(), "/a/b");
    assert_eq!(target.path_and_query(), "/a/b?c=/d?e");
    for (text, shown) in [
        ("http://a.example", "http://a.example:80/"),
        ("https://a.example", "https://a.example:443/"),
        ("http://a.example?x=1", "http://a.example:80/?x=1"),
        ("http://a.example/?", "http://a.example:80/?"),
        ("http://a.example//", "http://a.example:80//"),
    ] {
        assert_eq!(absolute(text).unwrap(), shown);
    }
}

#[test]
fn what_two_readers_could_split_differently_is_malformed_everywhere() {
    for text in ["http://a.example\\b/", "http://a.example/\\b", "http://a.example/?\\b"] {
        assert_eq!(absolute(text), malformed(Malformed::Backslash), "{text}");
    }
    for text in ["http://a.example#b/", "http://a.example/#", "http://a.example/?b#"] {
        assert_eq!(absolute(text), malformed(Malformed::Fragment), "{text}");
    }
    for byte in (0..=b' ').chain([0x7f]) {
        let text = format!("http://a.example/{}", char::from(byte));
        assert_eq!(absolute(&text), malformed(Malformed::Byte { byte, at: 17 }), "{text:?}");
    }
}

#[test]
fn other_schemes_are_told_apart_from_other_forms() {
    for text in ["ftp://a.example/", "wss://a.example/", "tcp://a.example:22", "urn:a", "httpx://a"]
    {
        assert_eq!(absolute(text), Err(TargetError::Scheme), "{text}");
    }
    for text in ["a.example:443", "a.example", "/x", "*", "", "http:a", "http:/a", "h_p://a/"] {
        assert_eq!(absolute(text), malformed(Malformed::Form), "{text}");
    }
}

#[test]
fn origin_form_begins_with_a_slash_or_is_the_star() {
    let authority = Authority::connect("a.example:8080").unwrap();
    let origin = |path| Target::origin(Scheme::Http, &authority, path);
    for path in ["/", "/a?b", "//b.example/", "*", "/*"] {
        let target = origin(path).unwrap();
        assert_eq!(target.path_and_query(), path);
        assert_eq!(target.authority(), &authority);
    }
    for path in ["", "a", "?a", "**", "http://a.example:8080/"] {
        assert_eq!(origin(path), malformed(Malformed::Form), "{path}");
    }
    assert_eq!(origin("/a#b"), malformed(Malformed::Fragment));
    assert_eq!(origin("/a b"), malformed(Malformed::Byte { byte: b' ', at: 2 }));
}

#[test]
fn bytes_that_the_http_library_refuses_in_a_path_are_refused_first() {
    for path in ["/<", "/>", "/`", "/?<", "/?>", "/?\""] {
        assert!(absolute(&format!("http://a.example{path}")).is_err(), "{path}");
    }
    for path in ["/\"", "/?`", "/{|}^[]~!$&'()*+,;=:@%", "/?{|}^[]~!$&'()*+,;=:@%/?"] {
        assert!(absolute(&format!("http://a.example{path}")).is_ok(), "{path}");
    }
}

#[test]
fn a_method_is_a_short_token_that_does_not_echo() {
    for good in ["GET", "get", "PROPFIND", "M-SEARCH", "TRACER", "XTRACE", &"M".repeat(32)] {
        assert_eq!(Method::parse(good).unwrap().as_str(), good);
    }
    for echo in ["TRACE", "trace", "TrAcK", "DEBUG", "debug"] {
        assert_eq!(Method::parse(echo), Err(TargetError::MethodRefused), "{echo}");
    }
    for bad in ["", "GE T", "GET\0", "G\u{c9}T", "GET/", "\"GET\"", "G(T", &"M".repeat(33)] {
        assert_eq!(Method::parse(bad), malformed(Malformed::Method), "{bad}");
    }
}

#[test]
fn defaults_are_what_a_url_without_a_port_means() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let target = Target::absolute(&format!("{scheme}://a.example")).unwrap();
        assert_eq!(scheme.default_port(), Some(target.authority().port()));
    }
    assert_eq!(Scheme::Tcp.default_port(), None);
}

fn near_target() -> impl Strategy<Value = String> {
    prop_oneof![
        "(http|HTTPS|ftp)://[a-z.@\\[\\]:%]{0,12}(:[0-9+]{0,6})?([/?#\\\\][ -~]{0,12})?",
        "https?://[a-z]{1,5}\\.[a-z]{2}(:[1-9][0-9]{0,3})?(/[!-~]{0,12})?",
        "[a-zA-Z0-9.-]{1,8}:[0-9]{0,6}",
        "\\[[0-9a-f:]{2,12}\\]:[0-9]{1,5}",
        "[ -~]{0,24}",
        any::<String>(),
        prop::collection::vec(any::<u8>(), 0..24)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

proptest! {
    #[test]
    fn shown_and_read_again_a_value_is_the_same(text in near_target()) {
        if let Ok(authority) = Authority::connect(&text) {
            prop_assert_eq!(Authority::connect(&authority.to_string()), Ok(authority.clone()));
            prop_assert_eq!(Authority::with_default(&authority.to_string(), 1), Ok(authority));
        }
        if let Ok(target) = Target::absolute(&text) {
            prop_assert_eq!(Target::absolute(&target.to_string()), Ok(target.clone()));
            let (scheme, path) = (target.scheme(), target.path_and_query());
            prop_assert_eq!(Target::origin(scheme, target.authority(), path), Ok(target.clone()));
        }
        let _ = Method::parse(&text);
    }

    #[test]
    fn what_is_taken_is_sent_byte_for_byte(path in "/[!-~]{0,20}") {
        if let Ok(target) = Target::absolute(&format!("http://a.example{path}")) {
            prop_assert_eq!(target.path_and_query(), &path);
            prop_assert!(!path.contains(['#', '\\', '<', '>']));
        }
    }

    #[test]
    fn every_port_and_no_other_number_is_a_port(port in 0..200_000_u32) {
        let read = Authority::connect(&format!("a.example:{port}")).map(|a| u32::from(a.port()));
        prop_assert_eq!(read.ok(), (1..=65535).contains(&port).then_some(port));
    }
}
