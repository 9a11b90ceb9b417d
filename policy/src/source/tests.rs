use super::*;
use jiff::Timestamp;

fn problems(text: &str, read: impl FnOnce(Table<'_>)) -> Vec<(usize, usize, String, String)> {
    let document = Document::parse(text);
    read(document.root());
    let (problems, _) = document.finish();
    problems.into_iter().map(|p| (p.line, p.column, p.message, p.fix)).collect()
}

fn first(text: &str, read: impl FnOnce(Value<'_>)) -> String {
    let found = problems(text, |root| read(root.find("k").unwrap()));
    found.into_iter().next().map(|(_, _, message, fix)| format!("{message} / {fix}")).unwrap()
}

#[test]
fn a_key_that_nobody_asked_for_is_a_problem_with_its_likely_name() {
    let found = problems("mdoe = 1\nmode = 1\n[zebra]\n", |root| {
        root.find("mode");
    });
    assert_eq!(
        found,
        [
            (1, 1, "unknown key `mdoe` in the file".into(), "did you mean `mode`?".into()),
            (3, 2, "unknown key `zebra` in the file".into(), "keys of the file: mode".into()),
        ]
    );
}

#[test]
fn columns_count_characters_and_lines_survive_carriage_returns() {
    let document = Document::parse("a = 1\r\n\"ä\" = \"ß\" # é\r\nb = 2");
    assert_eq!(document.report().position(0), (1, 1));
    let at = "a = 1\r\n\"ä\" = ".len();
    assert_eq!(document.report().position(at), (2, 7));
    assert_eq!(document.report().position(usize::MAX), (3, 6));
    assert_eq!(document.report().position(at), (2, 7));
    assert_eq!(document.report().position(at + 1), (2, 8));
    for key in ["a", "ä", "b"] {
        assert!(document.root().key_span(key).is_some());
    }
}

#[test]
fn several_syntax_errors_show_and_their_consequences_do_not() {
    let found = problems("id = \nx = 1\nz = [1,\n", |root| {
        root.require("id", "").unwrap().integer(1..=2);
        root.require("gone", "");
        root.find("z");
    });
    let lines: Vec<_> = found.iter().map(|(line, _, message, _)| (*line, &message[..7])).collect();
    assert_eq!(lines, [(1, "not val"), (2, "unknown"), (3, "not val")]);
}

#[test]
fn each_type_is_named_with_what_stands_there() {
    let check = |text: &str, read: fn(Value<'_>), expected: &str| {
        assert_eq!(first(text, read), expected);
    };
    check(
        "k = 1",
        |v| assert!(v.text().is_none()),
        "`k` must be a text, not a whole number / put it in quotes",
    );
    check(
        "k = 'a'",
        |v| assert!(v.list().is_none()),
        "`k` must be a list, not a text / put it in brackets: `[ … ]`",
    );
    check(
        "[k]",
        |v| assert!(v.list().is_none()),
        "`k` must be a list, not a table / write it as `[[k]]`, once for each",
    );
    check(
        "[[k]]",
        |v| assert!(v.table("k").is_none()),
        "`k` must be a table, not a list / write `[k]` or `{ … }`, once",
    );
    check(
        "k = [1, 'a']",
        |v| assert_eq!(v.texts().unwrap().value.len(), 1),
        "an entry of `k` must be a text, not a whole number / put it in quotes",
    );
    check(
        "k = 'yes'",
        |v| assert!(v.boolean().is_none()),
        "`k` must be true or false, not a text / write it without quotes",
    );
    check(
        "k = 70000",
        |v| assert!(v.integer(1..=65535).is_none()),
        "`k` is out of range / write a number from 1 to 65535",
    );
    check(
        "k = 'tunel'",
        |v| assert!(v.choice(&[("tunnel", 1), ("intercept", 2)]).is_none()),
        "`k` cannot be `tunel` / did you mean `tunnel`?",
    );
    check(
        "k = 'x\\u0007'",
        |v| assert!(v.choice(&[("tunnel", 1), ("intercept", 2)]).is_none()),
        "`k` cannot be `x\\\\u0007` / write `tunnel` or `intercept`",
    );
}

#[test]
fn integers_are_read_in_every_notation_of_toml() {
    let read = |text: &str| {
        let document = Document::parse(text);
        let read = document.root().find("k").unwrap().integer(1..=65535);
        read.map(|at| at.value)
    };
    for text in ["k = 8443", "k = 8_443", "k = +8443", "k = 0x20fb", "k = 0x20FB", "k = 0o20373"] {
        assert_eq!(read(text), Some(8443), "{text}");
    }
    for text in ["k = 0", "k = -1", "k = 65536", "k = 99999999999999999999999999999999999999999999"]
    {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn units_are_whole_positive_and_exact() {
    for (text, ms) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
        assert_eq!(units::duration(text).unwrap().as_millis(), ms);
    }
    for (text, bytes) in [("1B", 1), ("64KiB", 65_536), ("1GiB", 1 << 30), ("2TiB", 1 << 41)] {
        assert_eq!(units::bytes(text), Some(bytes));
    }
    for bad in ["", "5", "s", "0s", "-1s", "+1s", "1.5h", "1 s", "1S", "99999999999999d", "36700d"]
    {
        assert_eq!(units::duration(bad), None, "{bad}");
    }
    for bad in ["", "1", "GiB", "0B", "1GB", "1gib", "99999999999TiB", "18446744073709551616B"] {
        assert_eq!(units::bytes(bad), None, "{bad}");
    }
}

#[test]
fn an_instant_has_an_offset() {
    let read = |text: &str| {
        let document = Document::parse(text);
        let read = document.root().find("k").unwrap().instant();
        read.map(|at| at.value.to_string())
    };
    assert_eq!(read("k = 2027-01-01T00:00:00Z").unwrap(), "2027-01-01T00:00:00Z");
    assert_eq!(read("k = 2027-01-01T02:30:00+02:30").unwrap(), "2027-01-01T00:00:00Z");
    let last = Timestamp::MAX.to_string();
    assert_eq!(read("k = 9999-12-30T21:59:59Z").unwrap(), "9999-12-30T21:59:59Z");
    assert_eq!(read("k = 9999-12-31T23:59:59Z").unwrap(), last);
    assert_eq!(read("k = 9999-12-31T23:59:59-23:59").unwrap(), last);
    assert_eq!(read("k = 0000-01-01T00:00:00+23:59").unwrap(), "-000001-12-31T00:01:00Z");
    assert_eq!(read("k = 2016-12-31T23:59:60Z").unwrap(), "2016-12-31T23:59:59Z");
    assert_eq!(read("k = 2016-12-31T23:59:61Z"), None);
    for local in ["2027-01-01T00:00:00", "2027-01-01", "00:00:00", "'2027-01-01T00:00:00Z'"] {
        assert_eq!(read(&format!("k = {local}")), None, "{local}");
    }
}
