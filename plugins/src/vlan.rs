//! `vlan`: the pod is in one VLAN (IEEE 802.1Q) of a link's wire.

use cni::{AddResult, Call, Plugin, Result};
use netlink::link::{NewLink, Tagged};
use serde::Deserialize;

use crate::ipam::Ipam;
use crate::keys::invalid;
use crate::pod::check::broken;
use crate::stacked::{self, Stacked, Wanted};
use crate::undo::Undo;

/// The plugin.
#[derive(Debug)]
pub struct Vlan;

const KIND: &str = "vlan";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    vlan_id: i64,
}

impl Plugin for Vlan {
    fn about(&self) -> &'static str {
        "CNI vlan plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let (stacked, id) = conf(call)?;
        let wanted = Wanted {
            kind: KIND,
            mac: None,
            request: |link: NewLink<'_>| Tagged { link, id }.request(),
        };
        let mut undo = Undo::default();
        stacked
            .add(call, None, wanted, &mut undo)
            .map_err(|error| undo.run(error))
    }

    fn del(&self, call: &Call) -> Result<()> {
        stacked::del(call, KIND)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let (stacked, id) = conf(call)?;
        let eth = stacked.check(call, KIND)?;
        match eth.vlan {
            Some(found) if found == id => Ok(()),
            found => Err(broken(format!(
                "{} is in VLAN {} instead of {id}: the pod must be made anew",
                eth.name,
                found.unwrap_or_default()
            ))),
        }
    }

    /// The link goes with its pod, so only addresses can be left over.
    fn gc(&self, call: &Call) -> Result<()> {
        Ipam::collect(call)
    }

    fn status(&self, call: &Call) -> Result<()> {
        conf(call)?.0.status(call, KIND)
    }
}

fn conf(call: &Call) -> Result<(Stacked, u16)> {
    let raw: Raw = call.conf.parse()?;
    let stacked = Stacked::of(call)?;
    if stacked.master.is_none() {
        return Err(invalid(
            "\"master\" is missing: name the link whose VLAN the pod is to be in",
        ));
    }
    stacked::require_ipam(stacked.ipam.as_deref(), KIND)?;
    match u16::try_from(raw.vlan_id) {
        Ok(id @ 0..=4094) => Ok((stacked, id)),
        _ => Err(invalid(format!(
            "\"vlanId\": {} is not a VLAN id: write 0 to 4094",
            raw.vlan_id
        ))),
    }
}
