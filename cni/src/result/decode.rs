//! Results on their way in: `prevResult`, what a delegate printed, what a runtime has cached.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{Code, Error, Result, Version, fold, parse_cidr};

impl AddResult {
    /// Reads a document in the form that its own `cniVersion` says, or that of `fallback` when it says none.
    /// Code 6 if the version is unknown or a value does not fit; the error names the key and the value.
    pub fn from_json(doc: &Value, fallback: Version) -> Result<Self> {
        let version = doc
            .as_object()
            .and_then(|object| fold::get(object, "cniVersion"))
            .and_then(|(_, version)| version.as_str())
            .filter(|version| !version.is_empty());
        let version = match version {
            None => fallback,
            Some(text) => text.parse().map_err(|_| {
                Error::new(
                    Code::Decode,
                    format!("unsupported CNI result version {text:?}"),
                )
            })?,
        };
        let result = if version < Version::V0_3_0 {
            fold::read(doc).map(Families::into_result)
        } else {
            fold::read(doc).map(Lists::into_result)
        };
        result.map_err(|e| Error::new(Code::Decode, e.to_string()))
    }
}

/// The form of 0.1.0 and 0.2.0.
#[derive(Deserialize)]
struct Families {
    ip4: Option<Family>,
    ip6: Option<Family>,
    #[serde(default)]
    dns: WireDns,
}

#[derive(Deserialize)]
struct Family {
    ip: Cidr,
    #[serde(default)]
    gateway: Address,
    #[serde(default)]
    routes: Vec<WireRoute>,
}

impl Families {
    fn into_result(self) -> AddResult {
        let mut result = AddResult {
            dns: self.dns.into(),
            ..AddResult::default()
        };
        for family in [self.ip4, self.ip6].into_iter().flatten() {
            result.ips.push(IpConfig {
                interface: None,
                address: family.ip.0,
                gateway: family.gateway.0,
            });
            result
                .routes
                .extend(family.routes.into_iter().map(Route::from));
        }
        result
    }
}

/// The form from 0.3.0 on. What a version does not define is read all the same: it does no harm.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Lists {
    interfaces: Vec<WireInterface>,
    ips: Vec<WireIp>,
    routes: Vec<WireRoute>,
    dns: WireDns,
}

impl Lists {
    fn into_result(self) -> AddResult {
        AddResult {
            interfaces: self.interfaces.into_iter().map(Interface::from).collect(),
            ips: self
                .ips
                .into_iter()
                .map(|ip| IpConfig {
                    interface: ip.interface,
                    address: ip.address.0,
                    gateway: ip.gateway.0,
                })
                .collect(),
            routes: self.routes.into_iter().map(Route::from).collect(),
            dns: self.dns.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireInterface {
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    sandbox: String,
    #[serde(default)]
    socket_path: String,
    #[serde(default, rename = "pciID")]
    pci_id: String,
}

impl From<WireInterface> for Interface {
    fn from(wire: WireInterface) -> Self {
        Interface {
            name: wire.name,
            mac: filled(wire.mac),
            mtu: (wire.mtu != 0).then_some(wire.mtu),
            sandbox: filled(wire.sandbox),
            socket_path: filled(wire.socket_path),
            pci_id: filled(wire.pci_id),
        }
    }
}

#[derive(Deserialize)]
struct WireIp {
    interface: Option<usize>,
    address: Cidr,
    #[serde(default)]
    gateway: Address,
}

#[derive(Debug, Deserialize)]
pub struct WireRoute {
    dst: Cidr,
    #[serde(default)]
    gw: Address,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

impl From<WireRoute> for Route {
    fn from(wire: WireRoute) -> Self {
        Route {
            dst: wire.dst.0,
            gw: wire.gw.0,
            mtu: wire.mtu,
            advmss: wire.advmss,
            priority: wire.priority,
            table: wire.table,
            scope: wire.scope,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct WireDns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
    options: Vec<String>,
}

impl From<WireDns> for Dns {
    fn from(wire: WireDns) -> Self {
        Dns {
            nameservers: wire.nameservers,
            domain: filled(wire.domain),
            search: wire.search,
            options: wire.options,
        }
    }
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// An address with a prefix length.
#[derive(Debug)]
struct Cidr(IpNetwork);

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_cidr(&text).map(Cidr).map_err(D::Error::custom)
    }
}

/// An address; Go writes an absent one as the empty string at times.
#[derive(Debug, Default)]
struct Address(Option<IpAddr>);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Address(None));
        }
        let address = text
            .parse()
            .map_err(|_| D::Error::custom(format!("invalid IP address: {text}")))?;
        Ok(Address(Some(address)))
    }
}
