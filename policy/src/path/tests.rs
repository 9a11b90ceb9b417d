use super::*;

fn matches(pattern: &str, path: &str) -> bool {
    PathPattern::parse(pattern).unwrap().matches(path)
}

#[test]
fn a_star_is_one_segment_and_two_are_any_number() {
    let check = |pattern: &str, hits: &[&str], misses: &[&str]| {
        for path in hits {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for path in misses {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    };
    check("/", &["/"], &["/a", "*"]);
    check("/**", &["/", "/a", "/a/b/", "*"], &[]);
    check("/*", &["/a", "/a/"], &["/", "/a/b", "*"]);
    check("/a", &["/a", "/a/"], &["/", "/A", "/ab", "/a/b"]);
    check("/a/", &["/a", "/a/"], &["/a/b"]);
    check("/repos/**", &["/repos", "/repos/", "/repos/x", "/repos/x/y"], &["/repo", "/x/repos"]);
    check("/a/*/c", &["/a/b/c", "/a/b/c/"], &["/a/c", "/a/b/b/c", "/a/b"]);
    check("/a/**/c", &["/a/c", "/a/b/c", "/a/c/c", "/a/b/c/d/c"], &["/a", "/a/b", "/b/a/c"]);
    check("/**/x/*/y/**", &["/x/1/y", "/x/x/1/y/z", "/a/x/x/y"], &["/x/y", "/x/1/2/y"]);
    check("/**/**", &["/", "/a/b"], &[]);
}

#[test]
fn escapes_are_compared_decoded() {
    assert!(matches("/caf%C3%A9", "/caf%c3%a9"));
    assert!(matches("/a!b", "/a%21b"));
    assert!(matches("/a%21b", "/a!b"));
    assert!(!matches("/a%252fb", "/a/b"));
    assert!(matches("/a%25b", "/a%25b"));
}

#[test]
fn many_stars_take_no_time() {
    let pattern = format!("/{}x", "**/a/".repeat(40));
    let path = "/a".repeat(4000);
    assert!(!matches(&pattern, &path));
}

#[test]
fn a_path_with_two_meanings_is_refused_beside_its_nearest_good_one() {
    let beside = |good: &str, bad: &[(&str, PathFault)]| {
        assert_eq!(check(good), Ok(()), "{good}");
        for (path, fault) in bad {
            assert_eq!(check(path), Err(*fault), "{path}");
        }
    };
    use PathFault::*;
    beside("/", &[("//", EmptySegment), ("///", EmptySegment)]);
    beside("/a/", &[("/a//", EmptySegment), ("//a", EmptySegment), ("/a//b", EmptySegment)]);
    beside("/a/.b", &[("/a/.", DotSegment), ("/./a", DotSegment), ("/a/./", DotSegment)]);
    beside("/a/...", &[("/a/..", DotSegment), ("/../a", DotSegment), ("/..", DotSegment)]);
    beside("/a;x=1/b", &[("/a/..;/b", DotSegment), ("/a/.;x=1", DotSegment)]);
    beside("/a/...;", &[("/a/..%3b/b", DotSegment), ("/a/..%3Bx/b", DotSegment)]);
    beside("/a%21", &[("/%2e%2e/a", EscapedSeparator), ("/a%2Fb", EscapedSeparator)]);
    beside("/a%5b", &[("/a%5cb", EscapedSeparator), ("/a\\b", Backslash)]);
    beside("/a%20b", &[("/%61dmin", EscapedUnreserved), ("/a%7E", EscapedUnreserved)]);
    beside("/a%25b", &[("/a%", BadEscape), ("/a%2", BadEscape), ("/a%g1", BadEscape)]);
    beside("/a%01", &[("/a%00", EscapedNul), ("/a%u002f", BadEscape)]);
    beside("/%c2%af", &[("/%c0%af", Overlong), ("/%C1%9c", Overlong)]);
    beside("/%e0%a0%80", &[("/%e0%80%af", Overlong)]);
    beside("/%f0%90%80%80", &[("/%f0%80%80%af", Overlong)]);
    beside("*", &[]);
}

#[test]
fn a_pattern_that_can_match_nothing_is_refused() {
    let fault = |text: &str| PathPattern::parse(text).unwrap_err();
    assert_eq!(fault("repos"), PatternFault::NoSlash);
    assert_eq!(fault(""), PatternFault::NoSlash);
    assert_eq!(fault("/a?b"), PatternFault::NoPath('?'));
    assert_eq!(fault("/a#b"), PatternFault::NoPath('#'));
    assert_eq!(fault("/é"), PatternFault::Byte('é'));
    assert_eq!(fault("/a b"), PatternFault::Byte(' '));
    assert_eq!(fault("/a*"), PatternFault::Partial);
    assert_eq!(fault("/a/***"), PatternFault::Partial);
    assert_eq!(fault("/a//b"), PatternFault::Form(PathFault::EmptySegment));
    assert_eq!(fault("/a/../b"), PatternFault::Form(PathFault::DotSegment));
    assert_eq!(fault("/%61"), PatternFault::Form(PathFault::EscapedUnreserved));
}
