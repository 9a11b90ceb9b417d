//! Tells which worker is asking (stage 3).
//!
//! Identity never falls through: a proof that is there and wrong refuses, and the listener's next
//! kind is not tried. Proofs of kinds that a listener does not take are stripped unread. All
//! proofs listed for a worker are required.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use egret_policy::{Worker, WorkerId};
use http::{HeaderMap, header::PROXY_AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{refusal::Challenge, settings::IdentityKind};

/// The id of whoever a listener admits without a proof.
const ANONYMOUS: &str = "anonymous";

/// Knows the workers and the proofs they are to give.
///
/// A worker that is missing here is refused until it appears, which is safe; one that is still
/// here after its rights ended is a hole, so an implementation answers from what is true now.
pub trait Workers: Send + Sync {
    /// Returns the worker `id` with the SHA-256 of the token it must show, if it has one.
    fn with_token(&self, id: &str) -> Option<(Arc<Worker>, [u8; 32])>;

    /// Whether `id` still has its rights; asked again before the first byte upstream.
    fn is_admitted(&self, id: &WorkerId) -> bool;
}

/// A worker of the configuration file.
#[derive(Debug, Clone)]
pub struct StaticWorker {
    /// Its id and labels.
    pub worker: Worker,
    /// SHA-256 of the bytes of its token.
    pub token_sha256: Option<[u8; 32]>,
}

/// The workers of the configuration file; they stay until the proxy is told otherwise.
#[derive(Debug, Default)]
pub struct StaticWorkers {
    by_id: HashMap<WorkerId, (Arc<Worker>, Option<[u8; 32]>)>,
}

impl StaticWorkers {
    /// Takes the workers; ids are unique, which the configuration reader has checked.
    pub fn new(workers: Vec<StaticWorker>) -> Self {
        let by_id = workers
            .into_iter()
            .map(|StaticWorker { worker, token_sha256 }| {
                (worker.id.clone(), (Arc::new(worker), token_sha256))
            })
            .collect();
        Self { by_id }
    }
}

impl Workers for StaticWorkers {
    fn with_token(&self, id: &str) -> Option<(Arc<Worker>, [u8; 32])> {
        let id = WorkerId::parse(id).ok()?;
        let (worker, token) = self.by_id.get(&id)?;
        Some((worker.clone(), (*token)?))
    }

    fn is_admitted(&self, id: &WorkerId) -> bool {
        self.by_id.contains_key(id)
    }
}

/// Why nobody was identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("this listener needs a proof of identity")]
    Required,
    #[error("the proof of identity is not valid")]
    Invalid,
}

/// Which kinds of proof a listener takes.
pub(crate) struct Identification {
    kinds: Vec<IdentityKind>,
    anonymous: Arc<Worker>,
}

impl Identification {
    pub(crate) fn new(kinds: Vec<IdentityKind>) -> Self {
        let id = WorkerId::parse(ANONYMOUS).expect("a plain word is an id");
        Self { kinds, anonymous: Arc::new(Worker { id, labels: Default::default() }) }
    }

    /// Returns what a worker that was not identified should be asked for.
    pub(crate) fn challenge(&self) -> Challenge {
        if self.takes_token() { Challenge::Basic } else { Challenge::None }
    }

    fn takes_token(&self) -> bool {
        self.kinds.contains(&IdentityKind::Token)
    }

    /// Identifies by the first kind, in the listener's order, whose proof is there.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        workers: &dyn Workers,
    ) -> Result<Arc<Worker>, IdentityError> {
        for kind in &self.kinds {
            match kind {
                IdentityKind::Token => match proof(headers)? {
                    Some(token) => return by_token(&token, workers),
                    None => continue,
                },
                IdentityKind::Anonymous => {
                    // A token that this listener also takes must not be passed over unread.
                    if self.takes_token() && proof(headers)?.is_some() {
                        continue;
                    }
                    return Ok(self.anonymous.clone());
                }
            }
        }
        Err(IdentityError::Required)
    }

    /// Whether `id` may still act; the anonymous worker may as long as its listener is there.
    pub(crate) fn is_admitted(&self, id: &WorkerId, workers: &dyn Workers) -> bool {
        *id == self.anonymous.id || workers.is_admitted(id)
    }
}

struct Token {
    id: String,
    digest: [u8; 32],
}

/// The Basic credentials of a request (RFC 7617); two of them, or other schemes, are invalid.
fn proof(headers: &HeaderMap) -> Result<Option<Token>, IdentityError> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(IdentityError::Invalid);
    }
    let text = value.to_str().map_err(|_| IdentityError::Invalid)?;
    let (scheme, encoded) = text.split_once(' ').ok_or(IdentityError::Invalid)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(IdentityError::Invalid);
    }
    let pair = STANDARD.decode(encoded.trim()).map_err(|_| IdentityError::Invalid)?;
    let colon = pair.iter().position(|byte| *byte == b':').ok_or(IdentityError::Invalid)?;
    let id = std::str::from_utf8(&pair[..colon]).map_err(|_| IdentityError::Invalid)?;
    let digest = Sha256::digest(&pair[colon + 1..]).into();
    Ok(Some(Token { id: id.to_owned(), digest }))
}

fn by_token(token: &Token, workers: &dyn Workers) -> Result<Arc<Worker>, IdentityError> {
    // An unknown id takes the same comparison, so that time does not tell which ids exist.
    let (worker, expected) = match workers.with_token(&token.id) {
        Some((worker, expected)) => (Some(worker), expected),
        None => (None, [0; 32]),
    };
    let equal: bool = expected.ct_eq(&token.digest).into();
    match worker {
        Some(worker) if equal => Ok(worker),
        Some(_) | None => Err(IdentityError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOKEN: &[u8] = b"correct-horse";

    fn workers() -> StaticWorkers {
        let worker = Worker { id: WorkerId::parse("ci-1").unwrap(), labels: Default::default() };
        let token_sha256 = Some(Sha256::digest(TOKEN).into());
        StaticWorkers::new(vec![StaticWorker { worker, token_sha256 }])
    }

    fn basic(pair: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(pair));
        HeaderMap::from_iter([(PROXY_AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    fn identify(kinds: &[IdentityKind], headers: &HeaderMap) -> Result<String, IdentityError> {
        let identification = Identification::new(kinds.to_vec());
        identification.identify(headers, &workers()).map(|worker| worker.id.to_string())
    }

    const BOTH: &[IdentityKind] = &[IdentityKind::Token, IdentityKind::Anonymous];

    #[test]
    fn the_right_token_names_its_worker_and_a_wrong_one_nobody() {
        let kinds = &[IdentityKind::Token];
        assert_eq!(identify(kinds, &basic("ci-1:correct-horse")).as_deref(), Ok("ci-1"));
        assert_eq!(identify(kinds, &basic("ci-1:wrong")), Err(IdentityError::Invalid));
        assert_eq!(identify(kinds, &basic("ci-2:correct-horse")), Err(IdentityError::Invalid));
        assert_eq!(identify(kinds, &HeaderMap::new()), Err(IdentityError::Required));
    }

    #[test]
    fn a_wrong_token_never_falls_through_to_anonymous() {
        assert_eq!(identify(BOTH, &HeaderMap::new()).as_deref(), Ok("anonymous"));
        assert_eq!(identify(BOTH, &basic("ci-1:wrong")), Err(IdentityError::Invalid));
        let reversed = &[IdentityKind::Anonymous, IdentityKind::Token];
        assert_eq!(identify(reversed, &basic("ci-1:wrong")), Err(IdentityError::Invalid));
        assert_eq!(identify(reversed, &basic("ci-1:correct-horse")).as_deref(), Ok("ci-1"));
    }

    #[test]
    fn a_proof_that_the_listener_does_not_take_is_not_read() {
        let kinds = &[IdentityKind::Anonymous];
        assert_eq!(identify(kinds, &basic("ci-1:wrong")).as_deref(), Ok("anonymous"));
    }

    #[test]
    fn odd_credentials_are_invalid() {
        let kinds = &[IdentityKind::Token];
        let mut twice = basic("ci-1:correct-horse");
        twice.append(PROXY_AUTHORIZATION, twice[PROXY_AUTHORIZATION].clone());
        assert_eq!(identify(kinds, &twice), Err(IdentityError::Invalid));
        for value in ["Basic", "Basic !!!", "Digest eDp5", "Basic bm9jb2xvbg=="] {
            let headers =
                HeaderMap::from_iter([(PROXY_AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(identify(kinds, &headers), Err(IdentityError::Invalid), "{value}");
        }
    }
}
