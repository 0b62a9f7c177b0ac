//! The sbr plugin's configuration: raw keys in, one validated [`SbrConf`] out.

use std::net::IpAddr;

use cni::{Call, IpConfig, Result};
use serde::Deserialize;

use crate::keys::invalid;
use crate::subnet::same_family;

/// A configuration that has been checked: nothing in here is checked again.
#[derive(Debug)]
pub struct SbrConf {
    /// The table that somebody else fills; `None` asks for a table of each address' own.
    pub table: Option<u32>,
    /// Gateways, at most one of each family, instead of those that IPAM named.
    gateways: Vec<IpAddr>,
    /// Keep the way to the own subnet in the main table, with the address as its source.
    pub source_hints: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    table: Option<i64>,
    gateways: Vec<String>,
    add_source_hints: bool,
}

impl SbrConf {
    /// Reads and checks the configuration of `call`.
    ///
    /// # Errors
    /// Code 7 for a value that cannot be.
    pub fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        let table = raw.table.map(table).transpose()?;
        let gateways = raw.gateways.iter().map(|text| {
            text.parse::<IpAddr>().map_err(|_| {
                invalid(format!(
                    "\"gateways\": {text:?} is not an address such as \"10.1.2.1\""
                ))
            })
        });
        let gateways: Vec<IpAddr> = gateways.collect::<Result<_>>()?;
        for (number, gateway) in gateways.iter().enumerate() {
            let earlier = &gateways[..number];
            if let Some(other) = earlier.iter().find(|other| same_family(**other, *gateway)) {
                return Err(invalid(format!(
                    "\"gateways\": {other} and {gateway} are of one family: leave one of them out"
                )));
            }
        }
        Ok(Self {
            table,
            gateways,
            source_hints: raw.add_source_hints,
        })
    }

    #[cfg(test)]
    pub fn for_tests(table: Option<u32>, source_hints: bool) -> Self {
        Self {
            table,
            gateways: Vec::new(),
            source_hints,
        }
    }

    /// The gateway of one address.
    pub fn gateway_of(&self, ip: &IpConfig) -> Option<IpAddr> {
        let of_family = |gateway: &&IpAddr| same_family(**gateway, ip.address.ip());
        let own = self.gateways.iter().find(of_family);
        own.copied().or(ip.gateway)
    }
}

fn table(number: i64) -> Result<u32> {
    match u32::try_from(number) {
        Ok(table) if table != 0 => Ok(table),
        _ => Err(invalid(format!(
            "\"table\": {number} is not a routing table: write 1 to 4294967295, or leave the key out for one of its own"
        ))),
    }
}
