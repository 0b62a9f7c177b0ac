//! The node's figures as OpenMetrics text. No figure is kept for each peer but its state: their number is the cluster's.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::calls::Calls;
use crate::drops::Drops;
use crate::events::Events;
use crate::probe::Probes;
use crate::reconciler::Report;
use crate::status::Status;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    state: String,
    path: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FamilyLabels {
    family: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    kind: String,
}

/// What the figures are taken from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// What the node says of itself.
    pub status: &'a Status,
    /// What the reconciler did.
    pub report: &'a Report,
    /// What the probes found.
    pub probes: &'a Probes,
    /// What the plugins were asked.
    pub calls: &'a Calls,
    /// What has happened.
    pub events: &'a Events,
    /// What the host drops.
    pub drops: &'a Drops,
    /// Addresses that are leased.
    pub leases: &'a [ipam::Lease],
}

/// All of it in the form that Prometheus reads.
pub fn text(sources: &Sources) -> String {
    let mut registry = Registry::with_prefix("heddle");
    node(sources, &mut registry);
    kernel(sources, &mut registry);
    events(sources.events, &mut registry);
    probes(sources.probes, &mut registry);
    registry.register(
        "cni_call_seconds",
        "Calls of the plugins on this node by plugin, command and result",
        sources.calls.clone(),
    );
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

fn node(sources: &Sources, registry: &mut Registry) {
    let status = sources.status;
    gauge(
        registry,
        "ready",
        "1 when every known peer is programmed and the conflist is in place",
        i64::from(status.ready),
    );
    gauge(
        registry,
        "problems",
        "Sentences that `heddle status` shows",
        count(status.problems.len()),
    );
    let peers = Family::<PeerLabels, Gauge>::default();
    for peer in status.peers.values() {
        let labels = PeerLabels {
            state: peer.state.to_string(),
            path: peer.path.to_string(),
        };
        peers.get_or_create(&labels).inc();
    }
    registry.register("peers", "Peers by state and path", peers);
    let leases = Family::<FamilyLabels, Gauge>::default();
    for family in ["ipv4", "ipv6"] {
        let of_it = |lease: &&ipam::Lease| lease.address.is_ipv4() == (family == "ipv4");
        let number = sources.leases.iter().filter(of_it).count();
        leases
            .get_or_create(&FamilyLabels { family })
            .set(count(number));
    }
    registry.register(
        "leases",
        "Addresses of this node's pod CIDRs that are leased, by family",
        leases,
    );
    if let Some(state) = &status.fast_path {
        gauge(
            registry,
            "fast_path_links",
            "Pods' links that the fast path is at; only where it is configured",
            count(state.links),
        );
    }
    gauge(
        registry,
        "leases_v4_limit",
        "Addresses that this node's IPv4 CIDR has for pods",
        i64::try_from(status.room()).unwrap_or(i64::MAX),
    );
}

fn kernel(sources: &Sources, registry: &mut Registry) {
    counter(
        registry,
        "kernel_passes",
        "Looks at the kernel's state",
        sources.report.passes,
    );
    let writes = Family::<KindLabels, Counter<u64, AtomicU64>>::default();
    for (kind, changes) in &sources.report.changes {
        writes.get_or_create(&KindLabels { kind }).inc_by(*changes);
    }
    registry.register(
        "kernel_writes",
        "Changes made in the kernel by kind of row",
        writes,
    );
    let drops = Family::<ReasonLabels, Counter<u64, AtomicU64>>::default();
    for (reason, count) in &sources.drops.all {
        drops.get_or_create(&ReasonLabels { reason }).inc_by(*count);
    }
    registry.register(
        "drops",
        "Packets that the host has dropped since its boot, by reason",
        drops,
    );
}

fn events(events: &Events, registry: &mut Registry) {
    let counts = Family::<EventLabels, Counter<u64, AtomicU64>>::default();
    for (kind, count) in events.counts() {
        // Named as in JSON.
        let name = serde_json::to_value(kind).unwrap_or_default();
        let kind = name.as_str().unwrap_or_default().to_owned();
        counts.get_or_create(&EventLabels { kind }).inc_by(count);
    }
    registry.register(
        "events",
        "What `heddle events` shows, by kind, since the start",
        counts,
    );
}

fn probes(probes: &Probes, registry: &mut Registry) {
    counter(
        registry,
        "probes_sent",
        "Probes through the overlay",
        probes.sent,
    );
    counter(
        registry,
        "probes_lost",
        "Probes that were not answered within a second",
        probes.lost,
    );
    registry.register(
        "probe_round_trip_seconds",
        "Round trips through the overlay, to all peers",
        probes.round_trips.0.clone(),
    );
    registry.register(
        "probe_loss_ratio",
        "The share of each ten probes of one peer that was lost, for all peers",
        probes.losses.0.clone(),
    );
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64, AtomicU64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
