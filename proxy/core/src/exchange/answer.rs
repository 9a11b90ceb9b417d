//! How a request is answered: what stages 2 to 9 end in, and which answers of an origin may be passed
//! on.

use http::{HeaderMap, Response, StatusCode, Version, header::CONTENT_LENGTH};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::tunnel::{OpenTunnel, Upgraded};
use crate::{hop, origin::Release, refusal::Refusal, relay::Bounds};

/// How stages 2 to 9 end when nothing refuses.
pub(super) enum Answer {
    /// The origin answered; its body is still to be relayed.
    Response { response: Response<Incoming>, limit: u64, bounds: Bounds, release: Release },
    /// The origin agreed to go on as WebSocket.
    Upgraded { response: Response<Incoming>, upgraded: Upgraded },
    /// CONNECT succeeded; the tunnel begins when the 200 has gone out.
    Tunnel { upgrade: OnUpgrade, tunnel: Box<OpenTunnel> },
    /// The request was to go no further than here.
    Here,
}

impl Answer {
    pub(super) fn upgraded(
        mut response: Response<Incoming>,
        worker: OnUpgrade,
        bounds: Bounds,
        release: Release,
    ) -> Self {
        let origin = hyper::upgrade::on(&mut response);
        Self::Upgraded { response, upgraded: Upgraded { worker, origin, bounds, release } }
    }
}

/// Takes from an answer what is not for the worker.
pub(super) fn fit_for_worker(response: &mut Response<Incoming>) {
    hop::towards_worker(response.headers_mut());
    // The version is each hop's own; hyper lowers it for a worker that speaks 1.0.
    *response.version_mut() = Version::HTTP_11;
    // The origin's reason phrase is not relayed: egret's own codes stand there.
    response.extensions_mut().clear();
}

/// Refuses answers that must not be passed on.
pub(super) fn judge(
    response: &Response<Incoming>,
    method: &str,
    limit: u64,
) -> Result<(), Refusal> {
    let status = response.status();
    // 101: nothing that leaves asks for another protocol. 407: a worker would answer it with the
    // credentials it has for this proxy (RFC 9110, section 11.7).
    if status.is_informational()
        || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || hop::is_ambiguous(response.headers())
    {
        return Err(Refusal::UpstreamProtocol);
    }
    // These say how long a body would be that they do not have (RFC 9110, section 8.6).
    let bodiless = method == "HEAD" || status == StatusCode::NOT_MODIFIED;
    if !bodiless && announced(response.headers()) > Some(limit) {
        return Err(Refusal::ResponseTooLarge);
    }
    Ok(())
}

/// The length that a message says it has.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
