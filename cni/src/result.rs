//! What a successful ADD hands over: interfaces, addresses, routes, DNS.

mod decode;
mod encode;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

/// The result of ADD, always held in the form of 1.1.0; older forms exist only on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddResult {
    /// All interfaces that the attachment made, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// The addresses of the attachment.
    pub ips: Vec<IpConfig>,
    /// The routes of the attachment.
    pub routes: Vec<Route>,
    /// What the resolver should be told.
    pub dns: Dns,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name in its network namespace.
    pub name: String,
    /// The hardware address, if it has one.
    pub mac: Option<String>,
    /// The MTU in bytes (1.1.0).
    pub mtu: Option<u32>,
    /// The path of its network namespace, as the runtime gave it; `None` on the host.
    pub sandbox: Option<String>,
    /// The path of a socket that stands for the interface (1.1.0).
    pub socket_path: Option<String>,
    /// The PCI identifier of the device (1.1.0).
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq)]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`].
    pub interface: Option<usize>,
    /// The address with the prefix length of its subnet.
    pub address: IpNetwork,
    /// The gateway of that subnet.
    pub gateway: Option<IpAddr>,
}

/// One route. Every attribute may be absent; `Some(0)` is not the same as absent.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(from = "decode::WireRoute")]
pub struct Route {
    /// The destination.
    pub dst: IpNetwork,
    /// The next hop.
    pub gw: Option<IpAddr>,
    /// The path MTU in bytes.
    pub mtu: Option<u32>,
    /// The MSS to advertise, in bytes.
    pub advmss: Option<u32>,
    /// The metric; lower wins.
    pub priority: Option<u32>,
    /// The number of the routing table.
    pub table: Option<u32>,
    /// The scope as in rtnetlink: 0 universe, 253 link, 254 host.
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst`, every attribute absent.
    pub fn to(dst: IpNetwork) -> Self {
        Route {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// What the resolver should be told.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(from = "decode::WireDns")]
pub struct Dns {
    /// Addresses of name servers, first choice first.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

#[cfg(test)]
mod tests;
