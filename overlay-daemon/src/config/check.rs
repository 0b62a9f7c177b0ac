//! What has to hold between and within the keys.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use itertools::Itertools;

use super::{Config, MembershipKind};
use crate::networks::overlap;

/// `IFNAMSIZ` without the closing zero.
const LONGEST_INTERFACE_NAME: usize = 15;

impl Config {
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_name()?;
        self.check_ranges()?;
        self.check_numbers()?;
        if self.membership == MembershipKind::Gossip {
            self.check_gossip()?;
        }
        Ok(())
    }

    fn check_name(&self) -> Result<(), String> {
        let name = &self.node_name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
            return Err(format!(
                "\"node_name\": {name:?} is not a node's name: use up to 63 letters, digits, \"-\", \".\" and \"_\""
            ));
        }
        if self.bridge.is_empty() || self.bridge.len() > LONGEST_INTERFACE_NAME {
            return Err(format!(
                "\"bridge\": {:?} cannot name a device: use 1 to 15 characters",
                self.bridge
            ));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), String> {
        for range in &self.cluster_cidrs {
            if range.ip() != range.network() {
                return Err(format!(
                    "\"cluster_cidrs\": {range} has host bits: write {}/{}",
                    range.network(),
                    range.prefix()
                ));
            }
            let prefix = self.node_prefix(*range);
            let (key, allowed) = match range {
                IpNetwork::V4(_) => ("node_prefix_v4", 16..=30),
                IpNetwork::V6(_) => ("node_prefix_v6", 48..=120),
            };
            if !allowed.contains(&prefix) || prefix < range.prefix() {
                return Err(format!(
                    "\"{key}\": a share of /{prefix} does not fit {range}: write {} to {}, and not below {}",
                    allowed.start(),
                    allowed.end(),
                    range.prefix()
                ));
            }
        }
        let of_family = |v6| {
            self.cluster_cidrs
                .iter()
                .filter(|range| range.is_ipv6() == v6)
                .count()
        };
        if of_family(false) > 1 || of_family(true) > 1 {
            return Err(format!(
                "\"cluster_cidrs\": {} holds two ranges of one family: leave one of each",
                self.cluster_cidrs.iter().join(", ")
            ));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), String> {
        if !(1..1 << 24).contains(&self.vni) {
            return Err(format!(
                "\"vni\": {} is no VXLAN network identifier: write 1 to 16777215",
                self.vni
            ));
        }
        let ports = [
            ("vxlan_port", self.vxlan_port),
            ("gossip_port", self.gossip_port),
            ("probe_port", self.probe_port),
        ];
        for (index, (key, port)) in ports.iter().enumerate() {
            if *port == 0 {
                return Err(format!("\"{key}\": 0 is no port: write 1 to 65535"));
            }
            if let Some((other, _)) = ports[..index].iter().find(|(_, other)| other == port) {
                return Err(format!(
                    "\"{key}\": {port} is \"{other}\" as well: give each its own"
                ));
            }
        }
        Ok(())
    }

    fn check_gossip(&self) -> Result<(), String> {
        if !matches!(self.peers.len(), 1 | 3 | 5) {
            return Err(format!(
                "\"peers\": {} electors cannot have a clear majority: name 1, 3 or 5 nodes, the same on all",
                self.peers.len()
            ));
        }
        if self.keys.is_empty() {
            return Err(
                "\"keys\" is empty: give at least one secret, the same on all nodes, for example from `head -c 32 /dev/urandom | base64`".into(),
            );
        }
        if let Some(short) = self.keys.iter().find(|key| key.reveal().len() < 16) {
            return Err(format!(
                "\"keys\": a secret of {} characters is too short: use at least 16",
                short.reveal().len()
            ));
        }
        if self.cluster_cidrs.is_empty() {
            return Err("\"cluster_cidrs\" is empty: give the range that pods get addresses from, for example [\"10.32.0.0/12\"]".into());
        }
        if self.quarantine_seconds < 60 {
            return Err(format!(
                "\"quarantine_seconds\": {} is too short to tell a dead node from a slow one: write 60 or more",
                self.quarantine_seconds
            ));
        }
        Ok(())
    }

    /// Refuses ranges that lie across networks that the host can reach by other means.
    ///
    /// # Errors
    /// The first overlap: with an endpoint on the underlay, or with a route of someone else's.
    pub fn check_against(&self, endpoints: &[IpAddr], routes: &[IpNetwork]) -> Result<(), String> {
        for range in &self.cluster_cidrs {
            if let Some(endpoint) = endpoints.iter().find(|endpoint| range.contains(**endpoint)) {
                return Err(format!(
                    "\"cluster_cidrs\": {range} contains the node's own address {endpoint} on the underlay: choose another range"
                ));
            }
            if let Some(route) = routes
                .iter()
                .find(|route| route.prefix() > 0 && overlap(*range, **route))
            {
                return Err(format!(
                    "\"cluster_cidrs\": {range} overlaps {route}, which this host has a route to: choose another range"
                ));
            }
        }
        Ok(())
    }
}
