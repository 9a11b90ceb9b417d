//! Origins and networks that fail.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::Channel,
    crowd::Crowd,
    http1::{self, Message},
    meter::{self, Connections},
    origin::{BlackHole, Toxic},
};

use super::{
    ground::{EACH, HOLE, Stage, TOXIC, get, head},
    measured::{Measured, Work},
};

/// Connection attempts that nobody answers.
pub(super) fn black_hole(stage: &Stage<'_>, seen: &mut Measured) -> io::Result<()> {
    let holes = holes()?;
    let (took, statuses) = stage.beside(Connections::Mixed, seen, |stage, _| {
        let mut statuses = Vec::new();
        let mut longest = Duration::ZERO;
        for request in [
            get("http://hole.example.org/", None),
            head("CONNECT", "hole.example.org:443", None, ""),
        ] {
            let (begin, mut stream) = (Instant::now(), meter::open(&stage.client())?);
            statuses.push(meter::ask(&mut stream, &request).map_or(0, |answer| answer.status()));
            longest = longest.max(begin.elapsed());
        }
        Ok((longest, statuses))
    })?;
    drop(holes);
    seen.answered = Some(took);
    let right = statuses.iter().all(|status| *status == 504);
    seen.claim("answered_504", right, format!("{statuses:?}"));
    seen.outcome = right.then_some(Work::Bounded);
    Ok(())
}

/// Requests to an origin that accepts and says nothing.
pub(super) fn never_answers(
    stage: &Stage<'_>,
    asked: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let count = seen.scaled(asked, 500, "requests");
    let script = get("http://silent.example.org/", None);
    let mut watch = stage.watch(count, EACH);
    let (longest, timed_out) = stage.beside(Connections::Mixed, seen, |stage, _| {
        let mut crowd = Crowd::open(stage.address(), count, script.clone(), script.len())?;
        watch.look(stage);
        let begin = Instant::now();
        crowd.wait_until(2 * stage.tuning.idle_timeout + Duration::from_secs(3), |all| {
            all.iter().all(|member| !member.heard.is_empty() || member.ended.is_some())
        });
        let longest = begin.elapsed();
        let timed_out = crowd.answered(504);
        crowd.reset();
        Ok((longest, timed_out))
    })?;
    seen.answered = Some(longest);
    seen.claim("answered_504", timed_out == count, format!("{timed_out} of {count}"));
    seen.outcome = (timed_out == count).then_some(Work::Bounded);
    watch.settle(stage, seen);
    seen.claim_descriptors_return();
    Ok(())
}

/// A reset inside an answer, in each framing: never a short success.
pub(super) fn reset_inside(
    stage: &Stage<'_>,
    after: usize,
    of: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let mut short = Vec::new();
    for framing in ["length", "chunked", "close"] {
        let url = format!("http://api.example.com/cut/{after}/{of}/{framing}");
        let heard = whole(stage, &get(&url, None))?;
        if !heard.is_visibly_broken() {
            short.push(format!("{framing}: {heard:?}"));
        }
    }
    seen.claim("client_sees_incomplete_message", short.is_empty(), short.join(", "));
    seen.outcome = Some(Work::Served);
    Ok(())
}

/// A bad network on the origin's side.
pub(super) fn toxic(stage: &Stage<'_>, toxic: Toxic, seen: &mut Measured) -> io::Result<()> {
    let mut plan = stage.ground.plan();
    plan.toxics.insert(IpAddr::V4(TOXIC), toxic);
    stage.ground.origin.reset(plan);
    let body = match toxic {
        Toxic::Bandwidth(rate) => (3 * rate).clamp(1000, 10_000_000),
        Toxic::Slices(..) => 5000,
        Toxic::LimitData(limit) | Toxic::ResetAfter(limit) => 10 * limit.max(1000),
        Toxic::Latency(_) | Toxic::SlowClose(_) => 100_000,
    };
    let request = get(&format!("http://toxic.example.org/bytes/{body}"), None);
    let cuts = matches!(toxic, Toxic::LimitData(_) | Toxic::ResetAfter(_));
    let mut watch = stage.watch(1, EACH);
    let (heard, took) = stage.beside(Connections::Mixed, seen, |stage, _| {
        let begin = Instant::now();
        Ok((whole(stage, &request)?, begin.elapsed()))
    })?;
    watch.look(stage);
    let intact = heard.answer.as_ref().is_some_and(|answer| {
        answer.status() == 200 && answer.complete && answer.body == vec![b'x'; body]
    });
    if cuts {
        let broken = heard.is_visibly_broken();
        seen.claim("client_sees_incomplete_message", broken, format!("{heard:?}"));
    } else {
        seen.claim("body_intact", intact, format!("{heard:?} in {took:.1?}"));
    }
    if let Toxic::Bandwidth(rate) = toxic {
        let least = Duration::from_secs_f64(0.8 * body as f64 / rate.max(1) as f64);
        seen.claim("was_slow", took >= least, format!("{body} bytes in {took:.1?}"));
    }
    seen.outcome = Some(Work::Served);
    watch.settle(stage, seen);
    Ok(())
}

/// What a client got until the end of its answer or of its connection.
#[derive(Debug)]
struct Heard {
    answer: Option<Message>,
    /// Ended with an error, not with a FIN.
    broken: bool,
}

impl Heard {
    /// Whether no client could take this for a whole answer.
    fn is_visibly_broken(&self) -> bool {
        match &self.answer {
            None => true,
            Some(answer) if answer.status() / 100 == 5 => true,
            Some(answer) => self.broken || !answer.complete,
        }
    }
}

/// Sends a request and reads to the end.
fn whole(stage: &Stage<'_>, request: &[u8]) -> io::Result<Heard> {
    let mut channel = stage.client().connect()?;
    channel.send(request);
    let (mut raw, mut end) = (Vec::new(), None);
    let deadline = Instant::now() + Duration::from_secs(30);
    while end.is_none() && Instant::now() < deadline {
        match channel.receive(Duration::from_secs(30)) {
            Ok(part) if part.is_empty() => end = Some(false),
            Ok(part) => raw.extend(part),
            Err(_) => end = Some(true),
        }
        let framed = http1::responses(&raw, &[b"GET".to_vec()], false);
        if framed.iter().any(|answer| answer.complete && !answer.until_close) {
            break;
        }
    }
    let answers = http1::responses(&raw, &[b"GET".to_vec()], end.is_some());
    Ok(Heard { answer: answers.into_iter().next(), broken: end == Some(true) })
}

/// Clients that are gone while the proxy still dials for them: one half ends its side in good
/// order, the other resets.
pub(super) fn early_end(stage: &Stage<'_>, seen: &mut Measured) -> io::Result<()> {
    let holes = holes()?;
    let watch = stage.watch(CLIENTS, EACH);
    let before = stage.usage().descriptors;
    for (how, reset) in [("reset", true), ("FIN", false)] {
        let mut open: Vec<Channel> = Vec::new();
        for number in 0..CLIENTS {
            let mut channel = stage.client().connect()?;
            let request = if number % 2 == 0 {
                get("http://hole.example.org/", None)
            } else {
                head("CONNECT", "hole.example.org:443", None, "")
            };
            channel.send(&request);
            open.push(channel);
        }
        // Both descriptors of each are there: the dial is under way.
        let dialled = super::holds_within(Duration::from_secs(3), || {
            stage.usage().descriptors >= before + 2 * CLIENTS
        });
        seen.claim("was_dialling", dialled, format!("{how}: {}", stage.usage().descriptors));
        for channel in open {
            if reset {
                let socket = socket2::SockRef::from(channel.socket());
                socket.set_linger(Some(Duration::ZERO))?;
            }
            drop(channel);
        }
        let begin = Instant::now();
        // A FIN alone is a half-close, which a client is free to do once it has asked: then the
        // limit on the attempt itself ends it. After a reset nobody can want the answer.
        let limit = stage.tuning.connect_timeout / 2;
        let limit = if reset { limit } else { 2 * limit + Duration::from_secs(2) };
        let gone = super::holds_within(limit, || stage.usage().descriptors <= before + CLIENTS / 4);
        let evidence = format!(
            "{how}: {} descriptors before, {} after {:.1?}",
            before,
            stage.usage().descriptors,
            begin.elapsed()
        );
        let word = if reset { "upstream_cancelled" } else { "upstream_given_up" };
        seen.claim(word, gone, evidence);
        thread::sleep(stage.tuning.connect_timeout.saturating_sub(begin.elapsed()));
    }
    drop(holes);
    seen.outcome = Some(Work::Bounded);
    watch.settle(stage, seen);
    Ok(())
}

fn holes() -> io::Result<[BlackHole; 2]> {
    let hole = |port| BlackHole::open(SocketAddr::from((HOLE, port)));
    Ok([hole(80)?, hole(443)?])
}

const CLIENTS: usize = 20;
