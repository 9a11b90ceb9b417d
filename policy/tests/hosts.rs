//! Replays what clients and attackers send as authorities and URLs against a committed table.
//!
//! Each line of `hosts/*.txt` is a verdict, an input and the canonical form or the reason, parted
//! by tabs; `\t`, `\n`, `\\` and `\u{…}` stand for what would not be seen. `EGRET_BLESS=1` writes
//! verdicts and forms anew, for the diff to be read: a `malformed` that becomes `ok` is a bypass
//! until somebody has shown otherwise.

#![expect(clippy::disallowed_methods, reason = "blessing reads the environment and writes")]
#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use std::error::Error;
use std::fmt::Write;

use egret_policy::{Authority, HostName, Malformed, Target, TargetError};

#[test]
fn connect_targets_have_one_reading_or_none() {
    replay("connect", include_str!("hosts/connect.txt"), |text| {
        judge(Authority::connect(text).map(|authority| authority.to_string()))
    });
}

#[test]
fn urls_have_one_reading_or_none() {
    replay("absolute", include_str!("hosts/absolute.txt"), |text| {
        judge(Target::absolute(text).map(|target| target.to_string()))
    });
}

#[test]
fn host_fields_have_one_reading_or_none() {
    replay("host-field", include_str!("hosts/host-field.txt"), |text| {
        judge(Authority::with_default(text, 80).map(|authority| authority.to_string()))
    });
}

#[test]
fn policy_names_are_mapped_and_wire_names_are_not() {
    replay("policy", include_str!("hosts/policy.txt"), |text| match HostName::from_policy(text) {
        Ok(name) if HostName::from_wire(text).is_ok() => ("ok", name.to_string()),
        Ok(name) => ("mapped", name.to_string()),
        Err(error) => ("malformed", error.to_string()),
    });
}

fn judge(outcome: Result<String, TargetError>) -> (&'static str, String) {
    match outcome {
        Ok(canonical) => ("ok", canonical),
        Err(TargetError::Malformed(malformed)) => ("malformed", reason(&malformed)),
        Err(error @ TargetError::Scheme) => ("scheme", error.to_string()),
        Err(error @ TargetError::MethodRefused) => ("method", error.to_string()),
    }
}

fn reason(malformed: &Malformed) -> String {
    assert!(malformed.source().is_none(), "the reason is told in one line");
    malformed.to_string()
}

fn replay(name: &str, table: &str, judge: impl Fn(&str) -> (&'static str, String)) {
    let mut anew = String::new();
    let mut wrong = String::new();
    let mut count = 0;
    for line in table.lines() {
        if line.starts_with('#') {
            writeln!(anew, "{line}").unwrap();
            continue;
        }
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, input, _] = fields[..] else { panic!("{name}: three fields in {line:?}") };
        let (verdict, form) = judge(&unescape(input));
        assert!(form.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic() || byte > 0x7f));
        let line_anew = format!("{verdict}\t{input}\t{form}");
        if line_anew != line {
            writeln!(wrong, "- {line}\n+ {line_anew}").unwrap();
        }
        writeln!(anew, "{line_anew}").unwrap();
        count += 1;
    }
    assert!(count > 10, "{name}: the table is there");
    if std::env::var_os("EGRET_BLESS").is_some() {
        let path = format!("{}/tests/hosts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, anew).unwrap();
    } else {
        assert!(wrong.is_empty(), "{name}.txt:\n{wrong}");
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (character, length) = match after.as_bytes() {
            [b'\\', ..] => ('\\', 1),
            [b't', ..] => ('\t', 1),
            [b'n', ..] => ('\n', 1),
            [b'u', b'{', ..] => {
                let end = after.find('}').unwrap();
                let number = u32::from_str_radix(&after[2..end], 16).unwrap();
                (char::from_u32(number).unwrap(), end + 1)
            }
            _ => panic!("unknown escape in {text:?}"),
        };
        out.push(character);
        rest = &after[length..];
    }
    out + rest
}
