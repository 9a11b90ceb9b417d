use crate::record::{
    event::Event,
    head::HeadKey,
    line::{HeadLine, RemovedLine},
};

use super::*;

mod corruption;

const TIME: &str = "2026-11-21T12:00:00.000000Z";

/// A record in memory, written as the recorder would.
struct Written {
    key: HeadKey,
    chain: Chain,
    segments: Vec<Vec<u8>>,
    /// The newest head.
    head: Vec<u8>,
}

impl Written {
    fn new() -> Self {
        Self {
            key: HeadKey::generate().unwrap(),
            chain: Chain::EMPTY,
            segments: vec![vec![]],
            head: vec![],
        }
    }

    fn seal(&mut self, record: &impl serde::Serialize) -> Vec<u8> {
        let mut line = Vec::new();
        self.chain.seal(record, &mut line);
        self.segments.last_mut().unwrap().extend(&line);
        line
    }

    fn lines(mut self, count: u64) -> Self {
        for at in 0..count {
            let line = crate::record::line::Line {
                id: Some(format!("01J{at}")),
                time: TIME.to_owned(),
                host: Some(format!("host-{at}.example.com")),
                count: Some(at),
                ..Default::default()
            };
            self.seal(&line);
        }
        self
    }

    fn head(mut self) -> Self {
        let Chain { seq, prev } = self.chain;
        let (key, signature) = (self.key.public().to_string(), self.key.sign(seq - 1, &prev, TIME));
        let (key, signature) = (key.as_str(), signature.as_str());
        self.head = self.seal(&HeadLine { time: TIME, event: Event::Head, key, signature });
        self
    }

    /// Removes the first segment, and says so under a key.
    fn removal(mut self, signed: &HeadKey, stated: &HeadKey) -> Self {
        self.segments.remove(0);
        let first = self.segments[0].split(|byte| *byte == b'\n').next().unwrap();
        let first = strict::read(first).unwrap();
        let removal = Removal {
            time: TIME,
            segment: "00000001.jsonl",
            begins_at: first.said.seq,
            begins_after: &first.prev.to_string(),
        };
        let (key, signature) = (stated.public().to_string(), signed.sign_removal(&removal));
        let Removal { time, segment, begins_at, begins_after } = removal;
        self.seal(&RemovedLine {
            time,
            event: Event::Removed,
            segment,
            begins_at,
            begins_after,
            key: &key,
            signature: &signature,
        });
        self
    }

    fn segment(mut self) -> Self {
        self.segments.push(vec![]);
        self
    }

    fn kept(&self) -> KeptHead {
        KeptHead::read(&self.head).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.segments.concat()).unwrap()
    }
}

/// The faults of these files as one chain, those of the whole last.
fn faults(segments: &[impl AsRef<[u8]>], kept: Option<KeptHead>, extent: Extent) -> Vec<Fault> {
    judged(segments, kept, extent).1
}

fn judged(
    segments: &[impl AsRef<[u8]>],
    kept: Option<KeptHead>,
    extent: Extent,
) -> (Verified, Vec<Fault>) {
    let mut verifier = Verifier::expecting(kept.into_iter().collect());
    let mut faults = Vec::new();
    for segment in segments {
        verifier.file(segment.as_ref(), |_, fault| faults.push(fault)).unwrap();
    }
    let (verified, whole) = verifier.finish(extent);
    faults.extend(whole);
    (verified, faults)
}

/// Seals what stands in a line anew, so that nothing but its meaning is wrong.
fn resealed(fields: &str, prev: &str) -> String {
    let sealed = format!(r#"{{"seq":0,{fields},"prev":"{prev}""#);
    let hash = LineHash::of(sealed.as_bytes());
    format!("{sealed},\"hash\":\"{hash}\"}}\n")
}

#[test]
fn a_chain_over_segments_is_sound_and_says_what_it_holds() {
    let written = Written::new().lines(5).head().segment().lines(3).head().segment().lines(2);
    let (verified, faults) = judged(&written.segments, Some(written.kept()), Extent::Whole);
    assert_eq!(faults, []);
    assert_eq!((verified.lines, verified.heads, verified.since_head), (12, 2, 2));
    assert_eq!((verified.first, verified.last.unwrap().0), (Some(0), 11));
    assert_eq!(verified.key, Some(written.key.public()));
}

#[test]
fn each_fault_has_its_name_and_is_one() {
    let written = Written::new().lines(6).head();
    let text = written.text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let check = |changed: &[&str], expected: &str| {
        let found = faults(&[changed.concat()], None, Extent::Whole);
        let words: Vec<_> = found.iter().map(Fault::word).collect();
        assert_eq!(words, [expected], "{found:?}");
    };
    let but = |at: usize, line: &str| {
        let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        all[at] = line.to_owned();
        all.concat()
    };
    check(&[&but(2, &lines[2].replace("host-2", "host-x"))], "hash");
    check(&[&but(2, "")], "seq");
    check(&[&but(2, "{}\n")], "syntax");
    check(&[&but(6, lines[6].trim_end())], "torn");
    check(&[&text, "\n"], "syntax");
    check(&[&text, "{\"seq\""], "torn");
    check(&[&lines[2..].concat()], "beginning");
    check(&[""], "empty");
    // Another line of the same number, sealed as well as anybody can.
    let other = resealed(r#""time":"t","event":"decision""#, &"0".repeat(64));
    check(&[&but(0, &other)], "prev");
    // A line added at the end by somebody who does not know what it continues.
    check(&[&text, &other.replacen("0", "7", 1)], "hash");
}

#[test]
fn a_part_is_judged_without_its_beginning() {
    let written = Written::new().lines(5).head().segment().lines(3).head();
    let second = &written.segments[1..];
    assert_eq!(faults(second, None, Extent::Part), []);
    assert_eq!(faults(second, None, Extent::Whole), [Fault::Beginning { seq: 6 }]);
}

#[test]
fn a_beginning_is_explained_by_the_holder_of_the_key_alone() {
    let written = || Written::new().lines(5).head().segment().lines(3).head();
    let check = |signed: Option<&HeadKey>, stated: Option<&HeadKey>, expected: &[&str]| {
        let written = written();
        let (kept, own) =
            (written.kept(), HeadKey::from_pkcs8(written.key.to_pkcs8().unwrap().as_ref()));
        let own = own.unwrap();
        let written = written.removal(signed.unwrap_or(&own), stated.unwrap_or(&own));
        for kept in [None, Some(kept)] {
            let (verified, faults) = judged(&written.segments, kept, Extent::Whole);
            let words: Vec<_> = faults.iter().map(Fault::word).collect();
            assert_eq!(words, expected, "{faults:?}");
            assert_eq!(verified.removed, expected.is_empty());
        }
    };
    let stranger = HeadKey::generate().unwrap();
    check(None, None, &[]);
    check(Some(&stranger), Some(&stranger), &["key", "beginning"]);
    check(Some(&stranger), None, &["signature", "beginning"]);

    // What anybody can append who can write the file.
    let mut cut = written();
    cut.segments.remove(0);
    let first = strict::read(cut.segments[0].split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let (seq, prev) = (first.said.seq, first.prev);
    let Chain { seq: next, prev: last } = cut.chain;
    let fields = format!(
        r#""time":"{TIME}","event":"audit.removed","segment":"00000001.jsonl","begins_at":{seq},"begins_after":"{prev}""#
    );
    let sealed = format!(r#"{{"seq":{next},{fields},"prev":"{last}""#);
    let hash = LineHash::of(sealed.as_bytes());
    cut.segments.push(format!("{sealed},\"hash\":\"{hash}\"}}\n").into_bytes());
    let found = faults(&cut.segments, Some(cut.kept()), Extent::Whole);
    assert_eq!(found, [Fault::Signature, Fault::Beginning { seq }]);
}

#[test]
fn a_line_is_read_in_one_way_or_not_at_all() {
    let zeros = "0".repeat(64);
    let sound = r#""time":"t","event":"decision","labels":{"a":"1","b":"2"},"verdict":"deny","addresses":["::1"],"status":403"#;
    let fault = |fields: &str| faults(&[resealed(fields, &zeros)], None, Extent::Whole);
    assert_eq!(fault(sound), []);
    for (from, to) in [
        (r#""verdict":"deny""#, r#""verdict":"deny","verdict":"allow""#),
        (r#""verdict":"deny""#, r#""verdict":"deny","other":1"#),
        (r#""verdict":"deny""#, r#""verdict":null"#),
        (r#""verdict":"deny""#, r#""verdict":["deny"]"#),
        (r#""verdict":"deny""#, "\"verdict\":\t\"deny\""),
        (r#""verdict":"deny""#, "\"verdict\":\"de\0ny\""),
        (r#""status":403"#, r#""status":"403""#),
        (r#""status":403"#, r#""status":-403"#),
        (r#""status":403"#, r#""status":4.03"#),
        (r#""status":403"#, r#""status":403,"host":"late""#),
        (r#""status":403"#, r#""status":403}{"status":403"#),
        (r#""a":"1","b":"2""#, r#""a":"1","a":"2""#),
        (r#""a":"1","b":"2""#, r#""a":"1","b":2"#),
        (r#"["::1"]"#, r#"[1]"#),
        (r#""time":"t","event""#, r#""event""#),
        (r#""event":"decision","#, ""),
    ] {
        let fields = sound.replacen(from, to, 1);
        assert_ne!(fields, sound, "{from}");
        let found = fault(&fields);
        assert!(matches!(found[..], [Fault::Syntax(_)]), "{fields}: {found:?}");
    }
    let line = resealed(sound, &zeros);
    for bad in [
        line.replace('\n', "\r\n"),
        line.replace('\n', " \n"),
        line.replacen('{', " {", 1),
        line.replacen('{', "[{", 1),
        line.replace("\"hash\"", "\"Hash\""),
        line.to_uppercase(),
    ] {
        let found = faults(&[&bad], None, Extent::Whole);
        assert!(matches!(found[..], [Fault::Syntax(_)]), "{bad:?}: {found:?}");
    }
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let long = vec![b'x'; 3 * LONGEST];
    let found = faults(&[[&long[..], b"\n"].concat()], None, Extent::Whole);
    assert!(matches!(found[0], Fault::Syntax(_)), "{:?}", found[0]);
    assert_eq!(found.len(), 2, "once, and there are no records");
}

#[test]
fn a_head_is_signed_by_its_key_over_what_it_stands_after() {
    let written = Written::new().lines(3).head();
    let text = written.text();
    let (before, head) = text.split_at(text.trim_end().rfind('\n').unwrap() + 1);
    let prev = head.split(r#""prev":""#).nth(1).unwrap().split('"').next().unwrap();
    let reseal = |head: &str| {
        let fields = head.split_once(',').unwrap().1.split_once(",\"prev\"").unwrap().0;
        resealed(fields, prev).replacen("\"seq\":0", "\"seq\":3", 1)
    };
    let sealed_again = |head: &str| {
        let line = reseal(head);
        let (sealed, _) = line.split_once(r#","hash":""#).unwrap();
        format!("{sealed},\"hash\":\"{}\"}}\n", LineHash::of(sealed.as_bytes()))
    };
    assert_eq!(sealed_again(head), head, "sealed as it was");
    let stranger = HeadKey::generate().unwrap().public().to_string();
    let own = written.key.public().to_string();
    for changed in [
        head.replace(TIME, "2026-11-21T11:00:00.000000Z"),
        head.replace(&own, &stranger),
        head.replace(&own, &own[2..]),
        head.replace("\"signature\":\"", "\"signature\":\"00"),
    ] {
        assert_ne!(changed, head);
        let line = sealed_again(&changed);
        assert_eq!(
            faults(&[before, &line].map(str::as_bytes), None, Extent::Whole),
            [Fault::Signature]
        );
        assert_eq!(KeptHead::read(line.as_bytes()).unwrap_err(), Fault::Signature);
    }
    assert!(matches!(
        KeptHead::read(before.split_inclusive('\n').next().unwrap().as_bytes()),
        Err(Fault::Syntax(_))
    ));
}

#[test]
fn a_chain_that_was_written_anew_is_not_the_one_that_was_signed() {
    let first = Written::new().lines(4).head().lines(1);
    let kept = first.kept();
    // Another key signs another chain; nothing in it is wrong.
    let anew = Written::new().lines(3).head().lines(2);
    assert_eq!(faults(&anew.segments, None, Extent::Whole), []);
    let found = faults(&anew.segments, Some(kept.clone()), Extent::Whole);
    let words: Vec<_> = found.iter().map(Fault::word).collect();
    assert_eq!(words, ["key", "head_differs"]);
    // The same key, by somebody who has got hold of it.
    let stolen = Written {
        key: HeadKey::from_pkcs8(first.key.to_pkcs8().unwrap().as_ref()).unwrap(),
        ..Written::new()
    };
    let stolen = stolen.lines(3).head().lines(2);
    assert_eq!(faults(&stolen.segments, Some(kept), Extent::Whole), [Fault::HeadDiffers]);
    // A key that changes on the way.
    let mut turned = Written::new().lines(2).head();
    turned.key = HeadKey::generate().unwrap();
    let turned = turned.lines(2).head();
    let words: Vec<_> =
        faults(&turned.segments, None, Extent::Whole).iter().map(Fault::word).collect();
    assert_eq!(words, ["key"]);
}
