//! What the kernel holds now, as far as it is ours.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Handle, Link, Mac, Nexthop, Route, RouteFilter};

use crate::names::{DEVICE, PROTOCOL};

/// The rows; none of the device's where there is no device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The VXLAN device.
    pub device: Option<Link>,
    /// Its addresses, link-local ones apart.
    pub addresses: BTreeSet<IpNetwork>,
    /// Its FDB.
    pub fdb: BTreeMap<Mac, Vec<IpAddr>>,
    /// The permanent neighbours behind it.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Our nexthops, by number.
    pub nexthops: BTreeMap<u32, Nexthop>,
    /// Our routes, by destination.
    pub routes: BTreeMap<IpNetwork, Vec<Route>>,
}

impl Observed {
    /// Reads all of it: six dumps, whatever the number of peers.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn read(handle: &mut Handle) -> netlink::Result<Self> {
        let mut observed = Self {
            device: handle.link(DEVICE)?,
            ..Self::default()
        };
        if let Some(index) = observed.device.as_ref().map(|link| link.index) {
            let addresses = handle
                .addresses(Some(index))?
                .into_iter()
                .map(|address| address.network);
            observed.addresses = addresses
                .filter(|network| !is_link_local(network.ip()))
                .collect();
            for row in handle.fdb(index)? {
                push(&mut observed.fdb, row.mac, row.dst);
            }
            let neighbours = handle.neighbours(index)?;
            observed.neighbours = neighbours.iter().map(|row| (row.ip, row.mac)).collect();
        }
        let nexthops = handle.nexthops(PROTOCOL)?;
        observed.nexthops = nexthops
            .into_iter()
            .map(|nexthop| (nexthop.id, nexthop))
            .collect();
        let ours = RouteFilter {
            protocol: Some(PROTOCOL),
            ..RouteFilter::default()
        };
        for route in handle.routes(ours)? {
            push(&mut observed.routes, route.dst, route);
        }
        Ok(observed)
    }
}

/// Most keys have one row: no room for more is made before there are.
fn push<K: Ord, V>(rows: &mut BTreeMap<K, Vec<V>>, key: K, row: V) {
    match rows.entry(key) {
        Entry::Vacant(entry) => drop(entry.insert(vec![row])),
        Entry::Occupied(entry) => entry.into_mut().push(row),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
