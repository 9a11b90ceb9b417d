//! Revocation cannot be raced: at each await between the decision and the end of an exchange, each
//! way in which a right can end.
//!
//! What is asserted of a cut: both sides are reset, and an origin that was not reached yet never
//! gets a SYN; the origin gets nothing of what the worker sends after the call has returned, and of
//! what it sent before no more than the kernel had been handed by then; every exchange has one
//! decision and one completion, and the completion says what ended it. Beside each await stands
//! the same about another worker and another rule, which leaves it to its good end.

#[path = "races/door.rs"]
mod door;
#[path = "races/flow.rs"]
mod flow;
#[path = "races/injections.rs"]
mod injections;
#[path = "races/kernel.rs"]
mod kernel;
#[path = "races/ledger.rs"]
mod ledger;
#[path = "races/play.rs"]
mod play;
#[path = "races/points.rs"]
mod points;
#[path = "races/side.rs"]
mod side;
#[path = "races/storm.rs"]
mod storm;
#[path = "races/tunnel_points.rs"]
mod tunnels;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use libtest_mimic::Trial;
use serde_json::Value;

use self::{
    Outcome::{Cut, Denied, Spared},
    injections::{INJECTIONS, Injection},
    play::Play,
    side::{Fate, PATIENCE},
};
use crate::{Claim, scene::Stage};

/// What becomes of an exchange whose right ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Both sides are reset.
    Cut,
    /// It is refused at its next step, before a byte goes up.
    Denied,
    /// It does not have that right yet, so there is nothing to take away.
    Spared,
}

/// An await at which an exchange can be.
struct Point {
    name: &'static str,
    /// Brings a play there.
    reach: fn(&Stage) -> Play<'_>,
    /// Lets what it waits for come.
    go_on: fn(&mut Play<'_>),
    /// Brings it to its good end from there.
    finish: fn(&mut Play<'_>),
    /// How many exchanges are over by then.
    over: usize,
    /// What each injection does, in their order: the worker is cut, the rule is cut, the rule
    /// expires, the worker is removed, the policy is replaced.
    outcomes: [Outcome; 5],
}

/// The rule that allowed a request is known from its decision on, and that of a tunnel from its
/// first bytes on. Where nothing has been granted, or the name and the origin are still awaited,
/// an expiry is found by the next step, not announced.
const POINTS: &[Point] = &[
    Point {
        name: "a_name_is_resolved",
        reach: points::resolving,
        go_on: points::let_the_name_resolve,
        finish: points::finish_from_the_start,
        over: 0,
        outcomes: [Cut, Cut, Denied, Cut, Cut],
    },
    Point {
        name: "an_origin_is_dialled",
        reach: points::connecting,
        go_on: points::let_the_origin_be_reached,
        finish: points::finish_from_the_start,
        over: 0,
        outcomes: [Cut, Cut, Denied, Cut, Cut],
    },
    Point {
        name: "a_decision_is_written",
        reach: points::recording,
        go_on: points::let_the_record_be_written,
        finish: points::finish_once_accepted,
        over: 0,
        outcomes: [Cut, Cut, Denied, Cut, Cut],
    },
    Point {
        name: "an_answer_is_awaited",
        reach: points::awaiting,
        go_on: nothing_more,
        finish: points::finish_by_answering,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "a_request_body_is_half_sent",
        reach: points::sending,
        go_on: nothing_more,
        finish: points::finish_the_body,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "an_answer_is_half_read",
        reach: points::answering,
        go_on: nothing_more,
        finish: points::finish_the_answer,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "a_worker_does_not_read_its_answer",
        reach: points::answering_a_stalled_worker,
        go_on: nothing_more,
        finish: points::finish_reading,
        over: 0,
        outcomes: [Cut; 5],
    },
    // Nothing is granted between two requests: the connection may stay, and the next one is denied.
    Point {
        name: "a_connection_is_kept_alive",
        reach: points::idle,
        go_on: points::ask_again,
        finish: points::finish_again,
        over: 1,
        outcomes: [Cut, Spared, Denied, Cut, Denied],
    },
    Point {
        name: "a_second_request_awaits_its_answer",
        reach: points::awaiting_again,
        go_on: nothing_more,
        finish: points::finish_by_answering,
        over: 1,
        outcomes: [Cut; 5],
    },
    Point {
        name: "a_websocket_is_idle",
        reach: points::websocket,
        go_on: nothing_more,
        finish: tunnels::finish_by_talking,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "the_name_of_a_tunnel_is_resolved",
        reach: tunnels::resolving,
        go_on: points::let_the_name_resolve,
        finish: tunnels::finish_from_the_start,
        over: 0,
        outcomes: [Cut, Spared, Denied, Cut, Cut],
    },
    Point {
        name: "the_origin_of_a_tunnel_is_dialled",
        reach: tunnels::connecting,
        go_on: points::let_the_origin_be_reached,
        finish: tunnels::finish_from_the_start,
        over: 0,
        outcomes: [Cut, Spared, Denied, Cut, Cut],
    },
    Point {
        name: "a_tunnel_awaits_its_first_bytes",
        reach: tunnels::granted,
        go_on: tunnels::send_a_hello,
        finish: tunnels::finish_after_the_hello,
        over: 0,
        outcomes: [Cut, Spared, Denied, Cut, Cut],
    },
    Point {
        name: "a_tunnel_has_half_a_hello",
        reach: tunnels::half_a_hello,
        go_on: tunnels::send_the_other_half,
        finish: tunnels::finish_after_the_hello,
        over: 0,
        outcomes: [Cut, Spared, Denied, Cut, Cut],
    },
    Point {
        name: "the_decision_on_a_tunnel_is_written",
        reach: tunnels::recording,
        go_on: points::let_the_record_be_written,
        finish: tunnels::finish_after_the_hello,
        over: 0,
        outcomes: [Cut, Cut, Denied, Cut, Cut],
    },
    Point {
        name: "a_tunnel_is_idle",
        reach: tunnels::idle,
        go_on: nothing_more,
        finish: tunnels::finish_by_talking,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "a_worker_does_not_read_its_tunnel",
        reach: tunnels::stalled_worker,
        go_on: nothing_more,
        finish: tunnels::finish_listening,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "an_origin_does_not_read_its_tunnel",
        reach: tunnels::stalled_origin,
        go_on: nothing_more,
        finish: tunnels::finish_hearing,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "a_worker_has_closed_its_direction",
        reach: tunnels::closed_by_the_worker,
        go_on: nothing_more,
        finish: tunnels::finish_downwards,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "an_origin_has_closed_its_direction",
        reach: tunnels::closed_by_the_origin,
        go_on: nothing_more,
        finish: tunnels::finish_upwards,
        over: 0,
        outcomes: [Cut; 5],
    },
    Point {
        name: "an_opaque_tunnel_is_idle",
        reach: tunnels::opaque,
        go_on: nothing_more,
        finish: tunnels::finish_by_talking,
        over: 0,
        outcomes: [Cut; 5],
    },
    // The tunnel itself has no rule: each request in it has, and the next one is denied.
    Point {
        name: "a_tunnel_of_plain_http_is_between_requests",
        reach: tunnels::http_idle,
        go_on: tunnels::ask_inside,
        finish: tunnels::finish_inside,
        over: 1,
        outcomes: [Cut, Spared, Denied, Cut, Cut],
    },
    Point {
        name: "a_request_in_a_tunnel_awaits_its_answer",
        reach: tunnels::http_awaiting,
        go_on: nothing_more,
        finish: points::finish_by_answering,
        over: 0,
        outcomes: [Cut; 5],
    },
];

fn nothing_more(_: &mut Play<'_>) {}

/// The whole table: each point with each injection, and once with all of them about others.
pub(crate) fn trials(stage: &Arc<Stage>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for point in POINTS {
        for (injection, outcome) in INJECTIONS.iter().zip(point.outcomes) {
            let stage = stage.clone();
            let name = format!("{}_while_{}", injection.name, point.name);
            trials.push(Trial::test(name, move || {
                check(&stage, point, injection, outcome);
                Ok(())
            }));
        }
        let others = stage.clone();
        trials.push(Trial::test(format!("what_concerns_others_while_{}", point.name), move || {
            spared(&others, point);
            Ok(())
        }));
        let left = stage.clone();
        trials.push(Trial::test(format!("a_worker_that_resets_while_{}", point.name), move || {
            abandoned(&left, point);
            Ok(())
        }));
    }
    let alone: [Claim; 2] = [
        ("a_cut_stops_a_tunnel_at_full_speed", flow::cut_at_full_speed),
        ("many_at_once_under_random_cuts_and_policies", storm::storm),
    ];
    for (name, run) in alone {
        let stage = stage.clone();
        trials.push(Trial::test(name, move || {
            run(&stage);
            Ok(())
        }));
    }
    trials
}

/// What the worker sends when the call has returned; the origin must not get a byte of it.
const LATE: &[u8] = b"LATE";

fn check(stage: &Stage, point: &Point, injection: &Injection, outcome: Outcome) {
    let mut play = (point.reach)(stage);
    match outcome {
        Cut => {
            play.dials();
            let cut = (injection.strike)(&play);
            // Expiry is no call that returns: the proxy finds it by itself, within a second.
            if injection.name != "the_end_of_its_rule" {
                assert!(cut > 0, "nothing was cut");
                play.worker.try_to_say(LATE);
            }
            assert_eq!(play.worker.rest(PATIENCE).1, Fate::Reset, "the worker's side");
            nothing_reaches_the_origin(&mut play);
            (point.go_on)(&mut play);
            assert_eq!(play.dials(), 0, "the origin is dialled after the cut");
            assert!(play.door.accept_if_any().is_none(), "the origin is reached after the cut");
            ended(point, &play.end(), injection.closed_by);
        }
        Denied => {
            let dialled = play.dials() > 0;
            (injection.strike)(&play);
            (point.go_on)(&mut play);
            denied(&mut play, point);
            assert!(
                dialled || play.dials() == 0,
                "the origin is dialled after the right has ended"
            );
            let records = play.end();
            pairs(&records);
            assert!(records.iter().any(|r| r["closed_by"] == injection.closed_by), "{records:#?}");
        }
        Spared => {
            assert_eq!((injection.strike)(&play), 0);
            to_its_good_end(play, point);
        }
    }
}

/// The worker is told, or its tunnel closed, and the origin gets nothing.
fn denied(play: &mut Play<'_>, point: &Point) {
    if play.is_relayed() {
        let (heard, fate) = play.worker.rest(PATIENCE);
        assert!(heard.is_empty() && fate != Fate::Open, "{} bytes, {fate:?}", heard.len());
    } else {
        let heard = play.worker.hear("\r\n\r\n");
        assert!(heard.starts_with("HTTP/1.1 403 egress.host_not_allowed "), "{heard}");
    }
    if play.origin.is_none() {
        play.origin = play.door.accept_if_any();
    }
    let Some(origin) = &mut play.origin else { return };
    // An origin that served the worker before may be kept for what is still allowed.
    let within = if point.over > 0 { Duration::ZERO } else { PATIENCE };
    let (heard, fate) = origin.rest(within);
    assert!(heard.is_empty(), "{:?}", String::from_utf8_lossy(&heard));
    assert!(point.over > 0 || fate != Fate::Open, "the origin's side is left open");
}

/// The origin's side is reset; all that it still finds was under way before.
fn nothing_reaches_the_origin(play: &mut Play<'_>) {
    play.scene.wait_until_empty();
    play.wait_until_the_origin_is_left_alone();
    let stuffed = play.stuffed;
    if let Some(origin) = &mut play.origin {
        let (heard, fate) = origin.rest(PATIENCE);
        assert_eq!(fate, Fate::Reset, "the origin's side");
        assert!(heard.len() <= stuffed && heard.iter().all(|byte| *byte == b'x'));
    }
}

/// Everything about another worker, another rule: the exchange does not notice.
fn spared(stage: &Stage, point: &Point) {
    let play = (point.reach)(stage);
    for injection in &INJECTIONS {
        assert_eq!((injection.miss)(&play), 0, "{}", injection.name);
    }
    to_its_good_end(play, point);
}

fn to_its_good_end(mut play: Play<'_>, point: &Point) {
    (point.go_on)(&mut play);
    (point.finish)(&mut play);
    let records = play.end();
    pairs(&records);
    for record in records {
        assert_eq!(record["verdict"], "allow", "{record:#}");
        let by = &record["closed_by"];
        assert!(by.is_null() || by == "client" || by == "upstream", "{record:#}");
    }
}

/// The worker resets the connection itself: as good as a cut, where anything is open.
fn abandoned(stage: &Stage, point: &Point) {
    let mut play = (point.reach)(stage);
    play.dials();
    play.worker.break_off();
    if play.is_relayed() && play.ledger.is_some() {
        // A record that is being written is awaited first.
        (point.go_on)(&mut play);
    }
    play.scene.wait_until_empty();
    if point.over == 0 {
        play.wait_until_the_origin_is_left_alone();
    }
    (point.go_on)(&mut play);
    assert_eq!(play.dials(), 0, "the origin is dialled for nobody");
    ended(point, &play.end(), "client");
}

/// What was open was ended by `by`; what had ended before was not. All of it had been allowed.
fn ended(point: &Point, records: &[Value], by: &str) {
    let mut over = point.over;
    for (decision, completion) in pairs(records) {
        assert_eq!(decision["verdict"], "allow", "{decision:#}");
        if over > 0 && completion["closed_by"] == "upstream" {
            over -= 1;
        } else {
            assert_eq!(completion["closed_by"], by, "{completion:#}");
        }
    }
    assert_eq!(over, 0, "what was over has no completion of its own: {records:#?}");
}

/// Every exchange has exactly one decision and exactly one completion.
fn pairs(records: &[Value]) -> Vec<(&Value, &Value)> {
    let mut by_id: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for record in records {
        by_id.entry(record["id"].as_str().unwrap()).or_default().push(record);
    }
    assert!(!by_id.is_empty(), "nothing was recorded");
    by_id.into_values().map(pair).collect()
}

fn pair(records: Vec<&Value>) -> (&Value, &Value) {
    match records[..] {
        [decision, completion]
            if decision["event"] == "decision" && completion["event"] == "completion" =>
        {
            (decision, completion)
        }
        _ => panic!("not a decision and a completion: {records:#?}"),
    }
}
