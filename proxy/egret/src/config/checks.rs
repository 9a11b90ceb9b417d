//! What listeners and workers mean together.

use egret_policy::source::Report;
use egret_proxy::IdentityKind;

use super::{listener::Listener, unique, worker::Known};

/// Checks that nobody is let in without a proof from elsewhere, that each worker can be told from
/// the others, and that its proof is taken somewhere.
pub(super) fn together(report: &Report<'_>, listeners: &[Listener], workers: &[Known]) {
    for listener in listeners {
        anonymous_is_local(report, listener);
    }
    unique(
        report,
        "this address",
        "give each listener its own address",
        listeners
            .iter()
            .filter_map(|listener| listener.address.as_ref())
            .filter(|address| address.value.port() != 0)
            .map(|address| (address.value, &address.span)),
    );
    unique(
        report,
        "a worker of this id",
        "give each worker its own id",
        workers.iter().filter_map(|worker| worker.id.as_ref()).map(|id| (&id.value, &id.span)),
    );
    unique(
        report,
        "a worker with this token",
        "give each worker its own token: whoever has one of them would be both",
        workers
            .iter()
            .filter_map(|worker| worker.token_sha256.as_ref())
            .map(|token| (token.value, &token.span)),
    );
    tokens_are_taken(report, listeners, workers);
}

fn anonymous_is_local(report: &Report<'_>, listener: &Listener) {
    let anonymous = listener.identity.iter().find(|kind| kind.value == IdentityKind::Anonymous);
    let (Some(anonymous), Some(address)) = (anonymous, &listener.address) else { return };
    if !address.value.ip().to_canonical().is_loopback() {
        report.problem(
            &anonymous.span,
            format!(
                "`anonymous` on {}: everybody who reaches that address would be admitted",
                address.value
            ),
            "take `token`, or listen on a loopback address",
        );
    }
}

fn tokens_are_taken(report: &Report<'_>, listeners: &[Listener], workers: &[Known]) {
    let taken = listeners.iter().any(|listener| listener.takes(IdentityKind::Token));
    // A kind that could not be read may have been the one.
    if !taken && listeners.iter().all(|listener| !listener.identity.is_empty()) {
        for id in workers.iter().filter_map(|worker| worker.id.as_ref()) {
            report.problem(
                &id.span,
                format!("no listener takes the proof of worker `{}`", id.value),
                "add `token` to the `identity` of a listener",
            );
        }
    }
    if workers.is_empty() {
        let useless = listeners.iter().filter(|listener| {
            listener.takes(IdentityKind::Token) && !listener.takes(IdentityKind::Anonymous)
        });
        for token in useless.flat_map(|listener| &listener.identity) {
            report.warning(
                &token.span,
                "this listener admits nobody: no worker has a token",
                "add `[[worker]]` with `id` and `token_sha256`",
            );
        }
    }
}
