//! What the host drops on the way of pods' packets, by reason: the kernel's own counters, read every few seconds.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::names::DEVICE;
use crate::ticks;

/// Between two readings.
const READ: Duration = Duration::from_secs(2);
/// The readings that "recent" spans: ten seconds.
const REMEMBERED: usize = 5;

/// UDP packets whose checksum was wrong (`InCsumErrors` of /proc/net/snmp and snmp6).
pub const CHECKSUM: &str = "checksum";
/// What the reverse path filter took (`IPReversePathFilter` of /proc/net/netstat).
pub const REVERSE_PATH: &str = "reverse_path";
/// What found no room in the table of connections (`drop` of /proc/net/stat/nf_conntrack).
pub const CONNTRACK: &str = "conntrack";
/// What the VXLAN device could not send or take in.
pub const VXLAN: &str = "vxlan";

/// How much was dropped, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Since the host's boot.
    pub all: BTreeMap<&'static str, u64>,
    /// Within the last ten seconds, where anything was.
    pub recent: BTreeMap<&'static str, u64>,
}

/// Reads the counters, for ever.
pub async fn run(out: watch::Sender<Drops>) {
    let mut readings = VecDeque::new();
    let mut beat = ticks::every(READ);
    loop {
        beat.tick().await;
        readings.push_back(read());
        if readings.len() > REMEMBERED {
            readings.pop_front();
        }
        if let (Some(first), Some(last)) = (readings.front(), readings.back()) {
            out.send_replace(Drops {
                recent: since(first, last),
                all: last.clone(),
            });
        }
    }
}

/// A counter that became less, or that was not there, says nothing.
fn since(
    first: &BTreeMap<&'static str, u64>,
    last: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let grown = last.iter().filter_map(|(reason, now)| {
        let more = now.checked_sub(*first.get(reason)?)?;
        (more > 0).then_some((*reason, more))
    });
    grown.collect()
}

/// A counter of a kernel without it is 0.
fn read() -> BTreeMap<&'static str, u64> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let checksum = in_columns(&text("/proc/net/snmp"), "Udp:", "InCsumErrors")
        + in_lines(&text("/proc/net/snmp6"), "Udp6InCsumErrors");
    let device = ["rx_dropped", "rx_errors", "tx_dropped", "tx_errors"].map(|name| {
        let path = Path::new("/sys/class/net").join(DEVICE).join("statistics");
        let value = fs::read_to_string(path.join(name)).unwrap_or_default();
        value.trim().parse().unwrap_or(0)
    });
    BTreeMap::from([
        (CHECKSUM, checksum),
        (
            REVERSE_PATH,
            in_columns(&text("/proc/net/netstat"), "TcpExt:", "IPReversePathFilter"),
        ),
        (
            CONNTRACK,
            of_connections(&text("/proc/net/stat/nf_conntrack")),
        ),
        (VXLAN, device.iter().sum()),
    ])
}

/// A value of two lines that begin alike: names in the first, values in the second.
fn in_columns(text: &str, prefix: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(prefix));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let found = pairs.find(|(found, _)| *found == name);
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// A value that stands on a line with its name.
fn in_lines(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The sum of all CPUs' column `drop`, which is hexadecimal.
fn of_connections(text: &str) -> u64 {
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default();
    let Some(column) = names.split_whitespace().position(|name| name == "drop") else {
        return 0;
    };
    let values = lines.filter_map(|line| line.split_whitespace().nth(column));
    values
        .filter_map(|value| u64::from_str_radix(value, 16).ok())
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Ip: A B\nIp: 1 2\nUdp: InDatagrams InCsumErrors\nUdp: 5 7\nUdpLite: InCsumErrors\nUdpLite: 9\n";
        assert_eq!(in_columns(snmp, "Udp:", "InCsumErrors"), 7);
        assert_eq!(in_columns(snmp, "Udp:", "Absent"), 0);
        assert_eq!(in_columns("", "Udp:", "InCsumErrors"), 0);
        let snmp6 = "Udp6InErrors      \t3\nUdp6InCsumErrors  \t4\n";
        assert_eq!(in_lines(snmp6, "Udp6InCsumErrors"), 4);
        let stat = "entries  insert_failed drop early_drop\n00000000  00000001 0000000a 00000003\n00000000  00000001 00000010 00000003\n";
        assert_eq!(of_connections(stat), 26);
        assert_eq!(of_connections(""), 0);
    }

    #[test]
    fn only_what_grows_is_recent() {
        let first = BTreeMap::from([(CHECKSUM, 5), (CONNTRACK, 3), (VXLAN, 2)]);
        let last = BTreeMap::from([(CHECKSUM, 8), (CONNTRACK, 3), (VXLAN, 1), (REVERSE_PATH, 4)]);
        assert_eq!(since(&first, &last), BTreeMap::from([(CHECKSUM, 3)]));
    }
}
