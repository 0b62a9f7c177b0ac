//! An interface that joins or leaves a VRF. The kernel takes it down and up again on the way
//! (drivers/net/vrf.c, `cycle_netdev`): what is lost by that is noted before, and given back.

use std::net::IpAddr;

use cni::Result;
use ipnetwork::IpNetwork;
use netlink::route::MAIN_TABLE;
use netlink::{Handle, Link, Route, RouteFilter, address, link};

use crate::error::kernel;

/// `RTPROT_KERNEL`: routes that the kernel makes itself, for an address.
const BY_KERNEL: u8 = 2;

/// What an interface has.
#[derive(Clone, Debug)]
pub struct Member {
    index: u32,
    addresses: Vec<IpNetwork>,
    routes: Vec<Route>,
}

impl Member {
    /// Notes the addresses and routes of an interface; `table` is that of the VRF that it is in.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn of(pod: &mut Handle, eth: &Link, table: Option<u32>) -> Result<Self> {
        let addresses = pod.addresses(Some(eth.index)).map_err(kernel)?;
        let by_eth = RouteFilter {
            dev: Some(eth.index),
            table: Some(table.unwrap_or(MAIN_TABLE)),
            ..RouteFilter::default()
        };
        let mut routes = pod.routes(by_eth).map_err(kernel)?;
        routes.retain(|route| route.protocol != Some(BY_KERNEL));
        // Links before gateways, which are reached by them.
        routes.sort_by_key(|route| route.gw.is_some());
        Ok(Self {
            index: eth.index,
            addresses: addresses
                .into_iter()
                .map(|address| address.network)
                .filter(|network| !is_link_local(network.ip()))
                .collect(),
            routes,
        })
    }

    /// Puts the interface into `vrf`, or into none, and gives it its addresses and routes back there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn join(&self, pod: &mut Handle, vrf: Option<&Link>) -> Result<()> {
        let master = link::set_master(self.index, vrf.map(|vrf| vrf.index));
        pod.execute(vec![master]).map_err(kernel)?;
        let there = pod.addresses(Some(self.index)).map_err(kernel)?;
        let flags = address::Flags {
            nodad: true,
            ..address::Flags::default()
        };
        let lost = self
            .addresses
            .iter()
            .filter(|network| !there.iter().any(|address| address.network == **network));
        let mut requests: Vec<_> = lost
            .map(|network| address::add(self.index, *network, flags))
            .collect();
        let table = vrf.map_or(Some(MAIN_TABLE), |vrf| vrf.vrf);
        requests.extend(self.routes.iter().map(|route| {
            let here = Route {
                table,
                ..route.clone()
            };
            here.add_path()
        }));
        for request in requests {
            match pod.execute(vec![request]) {
                // One that the kernel has kept.
                Err(error) if error.is_exists() => {}
                outcome => outcome.map_err(kernel)?,
            }
        }
        Ok(())
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
