//! What has to be done to get from the kernel's rows to the planned ones: pure, and nothing when nothing is to be done.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use itertools::{Either, Itertools};
use netlink::link::{self, Vxlan};
use netlink::{FdbEntry, Mac, Neighbour, Nexthop, Request, Route, address};

use crate::names::{DEVICE, PROTOCOL};
use crate::observe::Observed;
use crate::plan::{Desired, Touched, Way};

/// One change of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make the VXLAN device.
    MakeDevice,
    /// Remove it, with all rows that depend on it: it is of another make.
    RemoveDevice(u32),
    /// Set it up.
    SetUp(u32),
    /// Set its MTU.
    SetMtu(u32, u32),
    /// Set its MAC.
    SetMac(u32, Mac),
    /// Add an address to it.
    AddAddress(u32, IpNetwork),
    /// Remove one.
    RemoveAddress(u32, IpNetwork),
    /// Add an FDB row, or put it in the place of the MAC's first destination (`vxlan_fdb_replace` of
    /// drivers/net/vxlan/vxlan_core.c).
    SetFdb(FdbEntry),
    /// Remove one.
    RemoveFdb(FdbEntry),
    /// Add or replace a neighbour.
    SetNeighbour(Neighbour),
    /// Remove one.
    RemoveNeighbour(Neighbour),
    /// Add a nexthop where there is none of this number, anybody's.
    AddNexthop(Nexthop),
    /// Replace ours.
    SetNexthop(Nexthop),
    /// Remove ours.
    RemoveNexthop(Nexthop),
    /// Add a route where there is none to the destination, anybody's.
    AddRoute(Route),
    /// Replace ours.
    SetRoute(Route),
    /// Remove ours.
    RemoveRoute(Route),
}

/// What the device itself needs. The rows of the others are to be read again after these.
pub fn device(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let want = &desired.device;
    let Some(link) = &observed.device else {
        return vec![Change::MakeDevice];
    };
    if link.vxlan != Some(want.info) {
        return vec![Change::RemoveDevice(link.index), Change::MakeDevice];
    }
    let mut changes = Vec::new();
    if link.mac != Some(want.mac) {
        changes.push(Change::SetMac(link.index, want.mac));
    }
    if link.mtu != want.mtu {
        changes.push(Change::SetMtu(link.index, want.mtu));
    }
    if !link.up {
        changes.push(Change::SetUp(link.index));
    }
    changes
}

/// What all planned rows need, or `only` some, with the device at index `dev` and the uplink at index `uplink`: first what
/// the ways need, then the ways.
pub fn rows(
    desired: &Desired,
    observed: &Observed,
    (dev, uplink): (u32, u32),
    only: Option<&Touched>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let fdb = |mac: Mac, dst: IpAddr| FdbEntry { dev, mac, dst };
    let addresses = &desired.device.addresses;
    changes.extend(
        addresses
            .difference(&observed.addresses)
            .map(|new| Change::AddAddress(dev, *new)),
    );

    for (mac, dst, there) in beside(&desired.fdb, &observed.fdb, only.map(|only| &only.fdb)) {
        let there = there.map(Vec::as_slice).unwrap_or_default();
        let is_there = there.contains(dst);
        if !is_there {
            changes.push(Change::SetFdb(fdb(*mac, *dst)));
        }
        // A second destination of one MAC would get copies; the first one has just been replaced.
        let wrong = there.iter().filter(|there| *there != dst);
        let wrong = wrong.skip(usize::from(!is_there));
        changes.extend(wrong.map(|wrong| Change::RemoveFdb(fdb(*mac, *wrong))));
    }
    for (ip, mac, there) in beside(
        &desired.neighbours,
        &observed.neighbours,
        only.map(|only| &only.neighbours),
    ) {
        if there != Some(mac) {
            changes.push(Change::SetNeighbour(neighbour(dev, *ip, *mac)));
        }
    }
    for (id, hop, there) in beside(
        &desired.nexthops,
        &observed.nexthops,
        only.map(|only| &only.nexthops),
    ) {
        let (link, onlink) = match hop.way {
            Way::Vxlan => (dev, true),
            Way::Direct => (uplink, true),
        };
        let nexthop = Nexthop {
            id: *id,
            gw: hop.gw,
            dev: link,
            protocol: PROTOCOL,
            onlink,
        };
        match there {
            None => changes.push(Change::AddNexthop(nexthop)),
            Some(there) if *there != nexthop => changes.push(Change::SetNexthop(nexthop)),
            Some(_) => {}
        }
    }
    for (dst, leads, there) in beside(
        &desired.routes,
        &observed.routes,
        only.map(|only| &only.routes),
    ) {
        let route = || Route {
            nexthop_id: Some(leads.nexthop),
            mtu: leads.mtu,
            protocol: Some(PROTOCOL),
            ..Route::to(*dst)
        };
        match there.map(Vec::as_slice) {
            None | Some([]) => changes.push(Change::AddRoute(route())),
            Some([there]) if there.nexthop_id == Some(leads.nexthop) && there.mtu == leads.mtu => {}
            Some(_) => changes.push(Change::SetRoute(route())),
        }
    }
    changes
}

/// What nobody uses any more, of all rows or `only` of some.
pub fn stale(
    desired: &Desired,
    observed: &Observed,
    dev: u32,
    only: Option<&Touched>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let addresses = observed.addresses.difference(&desired.device.addresses);
    changes.extend(addresses.map(|old| Change::RemoveAddress(dev, *old)));
    let routes = beyond(
        &observed.routes,
        &desired.routes,
        only.map(|only| &only.routes),
    )
    .flat_map(|(_, routes)| routes);
    changes.extend(routes.map(|route| Change::RemoveRoute(route.clone())));
    let nexthops = beyond(
        &observed.nexthops,
        &desired.nexthops,
        only.map(|only| &only.nexthops),
    );
    changes.extend(nexthops.map(|(_, nexthop)| Change::RemoveNexthop(*nexthop)));
    let neighbours = beyond(
        &observed.neighbours,
        &desired.neighbours,
        only.map(|only| &only.neighbours),
    );
    changes.extend(neighbours.map(|(ip, mac)| Change::RemoveNeighbour(neighbour(dev, *ip, *mac))));
    for (mac, all) in beyond(&observed.fdb, &desired.fdb, only.map(|only| &only.fdb)) {
        let rows = all.iter().map(|dst| FdbEntry {
            dev,
            mac: *mac,
            dst: *dst,
        });
        changes.extend(rows.map(Change::RemoveFdb));
    }
    changes
}

/// Each planned row, and what there is of it: both side by side, because to look each up among thousands takes longer,
/// unless there are only a few to look up.
fn beside<'a, K: Ord, A, B>(
    desired: &'a BTreeMap<K, A>,
    observed: &'a BTreeMap<K, B>,
    only: Option<&'a BTreeSet<K>>,
) -> impl Iterator<Item = (&'a K, &'a A, Option<&'a B>)> {
    if let Some(keys) = only {
        let planned = keys.iter().filter_map(|key| Some((key, desired.get(key)?)));
        return Either::Left(planned.map(|(key, planned)| (key, planned, observed.get(key))));
    }
    let rows = desired.iter().merge_join_by(observed, |a, b| a.0.cmp(b.0));
    Either::Right(rows.filter_map(|row| {
        let (desired, observed) = row.left_and_right();
        desired.map(|(key, desired)| (key, desired, observed.map(|(_, observed)| observed)))
    }))
}

/// Each row that is there and not planned.
fn beyond<'a, K: Ord, A, B>(
    observed: &'a BTreeMap<K, A>,
    desired: &'a BTreeMap<K, B>,
    only: Option<&'a BTreeSet<K>>,
) -> impl Iterator<Item = (&'a K, &'a A)> {
    let rows = beside(observed, desired, only);
    rows.filter_map(|(key, observed, desired)| desired.is_none().then_some((key, observed)))
}

fn neighbour(dev: u32, ip: IpAddr, mac: Mac) -> Neighbour {
    Neighbour {
        dev,
        ip,
        mac,
        protocol: Some(PROTOCOL),
    }
}

impl Change {
    /// The kind of row that it changes.
    pub fn kind(&self) -> &'static str {
        match self {
            Change::MakeDevice | Change::RemoveDevice(_) => "device",
            Change::SetUp(_) | Change::SetMtu(..) | Change::SetMac(..) => "device setting",
            Change::AddAddress(..) | Change::RemoveAddress(..) => "address",
            Change::SetFdb(_) | Change::RemoveFdb(_) => "fdb",
            Change::SetNeighbour(_) | Change::RemoveNeighbour(_) => "neighbour",
            Change::AddNexthop(_) | Change::SetNexthop(_) | Change::RemoveNexthop(_) => "nexthop",
            Change::AddRoute(_) | Change::SetRoute(_) | Change::RemoveRoute(_) => "route",
        }
    }

    /// Takes down what the kernel holds after it; of the device itself nothing, which is looked at again.
    pub fn take_down(self, observed: &mut Observed) {
        match self {
            Change::MakeDevice
            | Change::RemoveDevice(_)
            | Change::SetUp(_)
            | Change::SetMtu(..)
            | Change::SetMac(..) => {}
            Change::AddAddress(_, network) => drop(observed.addresses.insert(network)),
            Change::RemoveAddress(_, network) => drop(observed.addresses.remove(&network)),
            Change::SetFdb(row) => match observed.fdb.entry(row.mac).or_default().first_mut() {
                Some(first) => *first = row.dst,
                None => drop(observed.fdb.insert(row.mac, vec![row.dst])),
            },
            Change::RemoveFdb(row) => {
                if let Entry::Occupied(mut all) = observed.fdb.entry(row.mac) {
                    all.get_mut().retain(|dst| *dst != row.dst);
                    if all.get().is_empty() {
                        all.remove();
                    }
                }
            }
            Change::SetNeighbour(row) => drop(observed.neighbours.insert(row.ip, row.mac)),
            Change::RemoveNeighbour(row) => drop(observed.neighbours.remove(&row.ip)),
            Change::AddNexthop(row) | Change::SetNexthop(row) => {
                observed.nexthops.insert(row.id, row);
            }
            Change::RemoveNexthop(row) => drop(observed.nexthops.remove(&row.id)),
            Change::AddRoute(row) | Change::SetRoute(row) => {
                observed.routes.insert(row.dst, vec![row]);
            }
            Change::RemoveRoute(row) => drop(observed.routes.remove(&row.dst)),
        }
    }

    /// The netlink message that does it.
    pub fn request(&self, desired: &Desired) -> Request {
        let flags = address::Flags {
            nodad: true,
            noprefixroute: true,
            optimistic: false,
        };
        match self {
            Change::MakeDevice => {
                let device = &desired.device;
                let vxlan = Vxlan {
                    name: DEVICE,
                    info: device.info,
                    mac: device.mac,
                    mtu: device.mtu,
                };
                vxlan.request()
            }
            Change::RemoveDevice(index) => link::delete(*index),
            Change::SetUp(index) => link::set_up(*index),
            Change::SetMtu(index, mtu) => link::set_mtu(*index, *mtu),
            Change::SetMac(index, mac) => link::set_mac(*index, *mac),
            Change::AddAddress(index, network) => address::add(*index, *network, flags),
            Change::RemoveAddress(index, network) => address::delete(*index, *network),
            Change::SetFdb(row) => row.replace(),
            Change::RemoveFdb(row) => row.delete(),
            Change::SetNeighbour(row) => row.replace(),
            Change::RemoveNeighbour(row) => row.delete(),
            Change::AddNexthop(row) => row.create(),
            Change::SetNexthop(row) => row.replace(),
            Change::RemoveNexthop(row) => row.delete(),
            Change::AddRoute(row) => row.create(),
            Change::SetRoute(row) => row.replace(),
            Change::RemoveRoute(row) => row.delete(),
        }
    }
}
