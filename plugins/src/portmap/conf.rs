//! What portmap reads: its keys, and the ports that the runtime wants.

use std::net::IpAddr;

use cni::{Call, Code, Error, Result};
use netlink::nft::Expr;
use serde::Deserialize;

use super::condition;

/// The bit of the mark where none is configured: 0x2000, as the reference's.
pub const DEFAULT_MARK_BIT: u8 = 13;

/// The keys, checked.
#[derive(Debug)]
pub struct PortmapConf {
    /// Masquerade what comes from the pod's own subnet or from 127.0.0.0/8.
    pub snat: bool,
    /// Masquerade everything that goes to the pod by a mapping.
    pub masq_all: bool,
    /// The bit of the packet's mark that says "to be masqueraded".
    pub mark_bit: u8,
    /// What else a packet must be, IPv4 first.
    pub conditions: [Option<Expr>; 2],
}

/// A port of the host, and the port of the pod that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// `IPPROTO_…`.
    pub protocol: u8,
    /// On the host.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
    /// The only address of the host that it is for.
    pub host_ip: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    backend: String,
    snat: Option<bool>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: String,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

impl PortmapConf {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// Code 7 for one that cannot be.
    pub fn of(call: &Call) -> Result<Self> {
        let keys: Keys = call.conf.parse()?;
        if !["", "iptables", "nftables"].contains(&keys.backend.as_str()) {
            return Err(invalid(format!(
                "invalid value {:?} for key \"backend\": use \"nftables\", or leave it out",
                keys.backend
            )));
        }
        let chain = &keys.external_set_mark_chain;
        if !chain.is_empty() && keys.mark_masq_bit.is_some() {
            return Err(invalid(
                "\"externalSetMarkChain\" and \"markMasqBit\" cannot both be given: leave one out"
                    .to_owned(),
            ));
        }
        if !chain.is_empty() {
            eprintln!("portmap: packets are masqueraded by nftables, not by the chain {chain:?}");
        }
        let bit = keys.mark_masq_bit.unwrap_or(DEFAULT_MARK_BIT.into());
        let mark_bit = u8::try_from(bit).ok().filter(|bit| *bit < 32).ok_or_else(|| {
            invalid(format!(
                "invalid value {bit} for key \"markMasqBit\": expected a whole number from 0 to 31"
            ))
        })?;
        Ok(Self {
            snat: keys.snat.unwrap_or(true),
            masq_all: keys.masq_all,
            mark_bit,
            conditions: [
                condition::parse("conditionsV4", &keys.conditions_v4, false)?,
                condition::parse("conditionsV6", &keys.conditions_v6, true)?,
            ],
        })
    }

    /// Whether nothing is wanted of the masquerading but what most pods want.
    pub fn is_plain(&self, v6: bool) -> bool {
        let conditions = &self.conditions[usize::from(v6)];
        self.snat && !self.masq_all && self.mark_bit == DEFAULT_MARK_BIT && conditions.is_none()
    }
}

/// The ports that the runtime wants, the capability `portMappings`.
///
/// # Errors
/// Code 7 for a port, a protocol or an address that cannot be.
pub fn mappings(call: &Call) -> Result<Vec<Mapping>> {
    let ports: Vec<Port> = call.conf.parse_key(&["runtimeConfig", "portMappings"])?;
    ports.iter().map(mapping).collect()
}

fn mapping(wire: &Port) -> Result<Mapping> {
    let protocol = match wire.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        _ => {
            return Err(invalid(format!(
                "invalid protocol {:?} in \"portMappings\": use tcp, udp or sctp",
                wire.protocol
            )));
        }
    };
    let host_ip = match wire.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            invalid(format!(
                "invalid hostIP {text:?} in \"portMappings\": expected an address such as 192.0.2.7"
            ))
        })?),
    };
    Ok(Mapping {
        protocol,
        host_port: port("hostPort", wire.host_port)?,
        container_port: port("containerPort", wire.container_port)?,
        host_ip,
    })
}

fn port(key: &str, number: i64) -> Result<u16> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(invalid(format!(
            "invalid {key} {number} in \"portMappings\": expected a port from 1 to 65535"
        ))),
    }
}

/// `tcp`, `udp` or `sctp`.
pub fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        17 => "udp",
        132 => "sctp",
        _ => "tcp",
    }
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(Code::InvalidConfig, message)
}
