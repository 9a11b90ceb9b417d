//! What listeners and workers mean together.
//!
//! Nobody is let in without a proof from elsewhere, a listener takes only what can be proved
//! there, and each worker can prove who it is somewhere and is told from all others. What these
//! checks let through leaves the data path no choice to make.

use std::{collections::BTreeMap, net::SocketAddr};

use egret_policy::source::{At, Report, Span};
use egret_proxy::{IdentityKind, ListenAddress};
use ipnet::IpNet;

use super::{listener::Listener, unique, worker::Known};

pub(super) fn together(
    report: &Report<'_>,
    listeners: &[Listener],
    workers: &[Known],
    metrics: Option<&At<SocketAddr>>,
) {
    for listener in listeners {
        kinds_fit_the_address(report, listener);
    }
    let has_real_port = |address: &&At<ListenAddress>| {
        address.value.tcp().is_none_or(|address| address.port() != 0)
    };
    let metrics =
        metrics.map(|at| At { value: ListenAddress::Tcp(at.value), span: at.span.clone() });
    unique(
        report,
        "this address",
        "give each listener its own address",
        listeners
            .iter()
            .filter_map(|listener| listener.address.as_ref())
            .chain(&metrics)
            .filter(has_real_port)
            .map(|address| (&address.value, &address.span)),
    );
    wildcards_stand_alone(report, listeners, metrics.as_ref());
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
            .filter_map(|worker| worker.token_sha256.read())
            .map(|token| (token.value, &token.span)),
    );
    users_are_told_apart(report, workers);
    sources_are_told_apart(report, workers);
    proofs_are_taken(report, listeners, workers);
    listeners_admit_somebody(report, listeners, workers);
}

fn kinds_fit_the_address(report: &Report<'_>, listener: &Listener) {
    let Some(address) = &listener.address else { return };
    let open = match &address.value {
        ListenAddress::Tcp(tcp) => !tcp.ip().to_canonical().is_loopback(),
        ListenAddress::Unix(_) => false,
    };
    let address = &address.value;
    if let (true, Some(anonymous)) = (open, listener.find(IdentityKind::Anonymous)) {
        report.problem(
            &anonymous.span,
            format!(
                "`anonymous` on {address}: everybody who reaches that address would be admitted"
            ),
            "take `token` or `source`, or listen on a loopback address",
        );
    }
    match address {
        ListenAddress::Tcp(_) => {
            if let Some(peer) = listener.find(IdentityKind::Peer) {
                report.problem(
                    &peer.span,
                    format!(
                        "`peer` on {address}: TCP does not tell which user is at its other end"
                    ),
                    "take `token` or `source`, or listen on `unix:/…`",
                );
            }
        }
        ListenAddress::Unix(_) => {
            if let Some(source) = listener.find(IdentityKind::Source) {
                report.problem(
                    &source.span,
                    "`source` on a Unix socket: whoever connects there has no address",
                    "take `peer` or `token`, or listen on a TCP address",
                );
            }
        }
    }
}

/// A wildcard takes every address of its port, one of IPv6 those of IPv4 too; the system would say
/// of the other listener that somebody has its address already.
fn wildcards_stand_alone(
    report: &Report<'_>,
    listeners: &[Listener],
    metrics: Option<&At<ListenAddress>>,
) {
    let addresses: Vec<(SocketAddr, &Span)> = listeners
        .iter()
        .filter_map(|listener| listener.address.as_ref())
        .chain(metrics)
        .filter_map(|at| Some((at.value.tcp()?, &at.span)))
        .filter(|(address, _)| address.port() != 0)
        .collect();
    for (wildcard, _) in &addresses {
        let covers = |other: &SocketAddr| {
            wildcard.ip().is_unspecified()
                && wildcard != other
                && wildcard.port() == other.port()
                && (wildcard.is_ipv6() || other.is_ipv4())
        };
        for (covered, span) in addresses.iter().filter(|(other, _)| covers(other)) {
            report.problem(
                span,
                format!("`{covered}` is taken: `{wildcard}` is every address of this port"),
                "keep one of the two, or give them different ports",
            );
        }
    }
}

/// Whether nothing but the place they share says which of two workers is asking. Where only one
/// has a token, its token would make it both; and without it, it must not become the other.
fn cannot_be_told(one: &Known, other: &Known) -> bool {
    !(one.token_sha256.is_required() && other.token_sha256.is_required())
}

fn users_are_told_apart(report: &Report<'_>, workers: &[Known]) {
    let mut seen: BTreeMap<u32, Vec<(&Known, &Span)>> = BTreeMap::new();
    for worker in workers {
        let Some(uid) = worker.uid.read() else { continue };
        let others = seen.entry(uid.value).or_default();
        if let Some((_, first)) = others.iter().find(|(other, _)| cannot_be_told(worker, other)) {
            let (line, _) = report.position(first.start);
            report.problem(
                &uid.span,
                format!("uid {} is a worker's in line {line} already", uid.value),
                "give each of the two a user of its own, or a token",
            );
        }
        others.push((worker, &uid.span));
    }
}

/// Networks lie within each other or apart, so whoever may share an address with one that begins
/// later is still open when that one begins.
fn sources_are_told_apart(report: &Report<'_>, workers: &[Known]) {
    let mut sources: Vec<(&At<IpNet>, &Known)> = workers
        .iter()
        .flat_map(|worker| {
            worker.source.read().into_iter().flatten().map(move |network| (network, worker))
        })
        .collect();
    sources.sort_by_key(|(at, _)| (at.value.network(), at.value.prefix_len(), at.span.start));
    let mut open: Vec<(&At<IpNet>, &Known)> = Vec::new();
    for (network, worker) in sources {
        while open.pop_if(|(outer, _)| !outer.value.contains(&network.value)).is_some() {}
        let shared = open
            .iter()
            .find(|(_, other)| !std::ptr::eq(*other, worker) && cannot_be_told(worker, other));
        if let Some((outer, _)) = shared {
            let (first, second) = match outer.span.start < network.span.start {
                true => (outer, &network),
                false => (&network, outer),
            };
            let (line, _) = report.position(first.span.start);
            report.problem(
                &second.span,
                format!(
                    "source `{}` shares addresses with `{}` of another worker in line {line}",
                    second.value, first.value
                ),
                "give each of the two addresses of its own, or a token",
            );
        }
        open.push((network, worker));
    }
}

/// The kinds of proof that a worker must give.
fn kinds(worker: &Known) -> Vec<IdentityKind> {
    let listed = [
        (worker.source.is_required(), IdentityKind::Source),
        (worker.uid.is_required(), IdentityKind::Peer),
        (worker.token_sha256.is_required(), IdentityKind::Token),
    ];
    listed.into_iter().filter_map(|(required, kind)| required.then_some(kind)).collect()
}

fn admits(listener: &Listener, worker: &Known) -> bool {
    let kinds = kinds(worker);
    !kinds.is_empty() && kinds.iter().all(|kind| listener.takes(*kind))
}

fn proofs_are_taken(report: &Report<'_>, listeners: &[Listener], workers: &[Known]) {
    // A kind that could not be read may have been the one.
    if listeners.iter().any(|listener| listener.identity.is_empty()) {
        return;
    }
    for worker in workers {
        let Some(id) = &worker.id else { continue };
        let kinds = kinds(worker);
        // What cannot be proved anywhere has been reported.
        let hopeless = kinds.is_empty() || worker.source.is_required() && worker.uid.is_required();
        if hopeless || listeners.iter().any(|listener| admits(listener, worker)) {
            continue;
        }
        let names: Vec<_> = kinds.iter().map(|kind| format!("`{}`", name(*kind))).collect();
        let names = names.join(" and ");
        let which = match worker.uid.is_required() {
            true => "a listener on a Unix socket",
            false => "a listener",
        };
        report.problem(
            &id.span,
            match kinds.len() {
                1 => format!("no listener takes the proof of worker `{}`", id.value),
                _ => format!("no listener takes all proofs of worker `{}`", id.value),
            },
            format!("add {names} to the `identity` of {which}"),
        );
    }
}

fn listeners_admit_somebody(report: &Report<'_>, listeners: &[Listener], workers: &[Known]) {
    for listener in listeners {
        let Some(first) = listener.identity.first() else { continue };
        if listener.takes(IdentityKind::Anonymous)
            || workers.iter().any(|worker| admits(listener, worker))
        {
            continue;
        }
        report.warning(
            &first.span,
            "this listener admits nobody: no worker proves itself by what it takes alone",
            "add `[[worker]]` with `id` and `token_sha256`, `source` or `uid`",
        );
    }
}

fn name(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Anonymous => "anonymous",
        IdentityKind::Token => "token",
        IdentityKind::Source => "source",
        IdentityKind::Peer => "peer",
    }
}
