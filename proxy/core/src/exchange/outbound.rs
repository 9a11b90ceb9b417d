//! A request on its way out: its head as the worker sent it, its body, and what an origin says
//! before its answer.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::{Request, StatusCode, request::Parts};
use hyper::{body::Incoming, ext::on_informational, upgrade::OnUpgrade};
use tokio_util::sync::CancellationToken;

use super::Asked;
use crate::{
    accept::Connection,
    hop::{self, Reach},
    record::Draft,
    refusal::Refusal,
    relay::{Meter, Upload, UploadState},
};

/// A request that has not been made fit to leave.
pub(super) struct Outbound {
    pub(super) parts: Parts,
    pub(super) body: Upload,
    pub(super) state: UploadState,
    /// The worker's end of what may go on as WebSocket.
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Outbound {
    pub(super) fn new(
        connection: &Connection,
        draft: &Draft,
        mut request: Request<Incoming>,
    ) -> Self {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let upgrade = hop::asks_for_websocket(&parts).then_some(upgrade);
        let idle = connection.shared.limits.body_idle_timeout;
        let (body, state) = Upload::new(body, draft.meter().clone(), idle, connection.cut.clone());
        Self { parts, body, state, upgrade }
    }

    /// Whether the worker wants to hear from us what it could hear from the origin.
    pub(super) fn ends_here(&self, asked: &Asked) -> Result<bool, Refusal> {
        match hop::reach(&asked.method, &self.parts.headers) {
            Reach::Onward => Ok(false),
            Reach::Here => Ok(true),
            Reach::Malformed => Err(Refusal::MaxForwards),
        }
    }

    /// Returns what is needed to send the request a second time.
    pub(super) fn again(&self) -> Again {
        Again {
            parts: self.parts.clone(),
            meter: self.body.meter().clone(),
            state: self.state.clone(),
            upgrade: self.upgrade.clone(),
        }
    }
}

/// A request that may have to be sent again, without its body.
pub(super) struct Again {
    parts: Parts,
    meter: Arc<Meter>,
    state: UploadState,
    upgrade: Option<OnUpgrade>,
}

impl Again {
    /// Joins the head with the body that was not sent; with none, if there was none.
    pub(super) fn with(self, body: Option<Upload>) -> Outbound {
        let Self { parts, meter, state, upgrade } = self;
        let body = body.unwrap_or_else(|| Upload::empty(meter, state.clone()));
        Outbound { parts, body, state, upgrade }
    }
}

/// The interim answers to one request (RFC 9110, section 15.2). They are counted and not passed on:
/// hyper tells the worker to continue by itself, when the body is asked for.
#[derive(Default)]
pub(super) struct Interim {
    /// Cancelled when the origin wants the body.
    pub(super) asked: CancellationToken,
    flood: CancellationToken,
}

impl Interim {
    /// Listens to what comes before the answer; what is returned is cancelled when it is too much.
    pub(super) fn listen<B>(self, request: &mut Request<B>) -> CancellationToken {
        let flooded = self.flood.clone();
        let count = AtomicU32::new(0);
        on_informational(request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                self.asked.cancel();
            }
            if count.fetch_add(1, Ordering::Relaxed) >= MOST_INTERIM {
                self.flood.cancel();
            }
        });
        flooded
    }
}

/// Real origins send one or two; an endless row of them is an attack on whoever waits.
const MOST_INTERIM: u32 = 32;
