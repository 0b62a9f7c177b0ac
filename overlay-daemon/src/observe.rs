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
        let mut observed = Self::default();
        observed.renew(handle, || true)?;
        Ok(observed)
    }

    /// Reads it again, dump by dump as long as it `goes_on`, and says whether it came to the end; before that, some of it
    /// is as it was.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn renew(
        &mut self,
        handle: &mut Handle,
        goes_on: impl Fn() -> bool,
    ) -> netlink::Result<bool> {
        self.device = handle.link(DEVICE)?;
        let Some(index) = self.device.as_ref().map(|link| link.index) else {
            (self.addresses, self.fdb, self.neighbours) = Default::default();
            return self.renew_ways(handle, goes_on);
        };
        let addresses = handle.addresses(Some(index))?.into_iter();
        self.addresses = addresses
            .map(|address| address.network)
            .filter(|network| !is_link_local(network.ip()))
            .collect();
        if !goes_on() {
            return Ok(false);
        }
        self.fdb = gather(handle.fdb(index)?.into_iter().map(|row| (row.mac, row.dst)));
        if !goes_on() {
            return Ok(false);
        }
        let neighbours = handle.neighbours(index)?;
        self.neighbours = neighbours.iter().map(|row| (row.ip, row.mac)).collect();
        self.renew_ways(handle, goes_on)
    }

    fn renew_ways(
        &mut self,
        handle: &mut Handle,
        goes_on: impl Fn() -> bool,
    ) -> netlink::Result<bool> {
        if !goes_on() {
            return Ok(false);
        }
        let nexthops = handle.nexthops(PROTOCOL)?.into_iter();
        self.nexthops = nexthops.map(|nexthop| (nexthop.id, nexthop)).collect();
        if !goes_on() {
            return Ok(false);
        }
        let ours = RouteFilter {
            protocol: Some(PROTOCOL),
            ..RouteFilter::default()
        };
        let routes = handle.routes(ours)?.into_iter();
        self.routes = gather(routes.map(|route| (route.dst, route)));
        Ok(true)
    }
}

/// Most keys have one row: no room for more is made before there are.
fn gather<K: Ord, V>(rows: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut gathered = BTreeMap::new();
    for (key, row) in rows {
        match gathered.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(vec![row])),
            Entry::Occupied(entry) => entry.into_mut().push(row),
        }
    }
    gathered
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
