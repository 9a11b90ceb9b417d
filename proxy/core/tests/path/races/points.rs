//! The awaits of a plain request between its decision and its end. Each brings a play to one of
//! them, and returns once something that only happens there has happened.

use super::{
    play::{Play, Scheme},
    side::Side,
    tunnels,
};
use crate::scene::Stage;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
/// Read by the worker as far as the answer has come.
const FIRST_HALF: &str = "\r\n\r\n01234";
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const BODY: &str = "Content-Length: 10\r\n";

/// The name server has the question, and does not answer.
pub(super) fn resolving(stage: &Stage) -> Play<'_> {
    let mut play = Play::begin(stage, Scheme::Http);
    stage.dns.set_silent(true);
    play.worker.say(play.request("GET", "").as_bytes());
    play.wait_for_the_question();
    play
}

pub(super) fn let_the_name_resolve(play: &mut Play<'_>) {
    play.stage.dns.set_silent(false);
}

/// A SYN has gone out, and is not answered.
pub(super) fn connecting(stage: &Stage) -> Play<'_> {
    let mut play = Play::before_a_full_door(stage, Scheme::Http);
    play.worker.say(play.request("GET", "").as_bytes());
    play.wait_until_dialled();
    play
}

pub(super) fn let_the_origin_be_reached(play: &mut Play<'_>) {
    play.door.clear();
}

/// The connection stands, and the decision waits for the recorder.
pub(super) fn recording(stage: &Stage) -> Play<'_> {
    let mut play = Play::with_a_stalled_ledger(stage, Scheme::Http);
    play.worker.say(play.request("GET", "").as_bytes());
    play.accept();
    play
}

pub(super) fn let_the_record_be_written(play: &mut Play<'_>) {
    play.ledger().take();
}

/// The origin has the whole request, and has not answered.
pub(super) fn awaiting(stage: &Stage) -> Play<'_> {
    let mut play = Play::begin(stage, Scheme::Http);
    play.worker.say(play.request("GET", "").as_bytes());
    play.accept().hear("\r\n\r\n");
    play
}

/// The origin has half of the request's body, and the worker has not sent the rest.
pub(super) fn sending(stage: &Stage) -> Play<'_> {
    let mut play = Play::begin(stage, Scheme::Http);
    play.worker.say((play.request("POST", BODY) + "01234").as_bytes());
    play.accept().hear("\r\n\r\n01234");
    play
}

/// The worker has half of the answer's body, and the origin has not sent the rest.
pub(super) fn answering(stage: &Stage) -> Play<'_> {
    let mut play = awaiting(stage);
    let half = ANSWER.len() - 5;
    play.origin().say(&ANSWER.as_bytes()[..half]);
    play.worker.hear(FIRST_HALF);
    play
}

/// The worker does not read, and everything between it and the origin is full.
pub(super) fn answering_a_stalled_worker(stage: &Stage) -> Play<'_> {
    let mut play = awaiting(stage);
    play.origin().say(b"HTTP/1.1 200 OK\r\n\r\n");
    play.stuffed = play.origin().say_until_stalled();
    play
}

/// The answer is out, and the connection is kept for the next request.
pub(super) fn idle(stage: &Stage) -> Play<'_> {
    let mut play = awaiting(stage);
    finish_by_answering(&mut play);
    play.wait_until_nothing_is_under_way();
    play
}

/// The origin has a second request, over the connection that was kept for it.
pub(super) fn awaiting_again(stage: &Stage) -> Play<'_> {
    let mut play = idle(stage);
    ask_again(&mut play);
    hear_the_next_request(&mut play);
    play
}

/// Both sides go on as WebSocket, and have spoken.
pub(super) fn websocket(stage: &Stage) -> Play<'_> {
    let mut play = Play::begin(stage, Scheme::Http);
    play.worker.say(play.request("GET", WEBSOCKET).as_bytes());
    play.accept().hear("\r\n\r\n");
    play.origin().say(format!("HTTP/1.1 101 Switching Protocols\r\n{WEBSOCKET}\r\n").as_bytes());
    let heard = play.worker.hear("\r\n\r\n");
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    tunnels::finish_by_talking(&mut play);
    play
}

pub(super) fn ask_again(play: &mut Play<'_>) {
    play.worker.try_to_say(play.request("GET", "").as_bytes());
}

pub(super) fn finish_from_the_start(play: &mut Play<'_>) {
    play.accept().hear("\r\n\r\n");
    finish_by_answering(play);
}

pub(super) fn finish_again(play: &mut Play<'_>) {
    hear_the_next_request(play);
    finish_by_answering(play);
}

pub(super) fn finish_once_accepted(play: &mut Play<'_>) {
    play.origin().hear("\r\n\r\n");
    finish_by_answering(play);
}

pub(super) fn finish_by_answering(play: &mut Play<'_>) {
    play.origin().say(ANSWER.as_bytes());
    hear_whole_answer(&mut play.worker);
}

pub(super) fn finish_the_body(play: &mut Play<'_>) {
    play.worker.say(b"56789");
    play.origin().hear("56789");
    finish_by_answering(play);
}

pub(super) fn finish_the_answer(play: &mut Play<'_>) {
    play.origin().say(b"56789");
    play.worker.hear("56789");
}

pub(super) fn finish_reading(play: &mut Play<'_>) {
    play.origin.take();
    play.worker.hear("\r\n\r\n");
    // The end of such an answer is the end of its chunks.
    let heard = play.worker.hear("\r\n0\r\n\r\n");
    let body = heard.bytes().filter(|byte| *byte == b'x').count();
    assert_eq!(body, play.stuffed);
}

/// The next request comes over the connection that was kept, or over another one.
fn hear_the_next_request(play: &mut Play<'_>) {
    if !play.origin().hears_something() {
        play.accept();
    }
    play.origin().hear("\r\n\r\n");
}

fn hear_whole_answer(worker: &mut Side) {
    let heard = worker.hear("0123456789");
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}
