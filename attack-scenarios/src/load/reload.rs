//! Policies that are loaded again under load: others, and one that is none.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::get,
    meter::{self, Connections},
    workers::{Ask, Asked, Outcome, Pace, Workers},
};

use super::{
    ground::{HEALTHY, Stage},
    measured::{Measured, Work},
};
use crate::case::config::{Change, NO_CHANGE};

/// Whom the workers ask, by the number of the request: allowed always, by the first policy only, by
/// the second only, never.
const ASKED: [&str; 4] =
    [HEALTHY, "http://www.first.example.org/", "http://www.second.example.org/", DENIED];

/// Two policies by turns. A name that only one of them allows shows which is in force; once that
/// has been seen, and until the next change, every request is judged by that one alone.
pub(super) fn many(
    stage: &Stage<'_>,
    asked: usize,
    rate: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let times = seen.scaled(asked, 50, "reloads");
    let rate = u32::try_from(seen.scaled(rate, 120, "rps")).unwrap_or(120);
    let lists = ["first", "second"]
        .map(|name| Change::To(vec!["api.example.com".to_owned(), format!(".{name}.example.org")]));
    let workers = workers(stage, rate);
    let (mut spans, mut slowest) = (Vec::<(Instant, Instant, usize)>::new(), Duration::ZERO);
    for turn in 0..times {
        let (which, begin) = (turn % 2, Instant::now());
        if !stage.change(&lists[which])? {
            workers.finish();
            return unseen(seen, &["no_mixed_policy", "denied_never_allowed"]);
        }
        let heeded = super::holds_within(HEEDED, || {
            probe(stage, ASKED[which + 1]) == 200 && is_denied(probe(stage, ASKED[2 - which]))
        });
        slowest = slowest.max(begin.elapsed());
        if !heeded {
            seen.claim("each_is_heeded", false, format!("reload {turn}: not after {HEEDED:?}"));
            break;
        }
        let since = Instant::now();
        thread::sleep(BETWEEN);
        spans.push((since, Instant::now(), which));
    }
    let asked = workers.finish();
    let (mut mixed, mut wrong, mut within) = (Vec::new(), Vec::new(), 0);
    for one in &asked {
        let span = spans.iter().find(|(from, to, _)| *from <= one.began && one.ended <= *to);
        let denied = is_denied(one.status());
        let (fits, bad) = match (one.number % 4, span) {
            (0, _) => (one.status() == 200, &mut wrong),
            (3, _) => (denied, &mut wrong),
            (side, Some((_, _, which))) => {
                within += 1;
                let allowed = *which as u64 + 1 == side;
                // Its connection may be cut for what it was asked before.
                let cut = one.reused && is_cut(one);
                (if allowed { one.status() == 200 } else { denied || cut }, &mut mixed)
            }
            // While it changes either may be in force, and nothing else; what was let through by
            // the one is cut by the other.
            (_, None) => (one.status() == 200 || denied || is_cut(one), &mut mixed),
        };
        if !fits {
            bad.push(format!("{} of {} ", one.status(), one.number));
        }
    }
    seen.notes.push(format!(
        "{} requests, {within} of them where one policy was known to be in force, the slowest \
         reload took {slowest:.1?}",
        asked.len()
    ));
    let all = asked.len() > times && within > 0;
    seen.claim("no_mixed_policy", all && mixed.is_empty(), mixed.concat());
    seen.claim("denied_never_allowed", wrong.is_empty(), wrong.concat());
    seen.outcome = Some(Work::Served);
    Ok(())
}

/// A policy that is none: somebody is told, and the one before stays.
pub(super) fn broken(stage: &Stage<'_>, seen: &mut Measured) -> io::Result<()> {
    let workers = workers(stage, 100);
    thread::sleep(BEFORE);
    let said = || stage.proxy.stdout() + &stage.proxy.stderr();
    let before = said().len();
    if !stage.change(&Change::Broken)? {
        workers.finish();
        return unseen(seen, &["previous_policy_active", "error_reported"]);
    }
    let told = |said: &str| ["error", "invalid", "refused"].iter().any(|word| said.contains(word));
    let reported = super::holds_within(HEEDED, || told(&said()[before..].to_lowercase()));
    thread::sleep(BEFORE);
    let asked = workers.finish();
    // By the default policy all names below `example.org` are allowed.
    let fits = |one: &Asked| match one.number % 4 {
        3 => is_denied(one.status()),
        _ => one.status() == 200,
    };
    let odd: Vec<&Asked> = asked.iter().filter(|one| !fits(one)).collect();
    let first = odd.first().map(|one| format!("{one:?}")).unwrap_or_default();
    let evidence = format!("{} of {} answered otherwise {first}", odd.len(), asked.len());
    seen.claim("previous_policy_active", odd.is_empty() && !asked.is_empty(), evidence);
    seen.claim("error_reported", reported, "nothing was said about it".to_owned());
    seen.outcome = Some(Work::Served);
    Ok(())
}

/// Asks once, and returns the status of the answer.
fn probe(stage: &Stage<'_>, url: &str) -> u16 {
    let answer = meter::open(&stage.client())
        .and_then(|mut stream| meter::ask(&mut stream, get(url).as_bytes()));
    answer.map_or(0, |answer| answer.status())
}

/// Whether its connection ended before its answer was whole.
fn is_cut(asked: &Asked) -> bool {
    matches!(asked.outcome, Outcome::Broken(_))
}

fn workers(stage: &Stage<'_>, rate: u32) -> Workers {
    let pace = Pace { workers: 12, rate, connections: Connections::Mixed };
    Workers::start(&stage.client(), pace, 0, |number| {
        Ask::Request(get(ASKED[number as usize % ASKED.len()]).into_bytes())
    })
}

fn unseen(seen: &mut Measured, words: &[&'static str]) -> io::Result<()> {
    seen.unseen.extend(words.iter().map(|word| (*word, NO_CHANGE)));
    seen.outcome = Some(Work::Served);
    Ok(())
}

/// A denial, or one of a worker that has had too many.
fn is_denied(status: u16) -> bool {
    matches!(status, 403 | 429)
}

const DENIED: &str = "http://evil.test/";
/// How long a proxy may take to read its policy again.
const HEEDED: Duration = Duration::from_secs(10);
/// How long a policy stays.
const BETWEEN: Duration = Duration::from_millis(100);
/// Time enough for requests before and after.
const BEFORE: Duration = Duration::from_secs(1);
