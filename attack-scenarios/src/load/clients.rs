//! Clients that are slow, silent, greedy for memory, or gone.

use std::{
    io,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{crowd::Crowd, hello::HelloShape, meter::Connections};

use super::{
    ground::{EACH, Stage, get, head},
    measured::{Measured, Work},
};

/// Heads that arrive a byte at a time: every client has a beginning at once, then adds to it.
pub(super) fn slow_heads(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let script = get("http://api.example.com/slow-head", None);
    let count = seen.scaled(asked, 2000, "connections");
    slowly(stage, count, &script, 20, stage.tuning.header_timeout, seen)
}

/// Bodies that arrive a byte at a time, slower than the limit on silence allows.
pub(super) fn slow_bodies(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let lines = "Content-Length: 1000000\r\n";
    let head = head("POST", "http://api.example.com/slow-body", None, lines);
    let script = [head.as_slice(), &[b'x'; 100]].concat();
    let count = seen.scaled(asked, 500, "connections");
    stalling(stage, count, &script, head.len() + 1, stage.tuning.body_idle_timeout, seen)
}

/// A ClientHello that arrives a byte at a time in a tunnel that was granted.
pub(super) fn slow_hellos(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let connect = head("CONNECT", "api.example.com:443", None, "");
    let hello = HelloShape::named("api.example.com").write();
    let script = [connect.as_slice(), &hello].concat();
    let count = seen.scaled(asked, 500, "tunnels");
    slowly(stage, count, &script, connect.len(), stage.tuning.first_byte_timeout, seen)
}

/// Sends a byte every half second, which keeps every timer on *silence* happy: only a deadline for
/// the whole ends it.
fn slowly(
    stage: &Stage<'_>,
    count: usize,
    script: &[u8],
    start: usize,
    limit: Duration,
    seen: &mut Measured,
) -> io::Result<()> {
    attack(stage, count, limit, seen, |stage| {
        let crowd = Crowd::open(stage.address(), count, script.to_vec(), start)?;
        Ok((crowd, Box::new(move |crowd: &mut Crowd, tick| crowd.advance(start + tick / 5))))
    })
}

/// Sends a part and then nothing.
fn stalling(
    stage: &Stage<'_>,
    count: usize,
    script: &[u8],
    upto: usize,
    limit: Duration,
    seen: &mut Measured,
) -> io::Result<()> {
    attack(stage, count, limit, seen, |stage| {
        let crowd = Crowd::open(stage.address(), count, script.to_vec(), upto)?;
        Ok((crowd, Box::new(move |crowd: &mut Crowd, _| crowd.advance(upto))))
    })
}

/// What a crowd does at each tick; returns how many have sent what they are to send.
type Tick = Box<dyn FnMut(&mut Crowd, usize) -> usize>;

/// Opens a crowd beside healthy clients and ticks it until the proxy has ended it, or twice the
/// limit and a little more has passed.
fn attack(
    stage: &Stage<'_>,
    count: usize,
    limit: Duration,
    seen: &mut Measured,
    mut open: impl FnMut(&Stage<'_>) -> io::Result<(Crowd, Tick)>,
) -> io::Result<()> {
    let mut watch = stage.watch(count, EACH);
    let (longest, left) = stage.beside(Connections::Mixed, seen, |stage, seen| {
        let (mut crowd, mut tick) = open(stage)?;
        let deadline = Instant::now() + (2 * limit + Duration::from_secs(3)).mul_f64(seen.busy);
        for number in 0.. {
            tick(&mut crowd, number);
            crowd.sweep();
            if number % 5 == 0 {
                watch.look(stage);
            }
            if crowd.open_count() == 0 || Instant::now() > deadline {
                break;
            }
            thread::sleep(TICK);
        }
        Ok((crowd.longest(), crowd.open_count()))
    })?;
    seen.closed = Some(longest);
    seen.outcome = (left == 0).then_some(Work::Bounded);
    seen.claim("all_ended", left == 0, format!("{left} of {count} still stand"));
    watch.settle(stage, seen);
    seen.claim_descriptors_return();
    Ok(())
}

/// Connections that never say a word. Played twice: what the first wave cost must be used again
/// by the second.
pub(super) fn silent(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let count = seen.scaled(asked, 5000, "connections");
    let limit = stage.tuning.header_timeout;
    let quiet = |_: &Stage<'_>| -> io::Result<(Crowd, Tick)> {
        let crowd = Crowd::open(stage.address(), count, Vec::new(), 0)?;
        Ok((crowd, Box::new(|_, _| 0)))
    };
    attack(stage, count, limit, seen, quiet)?;
    let memory = seen.memory.unwrap_or_default();
    let first = memory.after.saturating_sub(memory.before);
    let mut crowd = Crowd::open(stage.address(), count, Vec::new(), 0)?;
    crowd.wait_for_the_end(2 * limit + Duration::from_secs(3));
    let second = stage.usage().resident.saturating_sub(memory.before);
    // What leaks is there twice; an allocator that is asked in another order needs a little more.
    let fits = second <= first + first / 2 + NOISE;
    let evidence = format!("{} KiB after one wave, {} KiB after two", first >> 10, second >> 10);
    seen.claim("memory_is_used_again", fits, evidence);
    Ok(())
}

/// Answers that nobody reads, or hardly. What counts is what they hold meanwhile: a client that
/// takes a byte a second moves forward, so the proxy need not end it.
pub(super) fn slow_read(
    stage: &Stage<'_>,
    body: usize,
    rate: usize,
    asked: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let count = seen.scaled(asked, 300, "connections");
    let script = get(&format!("http://api.example.com/bytes/{body}"), None);
    let _buffers = stage.ground.entered.small_buffers(64 << 10)?;
    let mut watch = stage.watch(count, 16 * EACH);
    let begun = stage.beside(Connections::Mixed, seen, |stage, _| {
        let mut crowd = Crowd::open(stage.address(), count, script.clone(), script.len())?;
        let (begin, least) = (Instant::now(), Duration::from_secs(4));
        let all_begun = |crowd: &Crowd| crowd.members().iter().all(|member| member.received > 0);
        // A machine that is busy otherwise takes longer to get that far.
        while begin.elapsed() < least || !all_begun(&crowd) && begin.elapsed() < 4 * least {
            crowd.sip(rate);
            watch.look(stage);
            thread::sleep(Duration::from_secs(1));
        }
        let begun = crowd.members().iter().filter(|member| member.received > 0).count();
        crowd.reset();
        Ok(begun)
    })?;
    seen.claim("all_begun", begun == count, format!("{begun} of {count} got an answer"));
    seen.outcome = Some(Work::Bounded);
    watch.settle(stage, seen);
    seen.claim_descriptors_return();
    Ok(())
}

/// Heads of a size that never end. A size above the limit on heads is refused, below it is timed.
pub(super) fn big_heads(
    stage: &Stage<'_>,
    asked: usize,
    bytes: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let count = seen.scaled(asked, 400, "connections");
    let mut script = get("http://api.example.com/", None);
    script.truncate(script.len() - 2);
    let mut number = 0;
    while script.len() < bytes {
        number += 1;
        script.extend(format!("X-Filler-{number}: {}\r\n", "x".repeat(4000)).into_bytes());
    }
    script.truncate(bytes);
    let upto = script.len();
    let limit = stage.tuning.header_timeout;
    attack(stage, count, limit, seen, |stage| {
        let crowd = Crowd::open(stage.address(), count, script.clone(), upto)?;
        Ok((crowd, Box::new(move |crowd: &mut Crowd, _| crowd.advance(upto))))
    })?;
    if let Some(memory) = &mut seen.memory {
        memory.each = (EACH + bytes) as u64;
    }
    Ok(())
}

/// Clients whose network has swallowed them: no FIN, no RST, and nothing that is sent to them
/// arrives. A third waits for an answer, a third has one under way, a third holds a tunnel.
pub(super) fn vanish(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let third = seen.scaled(asked, 300, "clients").div_ceil(3);
    let connect = head("CONNECT", "api.example.com:443", None, "");
    let hello = HelloShape::named("api.example.com").write();
    let tunnel = [connect.as_slice(), &hello].concat();
    let kinds = [
        // Without this line the answer of the proxy itself leaves a connection that waits for the
        // next request, for as long as connections may.
        (head("GET", "http://silent.example.org/", None, "Connection: close\r\n"), 0),
        (get("http://api.example.com/bytes/50000000", None), 1),
        (tunnel, connect.len()),
    ];
    let mut watch = stage.watch(3 * third, EACH);
    let before = stage.usage().descriptors;
    let freed = stage.beside(Connections::Mixed, seen, |stage, _| {
        let mut crowds = Vec::new();
        for (script, enough) in &kinds {
            let first = if *enough > 1 { *enough } else { script.len() };
            let at = stage.address();
            let mut crowd = Crowd::open_from(VANISHING, at, third, script.clone(), first)?;
            if *enough > 0 {
                crowd.wait_until(Duration::from_secs(5), |all| {
                    all.iter().all(|member| !member.heard.is_empty())
                });
            }
            crowd.advance(script.len());
            crowds.push(crowd);
        }
        let gone = stage.ground.entered.swallow(VANISHING)?;
        watch.look(stage);
        let limit = 2 * stage.tuning.idle_timeout + Duration::from_secs(4);
        // Healthy clients and pooled connections have theirs too.
        let most = before + third;
        super::holds_within(limit, || stage.usage().descriptors < most);
        let left = stage.usage().descriptors;
        drop(gone);
        crowds.into_iter().for_each(Crowd::reset);
        Ok((left < most, left))
    })?;
    let (freed, left) = freed;
    let evidence = format!("{before} descriptors before, {left} left");
    seen.claim("vanished_clients_are_given_up", freed, evidence);
    seen.outcome = freed.then_some(Work::Bounded);
    watch.settle(stage, seen);
    seen.claim_descriptors_return();
    Ok(())
}

const NOISE: u64 = 8 << 20;
const TICK: Duration = Duration::from_millis(100);
/// Loopback, since the proxy listens there; nobody else speaks from it.
const VANISHING: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);
