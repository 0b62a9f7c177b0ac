//! `ipvlan`: the pod is on the wire of one of the host's links, under that link's MAC.

use cni::{AddResult, Call, Plugin, Result};
use netlink::link::{Ipvlan as Request, IpvlanMode, NewLink};

use crate::ipam::Ipam;
use crate::keys::invalid;
use crate::pod::check::broken;
use crate::stacked::{self, Stacked, Wanted};
use crate::undo::Undo;

/// The plugin.
#[derive(Debug)]
pub struct Ipvlan;

const KIND: &str = "ipvlan";

/// The modes by their names in the configuration; the first is the default.
const MODES: [(&str, IpvlanMode); 3] = [
    ("l2", IpvlanMode::L2),
    ("l3", IpvlanMode::L3),
    ("l3s", IpvlanMode::L3s),
];

impl Plugin for Ipvlan {
    fn about(&self) -> &'static str {
        "CNI ipvlan plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let mode = mode(call)?.1;
        let mut stacked = Stacked::of(call)?;
        let previous = call.conf.prev_result.as_ref();
        if let (None, Some(previous)) = (&stacked.master, previous) {
            stacked.master = Some(only_interface(previous)?);
        }
        // Chained, it takes the addresses of the plugin before it, unless it has an IPAM plugin of its own.
        let given = previous.filter(|given| stacked.ipam.is_none() && !given.ips.is_empty());
        if given.is_none() {
            stacked::require_ipam(stacked.ipam.as_deref(), KIND)?;
        }
        let wanted = Wanted {
            kind: KIND,
            mac: None,
            request: |link: NewLink<'_>| Request { link, mode }.request(),
        };
        let mut undo = Undo::default();
        stacked
            .add(call, given, wanted, &mut undo)
            .map_err(|error| undo.run(error))
    }

    fn del(&self, call: &Call) -> Result<()> {
        stacked::del(call, KIND)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let (name, mode) = mode(call)?;
        let eth = Stacked::of(call)?.check(call, KIND)?;
        match eth.ipvlan == Some(mode) {
            true => Ok(()),
            false => Err(broken(format!(
                "{0} is not in mode {name}: run `ip link set {0} type ipvlan mode {name}` in the pod",
                eth.name
            ))),
        }
    }

    /// The link goes with its pod, so only addresses can be left over.
    fn gc(&self, call: &Call) -> Result<()> {
        Ipam::collect(call)
    }

    fn status(&self, call: &Call) -> Result<()> {
        mode(call)?;
        Stacked::of(call)?.status(call, KIND)
    }
}

fn mode(call: &Call) -> Result<(&'static str, IpvlanMode)> {
    let wanted: String = call.conf.parse_key(&["mode"])?;
    let mut known = MODES.iter();
    match known.find(|(name, _)| wanted.is_empty() || *name == wanted) {
        Some(mode) => Ok(*mode),
        None => Err(invalid(format!(
            "\"mode\": {wanted:?} is no mode of an ipvlan: write l2, l3 or l3s"
        ))),
    }
}

/// The link that the plugin before has made: that is the one to stand on.
fn only_interface(previous: &AddResult) -> Result<String> {
    match previous.interfaces.as_slice() {
        [only] if !only.name.is_empty() => Ok(only.name.clone()),
        others => Err(invalid(format!(
            "\"master\" is missing, and the plugin before has made {} interfaces, so that it is not clear which one is meant: name it",
            others.len()
        ))),
    }
}
