//! Our nftables table: masquerading of what leaves the cluster, VXLAN untracked and from known peers only, and the mark of
//! the connections that the fast path may carry.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::nft::{Chain, Element, Expr, Handle, Hook, Set, Transaction, Type};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::fast_path;
use crate::names::{DEVICE, TABLE};
use crate::node::Node;

const PEERS_V4: &str = "peers4";
const PEERS_V6: &str = "peers6";
const MASQUERADE: &str = "masquerade";
const VXLAN_IN: &str = "vxlan-in";
const VXLAN_OUT: &str = "vxlan-out";
const VXLAN_PEERS: &str = "vxlan-peers";
const FAST_PATH: &str = "fast-path";

/// What the table should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Pods whose traffic is masqueraded.
    sources: Vec<IpNetwork>,
    /// Destinations that see the pods' own addresses.
    exclude: Vec<IpNetwork>,
    /// UDP port of VXLAN.
    port: u16,
    /// The pods' bridge, where the fast path is wanted.
    fast_path: Option<String>,
    peers: BTreeSet<IpAddr>,
}

/// The table as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Chain and comment of each rule.
    rules: Vec<(String, String)>,
    peers: BTreeSet<IpAddr>,
}

impl Found {
    /// The addresses that VXLAN is let in from.
    pub fn peers(&self) -> impl Iterator<Item = &IpAddr> {
        self.peers.iter()
    }
}

impl Firewall {
    /// A table without any peer.
    pub fn new(own: &Node, config: &Config) -> Self {
        let multicast = ["224.0.0.0/4", "ff00::/8"].map(str::parse::<IpNetwork>);
        let exclude = config
            .cluster_cidrs
            .iter()
            .chain(&config.masquerade_exclude)
            .copied();
        Self {
            sources: if config.masquerade {
                own.pod_cidrs.clone()
            } else {
                Vec::new()
            },
            exclude: exclude.chain(multicast.into_iter().flatten()).collect(),
            port: config.vxlan_port,
            fast_path: config.fast_path.then(|| config.bridge.clone()),
            peers: BTreeSet::new(),
        }
    }

    /// Lets VXLAN in from these addresses.
    pub fn accept<'a>(&mut self, endpoints: impl IntoIterator<Item = &'a IpAddr>) {
        self.peers.extend(endpoints);
    }

    /// Lets it in from these no longer.
    pub fn refuse(&mut self, endpoints: &[IpAddr]) {
        for endpoint in endpoints {
            self.peers.remove(endpoint);
        }
    }

    /// The rules in their order, chain by chain.
    fn rules(&self) -> Vec<(&'static str, Expr)> {
        let vxlan = || Expr::udp_destination_port(self.port);
        let excluded = self
            .exclude
            .iter()
            .map(|network| Expr::destination_in(*network).then(Expr::return_()));
        let masqueraded = self
            .sources
            .iter()
            .map(|network| Expr::source_in(*network).then(Expr::masquerade()));
        let mut rules: Vec<(&str, Expr)> = Vec::new();
        if !self.sources.is_empty() {
            rules.extend(excluded.chain(masqueraded).map(|rule| (MASQUERADE, rule)));
        }
        // What is no VXLAN meets one rule, what comes from a known peer one more.
        let known = |expr: Expr| expr.then(Expr::notrack()).then(Expr::accept());
        rules.extend([
            (VXLAN_PEERS, known(Expr::source_v4_in_set(PEERS_V4, true))),
            (VXLAN_PEERS, known(Expr::source_v6_in_set(PEERS_V6, true))),
            (VXLAN_PEERS, Expr::for_this_host().then(Expr::drop_())),
            (VXLAN_IN, vxlan().then(Expr::jump(VXLAN_PEERS))),
            (VXLAN_OUT, vxlan().then(Expr::notrack())),
        ]);
        if let Some(bridge) = &self.fast_path {
            let between = |from: &str, to: &str| {
                Expr::input_interface(from, true)
                    .then(Expr::output_interface(to))
                    .then(Expr::connection_is_established())
                    .then(Expr::connection_has_no_nat())
                    .then(Expr::add_mark(fast_path::MARK))
            };
            rules.extend([
                (FAST_PATH, between(bridge, DEVICE)),
                (FAST_PATH, between(DEVICE, bridge)),
            ]);
        }
        rules
    }

    /// The comment of every rule: by it the rules are known as those of exactly this configuration.
    fn mark(&self) -> String {
        let digest = Sha256::digest(format!(
            "{:?} {:?} {} {:?}",
            self.sources, self.exclude, self.port, self.fast_path
        ));
        let hex: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("heddle {hex}")
    }

    /// The transaction that makes `found` this; `None` when nothing is to be done. The table is never missing in between.
    pub fn changes(&self, found: &Found) -> Option<Transaction> {
        let mark = self.mark();
        let rules = self.rules();
        let mut expected: Vec<(String, String)> = rules
            .iter()
            .map(|(chain, _)| ((*chain).to_owned(), mark.clone()))
            .collect();
        expected.sort();
        let mut transaction = Transaction::new(TABLE);
        if expected == found.rules {
            let gone = found.peers.difference(&self.peers);
            let new = self.peers.difference(&found.peers);
            let (gone, new): (Vec<_>, Vec<_>) = (gone.copied().collect(), new.copied().collect());
            if gone.is_empty() && new.is_empty() {
                return None;
            }
            change_peers(&gone, |set, peers| transaction.delete_elements(set, peers));
            change_peers(&new, |set, peers| transaction.add_elements(set, peers));
            return Some(transaction);
        }
        transaction.add_table();
        transaction.delete_table();
        transaction.add_table();
        for (name, key) in [(PEERS_V4, Type::Ipv4Address), (PEERS_V6, Type::Ipv6Address)] {
            transaction.add_set(&Set {
                name,
                key,
                verdicts: false,
            });
        }
        let chains = [
            (MASQUERADE, Some(Hook::SNAT_POSTROUTING)),
            (VXLAN_PEERS, None),
            (VXLAN_IN, Some(Hook::RAW_PREROUTING)),
            (VXLAN_OUT, Some(Hook::RAW_OUTPUT)),
            (FAST_PATH, Some(Hook::LAST_POSTROUTING)),
        ];
        // A chain of NAT makes the kernel track every connection: only where something is masqueraded.
        let needed = |chain: &str| rules.iter().any(|(of, _)| *of == chain);
        for (name, hook) in chains.into_iter().filter(|(name, _)| needed(name)) {
            transaction.add_chain(&Chain { name, hook });
        }
        let all: Vec<IpAddr> = self.peers.iter().copied().collect();
        change_peers(&all, |set, peers| transaction.add_elements(set, peers));
        for (chain, rule) in rules {
            transaction.add_rule(chain, rule, Some(&mark));
        }
        Some(transaction)
    }
}

/// Reads the table.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn find(handle: &mut Handle) -> netlink::Result<Found> {
    let rules = handle.rules(TABLE)?;
    let mut found = Found {
        rules: rules
            .into_iter()
            .map(|rule| (rule.chain, rule.comment.unwrap_or_default()))
            .collect(),
        peers: BTreeSet::new(),
    };
    found.rules.sort();
    for set in [PEERS_V4, PEERS_V6] {
        let elements = handle.elements(TABLE, set)?;
        found
            .peers
            .extend(elements.iter().filter_map(|element| element.key.address()));
    }
    Ok(found)
}

/// Calls `change` for each family's set that any of `peers` belongs to.
fn change_peers(peers: &[IpAddr], mut change: impl FnMut(&str, &[Element])) {
    for (set, v6) in [(PEERS_V4, false), (PEERS_V6, true)] {
        let of_family = peers.iter().filter(|ip| ip.is_ipv6() == v6);
        let elements: Vec<Element> = of_family
            .map(|ip| Element {
                key: (*ip).into(),
                value: None,
                comment: None,
            })
            .collect();
        if !elements.is_empty() {
            change(set, &elements);
        }
    }
}
