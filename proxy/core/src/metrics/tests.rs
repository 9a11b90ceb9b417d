use std::{collections::BTreeSet, time::Duration};

use prometheus_client::{encoding::text::encode, registry::Registry};

use super::*;

/// What is printed of `metrics`, without the comments.
fn printed(metrics: &Arc<Metrics>) -> Vec<String> {
    let mut registry = Registry::with_prefix("egret");
    registry.register_collector(Box::new(metrics.clone()));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The names and labels of what is printed.
fn series(metrics: &Arc<Metrics>) -> BTreeSet<String> {
    let series = printed(metrics).into_iter().map(|line| {
        let (series, _) = line.rsplit_once(' ').expect("a figure follows");
        series.to_owned()
    });
    series.collect()
}

#[test]
fn every_series_is_there_before_anything_is_counted() {
    let metrics = Arc::new(Metrics::default());
    let before = series(&metrics);
    metrics.requests.of(Judged::Deny).of(Code::HostNotAllowed).add(1);
    metrics.lookup.of(LookedUp::Timeout).observe(Duration::from_secs(2));
    metrics.closed.of(ClosedBy::Drain).add(1);
    drop(metrics.tunnel(Carries::Tls));
    assert_eq!(series(&metrics), before);
    assert_eq!(before.len(), printed(&metrics).len(), "no series is printed twice");
}

#[test]
fn only_verdicts_that_can_be_have_a_series() {
    let series = series(&Arc::default());
    let has = |verdict, reason| {
        let labels = format!("{{verdict=\"{verdict}\",reason=\"egress.{reason}\"}}");
        series.contains(&format!("egret_requests_total{labels}"))
    };
    assert!(has("allow", "allowed") && !has("deny", "allowed"));
    assert!(has("deny", "host_not_allowed") && !has("allow", "host_not_allowed"));
    assert!(has("would_deny", "host_not_allowed") && !has("would_deny", "rule_denied"));
    assert!(has("deny", "rule_denied"));
}

#[test]
fn what_is_open_is_counted_until_it_is_dropped() {
    let metrics = Arc::new(Metrics::default());
    let says = |line: &str| printed(&metrics).iter().any(|printed| printed == line);
    let open = (metrics.connection(), metrics.tunnel(Carries::Websocket));
    assert!(says("egret_connections 1") && says("egret_tunnels{kind=\"websocket\"} 1"));
    assert!(says("egret_tunnel_duration_seconds_count{kind=\"websocket\"} 0"));
    drop(open);
    assert!(says("egret_connections 0") && says("egret_tunnels{kind=\"websocket\"} 0"));
    assert!(says("egret_tunnel_duration_seconds_count{kind=\"websocket\"} 1"));
}
