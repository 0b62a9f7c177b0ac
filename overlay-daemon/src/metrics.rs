//! The status as OpenMetrics text. No figure is kept for each peer but its state: their number is the cluster's.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::status::Status;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    state: String,
    path: String,
}

/// The status in the form that Prometheus reads.
pub fn text(status: &Status) -> String {
    let mut registry = Registry::with_prefix("heddle");
    let ready = Gauge::<i64>::default();
    ready.set(i64::from(status.ready));
    registry.register(
        "ready",
        "1 when every known peer is programmed and the conflist is in place",
        ready,
    );
    let problems = Gauge::<i64>::default();
    problems.set(i64::try_from(status.problems.len()).unwrap_or(i64::MAX));
    registry.register("problems", "Sentences that `heddle status` shows", problems);
    let peers = Family::<PeerLabels, Gauge>::default();
    for peer in status.peers.values() {
        let labels = PeerLabels {
            state: peer.state.clone(),
            path: peer.path.clone(),
        };
        peers.get_or_create(&labels).inc();
    }
    registry.register("peers", "Peers by state and path", peers);
    for (name, help, value) in [
        (
            "kernel_passes",
            "Looks at the kernel's state",
            status.passes,
        ),
        ("kernel_writes", "Changes made in the kernel", status.writes),
    ] {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
