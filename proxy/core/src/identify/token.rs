//! Reads the token of a request and finds the worker that it proves.
//!
//! `Proxy-Authorization` holds Basic credentials (RFC 7617: the user is the worker's id, the
//! password its token) or the token alone as Bearer (RFC 6750). A field that is there and is not
//! exactly one of these proves nobody. Tokens are known by their SHA-256 only, and an id that
//! nobody has takes the same way as one whose token is wrong.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::PROXY_AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{IdentityError, KnownWorker, Workers};

/// Returns the worker whose token a request shows, `None` when it shows none at all.
pub(super) fn shown(
    headers: &HeaderMap,
    workers: &dyn Workers,
) -> Result<Option<Arc<KnownWorker>>, IdentityError> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(IdentityError::Invalid);
    }
    let text = value.to_str().map_err(|_| IdentityError::Invalid)?;
    let (scheme, credentials) = text.split_once(' ').ok_or(IdentityError::Invalid)?;
    let credentials = credentials.trim_matches(' ');
    let proved = if scheme.eq_ignore_ascii_case("basic") {
        basic(credentials, workers)
    } else if scheme.eq_ignore_ascii_case("bearer") {
        let digest = Sha256::digest(credentials).into();
        proves(workers.with_token(&digest), digest)
    } else {
        None
    };
    proved.map(Some).ok_or(IdentityError::Invalid)
}

fn basic(encoded: &str, workers: &dyn Workers) -> Option<Arc<KnownWorker>> {
    let pair = STANDARD.decode(encoded).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let id = str::from_utf8(&pair[..colon]).ok()?;
    proves(workers.with_id(id), Sha256::digest(&pair[colon + 1..]).into())
}

/// Compares in constant time, also where there is nobody to compare with: time does not tell which
/// ids exist. A worker without a token has none that could be shown.
fn proves(found: Option<Arc<KnownWorker>>, digest: [u8; 32]) -> Option<Arc<KnownWorker>> {
    let expected = found.as_ref().and_then(|known| known.proofs.token_sha256);
    let equal: bool = expected.unwrap_or_default().ct_eq(&digest).into();
    found.filter(|_| equal && expected.is_some())
}
