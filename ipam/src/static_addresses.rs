//! `static`: the addresses stand in the configuration. Nothing is written anywhere.

use std::net::IpAddr;

use cni::{
    AddResult, Call, Code, Dns, Error, IpConfig, Plugin, Result, Route, Version, parse_cidr,
};
use serde::Deserialize;

use crate::requests::{KNOWN_ARGS, Requests};

/// The plugin.
#[derive(Debug)]
pub struct Static;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    ipam: Option<RawIpam>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawIpam {
    addresses: Vec<RawAddress>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawAddress {
    address: String,
    gateway: String,
}

impl Plugin for Static {
    fn about(&self) -> &'static str {
        "CNI static IPAM plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        configured(call)
    }

    fn del(&self, _call: &Call) -> Result<()> {
        Ok(())
    }

    /// Each configured address must be in `prevResult`, with the configured gateway if there is one.
    fn check(&self, call: &Call) -> Result<()> {
        let previous = call.conf.prev_result.as_ref().ok_or_else(|| {
            invalid("CHECK needs \"prevResult\", the result of ADD, in the configuration")
        })?;
        for wanted in configured(call)?.ips {
            let found = previous
                .ips
                .iter()
                .find(|ip| ip.address == wanted.address)
                .ok_or_else(|| {
                    Error::new(
                        Code::Internal,
                        format!(
                            "\"prevResult\" lacks {}, which the configuration gives to the pod",
                            wanted.address
                        ),
                    )
                })?;
            if wanted.gateway.is_some() && found.gateway != wanted.gateway {
                return Err(Error::new(
                    Code::Internal,
                    format!(
                        "the gateway of {} is {:?} in \"prevResult\" and {:?} in the configuration",
                        wanted.address, found.gateway, wanted.gateway
                    ),
                ));
            }
        }
        Ok(())
    }

    fn gc(&self, _call: &Call) -> Result<()> {
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<()> {
        configured(call).map(drop)
    }
}

/// The addresses by rising precedence: `ipam.addresses`, to which `CNI_ARGS` appends; `args.cni.ips`,
/// which replaces them; `runtimeConfig.ips`, which replaces those.
fn configured(call: &Call) -> Result<AddResult> {
    let raw: Raw = call.conf.parse()?;
    let ipam = raw
        .ipam
        .ok_or_else(|| invalid("IPAM config missing 'ipam' key"))?;
    let requests: Requests = call.conf.parse()?;
    let mut ips = Vec::new();
    for raw in &ipam.addresses {
        ips.push(IpConfig {
            interface: None,
            address: cidr("ipam.addresses", &raw.address)?,
            gateway: optional_address("ipam.addresses", &raw.gateway)?,
        });
    }
    append_arguments(call, &mut ips)?;
    for (key, list) in [
        ("args.cni.ips", &requests.args.cni.ips),
        ("runtimeConfig.ips", &requests.runtime_config.ips),
    ] {
        if !list.is_empty() {
            ips = list
                .iter()
                .map(|text| {
                    Ok(IpConfig {
                        interface: None,
                        address: cidr(key, text)?,
                        gateway: None,
                    })
                })
                .collect::<Result<_>>()?;
        }
    }
    if call.conf.version < Version::V0_3_0 {
        refuse_several(&ips)?;
    }
    Ok(AddResult {
        ips,
        routes: ipam.routes,
        dns: ipam.dns,
        ..AddResult::default()
    })
}

/// `IP=a/b,c/d` appends addresses, `GATEWAY=g,h` sets the gateway of each address whose subnet has it.
fn append_arguments(call: &Call, ips: &mut Vec<IpConfig>) -> Result<()> {
    let mut args = call.args.parse(KNOWN_ARGS)?;
    for text in list(args.remove("IP")) {
        let address = parse_cidr(&text).map_err(|_| {
            Error::new(Code::InvalidEnvironment, format!("CNI_ARGS: IP {text:?} is not an address with its prefix length: write for example IP=10.0.0.5/24"))
        })?;
        ips.push(IpConfig {
            interface: None,
            address,
            gateway: None,
        });
    }
    for text in list(args.remove("GATEWAY")) {
        let gateway: IpAddr = text.parse().map_err(|_| {
            Error::new(Code::InvalidEnvironment, format!("CNI_ARGS: GATEWAY {text:?} is not an address: write for example GATEWAY=10.0.0.1"))
        })?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(())
}

fn list(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn refuse_several(ips: &[IpConfig]) -> Result<()> {
    for v6 in [false, true] {
        let family = if v6 { "IPv6" } else { "IPv4" };
        if ips.iter().filter(|ip| ip.address.is_ipv6() == v6).count() > 1 {
            return Err(Error::new(
                Code::InvalidConfig,
                format!(
                    "CNI version 0.2.0 and before does not support more than 1 address per family: give one {family} address, or set \"cniVersion\" to 0.3.0 or later"
                ),
            ));
        }
    }
    Ok(())
}

fn cidr(key: &str, text: &str) -> Result<ipnetwork::IpNetwork> {
    parse_cidr(text).map_err(|_| {
        invalid(format!("{key}: the 'address' field is expected to be in CIDR notation, got: '{text}'; write for example \"10.0.0.5/24\""))
    })
}

fn optional_address(key: &str, text: &str) -> Result<Option<IpAddr>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| invalid(format!("{key}: the gateway {text:?} is not an address"))),
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, msg)
}
