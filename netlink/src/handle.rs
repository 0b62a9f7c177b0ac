//! A route netlink socket in one network namespace, and the questions that can be asked through it.

use std::net::IpAddr;
use std::time::Duration;

use crate::address::{self, Address};
use crate::error::Result;
use crate::fdb::{self, FdbEntry};
use crate::link::{self, Counters, Link, LinkSettings, PortVlan};
use crate::neighbour::{self, Neighbour};
use crate::netns::Netns;
use crate::nexthop::{self, Nexthop};
use crate::request::Request;
use crate::route::{self, RefusingRoute, Route, RouteFilter, RouteHop};
use crate::rule::{self, Rule};
use crate::socket::Socket;
use crate::tc;

/// One socket; everything asked through it is about the namespace in which it was opened.
#[derive(Debug)]
pub struct Handle(Socket);

impl Handle {
    /// Opens a handle on the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn new() -> Result<Self> {
        Socket::open(netlink_sys::protocols::NETLINK_ROUTE).map(Self)
    }

    /// Opens a handle on another network namespace; the calling thread is back in its own afterwards.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn in_netns(netns: &Netns) -> Result<Self> {
        netns.run(Self::new)?
    }

    /// The same for a caller who has `home`, the namespace of the calling thread, open already.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn in_netns_from(netns: &Netns, home: &Netns) -> Result<Self> {
        netns.run_from(home, Self::new)?
    }

    /// Sends changes, several of them in one system call. All are carried out, also those behind one
    /// that fails; the first failure is returned.
    ///
    /// # Errors
    /// The kernel's refusal, which names the request.
    pub fn execute(&mut self, requests: Vec<Request>) -> Result<()> {
        self.0.execute(&requests)
    }

    /// One link by its name; `None` when there is none. Equals `ip link show NAME`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        link::get_by_name(&mut self.0, name)
    }

    /// One link by its index; `None` when there is none.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        link::get_by_index(&mut self.0, index)
    }

    /// One link by an alternative name; `None` when there is none. Equals `ip link show ALTNAME`.
    ///
    /// # Errors
    /// When the kernel cannot be asked; before 5.5 it knows no such names.
    pub fn link_by_alternative_name(&mut self, name: &str) -> Result<Option<Link>> {
        link::get_by_alternative_name(&mut self.0, name)
    }

    /// Whether the kernel can make links of a kind; loads its module, and makes none.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn knows_link_kind(&mut self, kind: &str) -> Result<bool> {
        link::knows_kind(&mut self.0, kind)
    }

    /// The settings of one link that can be put back; `None` when there is none.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn link_settings(&mut self, name: &str) -> Result<Option<LinkSettings>> {
        link::settings::get(&mut self.0, name)
    }

    /// All links. Equals `ip link show`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        link::list(&mut self.0)
    }

    /// What one link has carried; `None` when there is none. Equals `ip -s link show dev NAME`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self, index: u32) -> Result<Option<Counters>> {
        link::counters::get(&mut self.0, index)
    }

    /// The token bucket that is a link's queue; `None` when another queue is. Equals `tc qdisc show dev NAME root`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn bucket(&mut self, index: u32) -> Result<Option<tc::Bucket>> {
        tc::bucket(&mut self.0, index)
    }

    /// The queueing disciplines of all links: the link's index, and the kind. Equals `tc qdisc show`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn queues(&mut self) -> Result<Vec<(u32, String)>> {
        tc::queues(&mut self.0)
    }

    /// The links that filters send what comes in by a link to. Equals `tc filter show dev NAME ingress`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn redirections(&mut self, index: u32) -> Result<Vec<u32>> {
        tc::redirections(&mut self.0, index)
    }

    /// Deletes a link's token bucket and its ingress queue with the filters, as far as they are there. Equals
    /// `tc qdisc delete dev NAME root` and `tc qdisc delete dev NAME ingress`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn clear_traffic_control(&mut self, index: u32) -> Result<()> {
        tc::clear(&mut self.0, index)
    }

    /// The VLANs of one bridge port. Equals `bridge vlan show dev NAME`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn port_vlans(&mut self, index: u32) -> Result<Vec<PortVlan>> {
        link::vlan::list(&mut self.0, index)
    }

    /// Waits until the bridge forwards to and from a port, at most `patience`; true when it does.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn wait_forwarding(&mut self, port: &str, patience: Duration) -> Result<bool> {
        link::wait::forwarding(&mut self.0, port, patience)
    }

    /// The addresses of one link, or of all. Equals `ip address show [dev NAME]`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>> {
        address::list(&mut self.0, index)
    }

    /// The unicast routes of all tables but `local`, as far as `filter` lets them through; one with
    /// equal-cost paths comes once for each. Equals `ip route show table all`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn routes(&mut self, filter: RouteFilter) -> Result<Vec<Route>> {
        route::list(&mut self.0, filter)
    }

    /// The routes of all tables that lead nowhere on purpose. Equals `ip route show table all type blackhole`, and so on
    /// for `unreachable` and `prohibit`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn refusing_routes(&mut self) -> Result<Vec<RefusingRoute>> {
        route::list_refusing(&mut self.0)
    }

    /// The rules by which packets are routed. Equals `ip rule show` and `ip -6 rule show`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        rule::list(&mut self.0)
    }

    /// The permanent neighbours behind one link. Equals `ip neighbour show dev NAME nud permanent`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn neighbours(&mut self, dev: u32) -> Result<Vec<Neighbour>> {
        neighbour::list(&mut self.0, dev)
    }

    /// The rows of a VXLAN device's FDB that name a peer. Equals `bridge fdb show dev NAME`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn fdb(&mut self, dev: u32) -> Result<Vec<FdbEntry>> {
        fdb::list(&mut self.0, dev)
    }

    /// The nexthops that a protocol made. Equals `ip nexthop show protocol P`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn nexthops(&mut self, protocol: u8) -> Result<Vec<Nexthop>> {
        nexthop::list(&mut self.0, protocol)
    }

    /// Where a packet to `destination` would go; `None` when nowhere. Equals `ip route get ADDRESS`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<RouteHop>> {
        route::lookup(&mut self.0, destination)
    }
}
