//! Paths: the strict form that requests must have where rules name paths, and the patterns.
//!
//! Where a rule names paths, a path that two servers could read differently is refused instead of
//! normalised: what is forwarded is byte for byte what was matched. What remains is compared
//! segment by segment with escapes decoded once, so that `%21` and `!`, or `%c3` and `%C3`, cannot
//! tell a deny from its target. The query plays no part.

use std::fmt;

use thiserror::Error;

/// A pattern of `paths`: segments, `*` for one that is not empty, `**` for any number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// These bytes, escapes decoded.
    Literal(Box<[u8]>),
    /// `*`
    One,
    /// `**`
    Any,
}

impl PathPattern {
    /// Reads a pattern of the policy.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternFault> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatternFault::NoSlash);
        };
        if let Some(stray) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(PatternFault::NoPath(stray));
        }
        if let Some(stray) = text.chars().find(|c| !matches!(c, '!'..='~') || *c == '\\') {
            return Err(PatternFault::Byte(stray));
        }
        check(text).map_err(PatternFault::Form)?;
        let segments: Result<Box<[_]>, _> = segments(rest).map(read_segment).collect();
        Ok(Self { text: text.into(), segments: segments? })
    }

    /// Whether a path in strict form matches. The `*` of OPTIONS is the whole server, so only
    /// `/**` matches it.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else {
            return path == "*" && matches!(*self.segments, [Segment::Any]);
        };
        let mut pattern = 0;
        let mut ahead = segments(rest);
        // Where to go on when the last `**` has to swallow one segment more.
        let mut retry = None;
        loop {
            let here = ahead.clone();
            let segment = ahead.next();
            let matched = match (self.segments.get(pattern), segment) {
                (None, None) => return true,
                (Some(Segment::Any), _) => {
                    pattern += 1;
                    retry = Some((pattern, here.clone()));
                    ahead = here;
                    continue;
                }
                (Some(Segment::One), Some(segment)) => !segment.is_empty(),
                (Some(Segment::Literal(literal)), Some(segment)) => {
                    decoded(segment).eq(literal.iter().copied())
                }
                (None, Some(_)) => false,
                (Some(_), None) => return false,
            };
            if matched {
                pattern += 1;
                continue;
            }
            let Some((after, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            pattern = *after;
            ahead = from.clone();
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PatternFault {
    #[error("does not begin with a slash")]
    NoSlash,
    #[error("has a `{0}`, but a path ends before it")]
    NoPath(char),
    #[error("has the character `{}`, which no path on the wire has", .0.escape_default())]
    Byte(char),
    #[error("can match no request, because {0} is refused")]
    Form(PathFault),
    #[error("has `*` beside other characters of a segment")]
    Partial,
}

/// Why a path has no single meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathFault {
    /// `.`, `..`, or one of them with parameters, as in `..;`.
    #[error("a dot segment")]
    DotSegment,
    /// Two slashes in a row.
    #[error("an empty segment")]
    EmptySegment,
    /// A backslash, which some servers read as a slash.
    #[error("a backslash")]
    Backslash,
    /// An escaped slash, backslash or dot.
    #[error("an escaped slash, backslash or dot")]
    EscapedSeparator,
    /// An escaped letter, digit, hyphen, underscore or tilde, which need none.
    #[error("an escape of a character that needs none")]
    EscapedUnreserved,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign without two hexadecimal digits")]
    BadEscape,
    /// An escaped NUL, at which some servers end the path.
    #[error("an escaped NUL")]
    EscapedNul,
    /// An escape that only an overlong form of an ASCII character begins with.
    #[error("an overlong escape")]
    Overlong,
}

/// Demands the strict form of a path (without its query).
pub(crate) fn check(path: &str) -> Result<(), PathFault> {
    let Some(rest) = path.strip_prefix('/') else {
        // The `*` of OPTIONS; the target's parser lets nothing else begin without a slash.
        return Ok(());
    };
    check_escapes(path.as_bytes())?;
    for segment in segments(rest) {
        if segment.is_empty() {
            return Err(PathFault::EmptySegment);
        }
        if is_dot_segment(segment) {
            return Err(PathFault::DotSegment);
        }
    }
    Ok(())
}

fn check_escapes(bytes: &[u8]) -> Result<(), PathFault> {
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'\\' => return Err(PathFault::Backslash),
            b'%' => {
                let byte = escaped(tail).ok_or(PathFault::BadEscape)?;
                rest = &tail[2..];
                let next = rest.strip_prefix(b"%").and_then(escaped);
                match (byte, next) {
                    (b'/' | b'\\' | b'.', _) => return Err(PathFault::EscapedSeparator),
                    (0, _) => return Err(PathFault::EscapedNul),
                    (0xc0 | 0xc1, _) | (0xe0, Some(0x80..=0x9f)) | (0xf0, Some(0x80..=0x8f)) => {
                        return Err(PathFault::Overlong);
                    }
                    (b'-' | b'_' | b'~', _) => return Err(PathFault::EscapedUnreserved),
                    (byte, _) if byte.is_ascii_alphanumeric() => {
                        return Err(PathFault::EscapedUnreserved);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `.` and `..`, also with the parameters that Java servers cut off before they resolve them.
fn is_dot_segment(segment: &str) -> bool {
    let name = segment.find(';').map_or(segment, |at| &segment[..at]);
    let escape = name.as_bytes().windows(3).position(|window| window.eq_ignore_ascii_case(b"%3b"));
    let name = escape.map_or(name, |at| &name[..at]);
    matches!(name, "." | "..")
}

/// The segments behind the first slash; one slash at the end is not a segment.
fn segments(rest: &str) -> impl Iterator<Item = &str> + Clone {
    let rest = (!rest.is_empty()).then(|| rest.strip_suffix('/').unwrap_or(rest));
    rest.into_iter().flat_map(|rest| rest.split('/'))
}

fn read_segment(segment: &str) -> Result<Segment, PatternFault> {
    match segment {
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Any),
        _ if segment.contains('*') => Err(PatternFault::Partial),
        _ => Ok(Segment::Literal(decoded(segment).collect())),
    }
}

/// The bytes of a segment with escapes decoded, once; a broken escape stands for itself.
fn decoded(segment: &str) -> impl Iterator<Item = u8> {
    let mut rest = segment.as_bytes();
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        let byte = if *first == b'%' { escaped(tail) } else { None };
        rest = if byte.is_some() { &tail[2..] } else { tail };
        Some(byte.unwrap_or(*first))
    })
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (high, low) = (digit(digits.first()?)?, digit(digits.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests;
