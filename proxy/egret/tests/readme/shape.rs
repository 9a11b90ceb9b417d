//! What of a text is the same in every run.

use std::net::SocketAddr;

/// Takes out what differs from run to run: ids, digests, tokens, times of day, durations, dates,
/// the ports of clients, how much was recorded.
pub(crate) fn shape(text: &str) -> String {
    let mut shape = String::new();
    for line in text.trim_end().lines().filter(|line| !depends_on_the_time(line)) {
        let uncounted = uncounted(line);
        let mut rest = uncounted.as_str();
        while let Some(start) = rest.find(is_part) {
            let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |end| start + end);
            shape += &rest[..start];
            shape += masked(&rest[start..end]);
            rest = &rest[end..];
        }
        shape += rest;
        while shape.ends_with(' ') {
            shape.pop();
        }
        shape.push('\n');
    }
    shape
}

/// A header with the date; what has been recorded since the last head, of which there is one every
/// ten seconds, or that there is none yet.
fn depends_on_the_time(line: &str) -> bool {
    line.to_lowercase().starts_with("date:")
        || line.contains(" after the last signed head")
        || line.contains("it holds no signed head")
}

/// What `audit verify` has judged, without how much that was.
fn uncounted(line: &str) -> String {
    let counts = line.find(" signed head").filter(|_| line.contains(" in 1 segment, "));
    let Some(end) = counts else { return line.to_owned() };
    let (counts, words) = line.split_at(end);
    let words = words.replacen("heads", "head", 1);
    let mut uncounted = String::new();
    for character in counts.chars() {
        match character.is_ascii_digit() {
            true if uncounted.ends_with('N') => {}
            true => uncounted.push('N'),
            false => uncounted.push(character),
        }
    }
    uncounted + &words
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '+')
}

fn masked(part: &str) -> &str {
    let hexadecimal = part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ulid = part.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let last = part.rsplit(':').next().unwrap_or(part);
    let token = last.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    match part.len() {
        26 if ulid => "ULID",
        64 if hexadecimal => "DIGEST",
        12 if hexadecimal && part.bytes().any(|byte| byte.is_ascii_digit()) => "SHORT-DIGEST",
        _ if last.len() == 43 && token => "TOKEN",
        _ if is_time(part) => "TIME",
        _ if is_client(part) => "CLIENT",
        _ if is_duration(part) => "DURATION",
        _ => part,
    }
}

/// `18:02:07`, `2026-11-21T18:02:07.000001Z`, `2026-11-21`.
fn is_time(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let marks = part.bytes().filter(|byte| b":-".contains(byte)).count();
    digits >= 6
        && marks >= 2
        && part.bytes().all(|byte| byte.is_ascii_digit() || b":-.+TZ".contains(&byte))
}

/// `127.0.0.1:40312`: a port that the system chose.
fn is_client(part: &str) -> bool {
    part.parse::<SocketAddr>().is_ok_and(|address| address.port() >= 32768)
}

/// `12ms`, `15us`.
fn is_duration(part: &str) -> bool {
    let number = part.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &part[number.len()..];
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && matches!(unit, "us" | "ms")
}
