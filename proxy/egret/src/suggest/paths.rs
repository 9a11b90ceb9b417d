//! Paths as a policy would name them.
//!
//! A path is named as it was seen, unless it has a form that a policy cannot name. Segments that
//! look like ids become `*` where three different ones stood in the same place: two may be chance,
//! and a word that only looks like an id is not worth more than a `*`.

use std::collections::{BTreeMap, BTreeSet};

/// How many different ids make a `*`.
const SAMPLES: usize = 3;
/// Patterns that a person would still read.
const MOST: usize = 24;

/// Returns patterns that match all of the paths; none if they cannot be named, or are too many.
pub(super) fn patterns<'p>(paths: impl IntoIterator<Item = &'p str>) -> Option<BTreeSet<String>> {
    let mut by_template: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for path in paths {
        if !is_plain(path) {
            return None;
        }
        by_template.entry(template(path)).or_default().insert(path);
    }
    let mut patterns = BTreeSet::new();
    for (template, paths) in by_template {
        if paths.len() >= SAMPLES {
            patterns.insert(template);
        } else {
            patterns.extend(paths.into_iter().map(str::to_owned));
        }
    }
    (patterns.len() <= MOST).then_some(patterns)
}

/// The path with `*` for each segment that looks like an id.
fn template(path: &str) -> String {
    let segments = path.split('/').map(|segment| if is_id(segment) { "*" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let hex = |byte: &u8| byte.is_ascii_hexdigit();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let number = !bytes.is_empty() && digits == bytes.len();
    let uuid = bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => hex(byte),
        });
    let digest = bytes.len() >= 16 && digits > 0 && bytes.iter().all(hex);
    let ulid = bytes.len() == 26
        && digits > 0
        && bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    number || uuid || digest || ulid
}

/// Whether a policy can name the path, and means only this one by it.
pub(super) fn is_plain(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte);
    let is_dots = |segment: &str| {
        let name = segment.split(';').next().unwrap_or(segment);
        matches!(name, "." | "..")
    };
    rest.is_empty()
        || rest
            .split('/')
            .all(|segment| !segment.is_empty() && !is_dots(segment) && segment.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], expected: Option<&[&str]>) {
        let found = patterns(paths.iter().copied());
        let expected = expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        assert_eq!(found, expected, "{paths:?}");
    }

    #[test]
    fn ids_become_a_star_only_with_three_samples() {
        check(&["/u/1", "/u/2"], Some(&["/u/1", "/u/2"]));
        check(&["/u/1", "/u/2", "/u/3"], Some(&["/u/*"]));
        check(&["/u/1/a", "/u/2/b", "/u/3/a"], Some(&["/u/1/a", "/u/2/b", "/u/3/a"]));
        check(&["/u/me", "/u/you", "/u/they"], Some(&["/u/me", "/u/they", "/u/you"]));
        let uuid = |last| format!("/o/0f8fad5b-d9cb-469f-a165-70867728950{last}/x");
        let uuids = [uuid('a'), uuid('b'), uuid('c')];
        check(&uuids.each_ref().map(String::as_str), Some(&["/o/*/x"]));
    }

    #[test]
    fn what_a_policy_cannot_name_or_nobody_would_read_is_not_named() {
        for odd in ["/a%20b", "/a//b", "/a/../b", "/a/..;x/b", "*", "/a/*", "/a\\b", "/ä"] {
            check(&["/fine", odd], None);
        }
        check(&["/", "/fine/"], Some(&["/", "/fine/"]));
        let many: Vec<_> = (0..=MOST).map(|n| format!("/p{n}x")).collect();
        assert_eq!(patterns(many.iter().map(String::as_str)), None);
        assert!(patterns(many[1..].iter().map(String::as_str)).is_some());
    }
}
