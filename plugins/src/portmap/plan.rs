//! What an attachment's ports come to: the elements and chains that it will have in the table.

use std::collections::HashMap;
use std::net::IpAddr;

use cni::{AddResult, Attachment, Call, Result, identity};
use ipnetwork::IpNetwork;
use netlink::nft::{Expr, Key};
use netlink::{Handle, Link};

use super::conf::{Mapping, PortmapConf, invalid, mappings, protocol_name};
use super::table::{self, Kind};
use crate::error::kernel;
use crate::rules;

/// All of one attachment's mappings.
#[derive(Debug)]
pub struct Plan {
    /// The comment of everything that is this attachment's.
    pub owner: String,
    /// One for each mapping, host address and family.
    pub entries: Vec<Entry>,
    /// What happens to a packet before it is sent to the pod, at most one for each family.
    pub policies: Vec<Policy>,
    /// The bit that a policy sets in the mark of a packet to be masqueraded; `None` where none is.
    pub mark_bit: Option<u8>,
    /// The link by which the host itself reaches the pod, where 127.0.0.0/8 is to reach it as well.
    pub localhost: Option<String>,
}

/// One port of the host.
#[derive(Debug)]
pub struct Entry {
    /// Which maps it stands in.
    pub kind: &'static Kind,
    /// Its key there.
    pub key: Key,
    /// Where it waits while another network of the same container has the key: see [`table::waiting`].
    pub waiting: (&'static Kind, Key),
    /// The pod's address and port.
    pub target: (IpAddr, u16),
    /// The link by which the host reaches the pod, where packets that came by it are to be masqueraded, and nothing else
    /// is wanted of the masquerading.
    pub returns: Option<String>,
    /// The same for people.
    pub name: String,
}

/// A chain that packets for one attachment go through.
#[derive(Debug)]
pub struct Policy {
    /// For IPv6.
    pub v6: bool,
    /// The chain's name.
    pub chain: String,
    /// Its rules.
    pub rules: Vec<Expr>,
}

impl Plan {
    /// The plan for what the runtime wants; `None` when it wants no ports.
    ///
    /// # Errors
    /// Code 7 for a configuration that cannot be.
    pub fn of(call: &Call, previous: &AddResult) -> Result<Option<Self>> {
        let mappings = mappings(call)?;
        let conf = PortmapConf::of(call)?;
        if mappings.is_empty() {
            return Ok(None);
        }
        let owner = rules::owner(&call.conf.name, &call.attachment);
        let addresses = [false, true].map(|v6| address(previous, &call.attachment, v6));
        let devices = if conf.snat {
            devices(addresses)?
        } else {
            [None, None]
        };
        let mut entries = Vec::new();
        for mapping in &mappings {
            for (address, device) in addresses.iter().zip(&devices) {
                let entry = address.and_then(|address| entry(mapping, address));
                entries.extend(entry.map(|entry| {
                    Entry {
                        returns: device
                            .clone()
                            .filter(|_| conf.is_plain(entry.kind.service.v6)),
                        ..entry
                    }
                }));
            }
        }
        dedup(&mut entries)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let places = addresses.iter().zip(&devices);
        let policies: Vec<_> = places
            .filter_map(|(address, device)| policy(&conf, &owner, (*address)?, device.as_deref()))
            .collect();
        let [localhost, _] = devices;
        Ok(Some(Self {
            owner,
            entries,
            policies,
            mark_bit: conf.snat.then_some(conf.mark_bit),
            localhost,
        }))
    }
}

/// The first address of the pod's interface.
fn address(previous: &AddResult, attachment: &Attachment, v6: bool) -> Option<IpNetwork> {
    let is_pods = |index: Option<usize>| match index {
        None => true,
        Some(index) => previous.interfaces.get(index).is_some_and(|interface| {
            interface.name == attachment.ifname && interface.sandbox.is_some()
        }),
    };
    let mut ips = previous.ips.iter();
    ips.find(|ip| ip.address.is_ipv6() == v6 && is_pods(ip.interface))
        .map(|ip| ip.address)
}

/// The mapping to an address; `None` when it is for host addresses of the other family.
fn entry(mapping: &Mapping, address: IpNetwork) -> Option<Entry> {
    let (protocol, port) = (mapping.protocol, mapping.host_port);
    let v6 = address.is_ipv6();
    if mapping.host_ip.is_some_and(|ip| ip.is_ipv6() != v6) {
        return None;
    }
    let host_ip = mapping.host_ip.filter(|ip| !ip.is_unspecified());
    let name = format!("{port}/{}", protocol_name(protocol));
    Some(Entry {
        kind: table::kind(v6, host_ip.is_some()),
        key: match host_ip {
            None => Key::service(protocol, port),
            Some(ip) => Key::service_at(ip, protocol, port),
        },
        waiting: table::waiting(address.ip(), protocol, port),
        target: (address.ip(), mapping.container_port),
        returns: None,
        name: host_ip.map_or_else(|| name.clone(), |ip| format!("{name} of {ip}")),
    })
}

/// Drops what is said twice.
fn dedup(entries: &mut Vec<Entry>) -> Result<()> {
    let mut seen = HashMap::new();
    let mut contradiction = None;
    entries.retain(|entry| {
        let before = seen.insert((entry.kind.targets, entry.key.clone()), entry.target);
        if before.is_some_and(|before| before != entry.target) {
            contradiction = Some(entry.name.clone());
        }
        before.is_none()
    });
    match contradiction {
        None => Ok(()),
        Some(name) => Err(invalid(format!(
            "host port {name} is to lead to two places in \"portMappings\": leave one out"
        ))),
    }
}

/// What happens to packets for `address` besides what happens to most pods': those that are to be masqueraded get the
/// mark; those that do not meet the conditions go on as if there were no mapping.
fn policy(
    conf: &PortmapConf,
    owner: &str,
    address: IpNetwork,
    device: Option<&str>,
) -> Option<Policy> {
    if conf.is_plain(address.is_ipv6()) {
        return None;
    }
    let v6 = address.is_ipv6();
    let mark = || Expr::add_mark(1 << conf.mark_bit);
    let marks = match (conf.snat, conf.masq_all, device) {
        (true, true, _) => vec![mark()],
        (true, false, Some(device)) => vec![Expr::input_interface(device, true).then(mark())],
        _ => Vec::new(),
    };
    let rules = match &conf.conditions[usize::from(v6)] {
        None => marks,
        Some(condition) => {
            let mut rules: Vec<_> = marks
                .into_iter()
                .map(|mark| condition.clone().then(mark))
                .collect();
            rules.push(condition.clone().then(Expr::return_()));
            rules.push(Expr::accept());
            rules
        }
    };
    (!rules.is_empty()).then(|| Policy {
        v6,
        chain: table::policy_chain(&identity::digest(owner, 16), v6),
        rules,
    })
}

/// The links by which the host reaches the addresses; `None` where it does not by itself.
fn devices(addresses: [Option<IpNetwork>; 2]) -> Result<[Option<String>; 2]> {
    let mut host = Handle::new().map_err(kernel)?;
    let mut known: Option<Link> = None;
    let mut devices = [None, None];
    for (address, device) in addresses.into_iter().zip(&mut devices) {
        let Some(address) = address else { continue };
        let Some(hop) = host.route_to(address.ip()).map_err(kernel)? else {
            continue;
        };
        if hop.local {
            continue;
        }
        if known.as_ref().is_none_or(|link| link.index != hop.dev) {
            known = host.link_by_index(hop.dev).map_err(kernel)?;
        }
        *device = known.as_ref().map(|link| link.name.clone());
    }
    Ok(devices)
}
