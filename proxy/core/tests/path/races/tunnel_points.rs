//! The awaits of a tunnel. The origin is no TLS server: a ClientHello is all that a blind tunnel
//! looks at, and what follows is the test's own.

use egret_testkit::hello::HelloShape;

use super::{
    play::{Play, Scheme},
    points,
};
use crate::scene::Stage;

/// The name server has the question, and does not answer.
pub(super) fn resolving(stage: &Stage) -> Play<'_> {
    let mut play = Play::begin(stage, Scheme::Https);
    stage.dns.set_silent(true);
    play.worker.say(play.connect().as_bytes());
    play.wait_for_the_question();
    play
}

/// A SYN has gone out, and is not answered.
pub(super) fn connecting(stage: &Stage) -> Play<'_> {
    let mut play = Play::before_a_full_door(stage, Scheme::Https);
    play.worker.say(play.connect().as_bytes());
    play.wait_until_dialled();
    play
}

/// The worker has its 200, and has said nothing.
pub(super) fn granted(stage: &Stage) -> Play<'_> {
    opened(Play::begin(stage, Scheme::Https))
}

/// The proxy has half of a ClientHello.
pub(super) fn half_a_hello(stage: &Stage) -> Play<'_> {
    let mut play = granted(stage);
    let hello = hello();
    play.worker.say(&hello[..hello.len() / 2]);
    play.wait_until_taken();
    play
}

/// The proxy has the ClientHello, and its decision waits for the recorder.
pub(super) fn recording(stage: &Stage) -> Play<'_> {
    let mut play = opened(Play::with_a_stalled_ledger(stage, Scheme::Https));
    play.worker.say(&hello());
    play.wait_until_taken();
    play
}

/// Bytes have gone both ways, and none are under way.
pub(super) fn idle(stage: &Stage) -> Play<'_> {
    let mut play = granted(stage);
    play.worker.say(&hello());
    pass_the_hello(&mut play);
    play
}

/// The worker does not read, and everything between it and the origin is full.
pub(super) fn stalled_worker(stage: &Stage) -> Play<'_> {
    let mut play = idle(stage);
    play.stuffed = play.origin().say_until_stalled();
    play
}

/// The origin does not read, and everything between it and the worker is full.
pub(super) fn stalled_origin(stage: &Stage) -> Play<'_> {
    let mut play = idle(stage);
    play.stuffed = play.worker.say_until_stalled();
    play
}

/// The worker has closed its direction.
pub(super) fn closed_by_the_worker(stage: &Stage) -> Play<'_> {
    let mut play = idle(stage);
    play.worker.finish();
    play.origin().hear_end();
    play
}

/// The origin has closed its direction.
pub(super) fn closed_by_the_origin(stage: &Stage) -> Play<'_> {
    let mut play = idle(stage);
    play.origin().finish();
    play.worker.hear_end();
    play
}

/// The origin has spoken first; nobody looks inside.
pub(super) fn opaque(stage: &Stage) -> Play<'_> {
    let mut play = opened(Play::begin(stage, Scheme::Tcp));
    play.origin().say(b"hello");
    play.worker.hear("hello");
    play
}

/// A request inside the tunnel has been answered.
pub(super) fn http_idle(stage: &Stage) -> Play<'_> {
    let mut play = http_awaiting(stage);
    points::finish_by_answering(&mut play);
    play
}

/// The origin has a request that came through the tunnel, and has not answered.
pub(super) fn http_awaiting(stage: &Stage) -> Play<'_> {
    let mut play = opened(Play::begin(stage, Scheme::Http));
    ask_inside(&mut play);
    play.origin().hear("\r\n\r\n");
    play
}

pub(super) fn ask_inside(play: &mut Play<'_>) {
    play.worker.try_to_say(play.inner_request().as_bytes());
}

pub(super) fn finish_from_the_start(play: &mut Play<'_>) {
    play.accept();
    hear_the_200(play);
    play.worker.say(&hello());
    pass_the_hello(play);
    finish_by_talking(play);
}

pub(super) fn send_a_hello(play: &mut Play<'_>) {
    play.worker.try_to_say(&hello());
}

pub(super) fn send_the_other_half(play: &mut Play<'_>) {
    let hello = hello();
    play.worker.try_to_say(&hello[hello.len() / 2..]);
}

pub(super) fn finish_after_the_hello(play: &mut Play<'_>) {
    pass_the_hello(play);
    finish_by_talking(play);
}

pub(super) fn finish_by_talking(play: &mut Play<'_>) {
    play.worker.say(b"more");
    play.origin().hear("more");
    play.origin().say(b"and more");
    play.worker.hear("and more");
}

pub(super) fn finish_listening(play: &mut Play<'_>) {
    let stuffed = play.stuffed;
    play.worker.hear_exactly(stuffed);
    finish_by_talking(play);
}

pub(super) fn finish_hearing(play: &mut Play<'_>) {
    let stuffed = play.stuffed;
    play.origin().hear_exactly(stuffed);
    finish_by_talking(play);
}

pub(super) fn finish_downwards(play: &mut Play<'_>) {
    play.origin().say(b"and more");
    play.worker.hear("and more");
    play.origin().finish();
    play.worker.hear_end();
}

pub(super) fn finish_upwards(play: &mut Play<'_>) {
    play.worker.say(b"more");
    play.origin().hear("more");
    play.worker.finish();
    play.origin().hear_end();
}

pub(super) fn finish_inside(play: &mut Play<'_>) {
    play.origin().hear("\r\n\r\n");
    points::finish_by_answering(play);
}

/// Both ends of a tunnel stand, and nothing has been said in it.
fn opened(mut play: Play<'_>) -> Play<'_> {
    play.worker.say(play.connect().as_bytes());
    play.accept();
    hear_the_200(&mut play);
    play
}

fn hear_the_200(play: &mut Play<'_>) {
    let heard = play.worker.hear("\r\n\r\n");
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}

fn pass_the_hello(play: &mut Play<'_>) {
    let hello = hello();
    assert_eq!(play.origin().hear_exactly(hello.len()), hello);
    play.origin().say(b"welcome");
    play.worker.hear("welcome");
}

fn hello() -> Vec<u8> {
    HelloShape::named("api.example.com").write()
}
