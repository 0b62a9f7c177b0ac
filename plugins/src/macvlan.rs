//! `macvlan`: the pod is on the wire of one of the host's links, with a MAC of its own.

use cni::{AddResult, Call, Plugin, Result, identity};
use netlink::Mac;
use netlink::link::{Macvlan as Request, MacvlanMode, NewLink};
use serde::Deserialize;

use crate::ipam::Ipam;
use crate::keys::{self, RawMac, invalid};
use crate::pod::check::broken;
use crate::stacked::{self, Stacked, Wanted};
use crate::undo::Undo;

/// The plugin.
#[derive(Debug)]
pub struct Macvlan;

const KIND: &str = "macvlan";

/// The modes by their names in the configuration; the first is the default.
const MODES: [(&str, MacvlanMode); 4] = [
    ("bridge", MacvlanMode::Bridge),
    ("private", MacvlanMode::Private),
    ("vepa", MacvlanMode::Vepa),
    ("passthru", MacvlanMode::Passthru),
];

/// The plugin's own keys, checked.
struct Own {
    /// The mode and its name.
    mode: (&'static str, MacvlanMode),
    /// The MAC asked for.
    mac: Option<Mac>,
    /// How many broadcasts may wait; the kernel's choice where `None`.
    broadcast_queue: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    mode: String,
    mac: Option<String>,
    bcqueuelen: u32,
    #[serde(rename = "runtimeConfig")]
    runtime_config: RawMac,
}

impl Own {
    fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        let mut known = MODES.iter();
        let mode = known.find(|(name, _)| raw.mode.is_empty() || *name == raw.mode);
        Ok(Self {
            mode: *mode.ok_or_else(|| {
                invalid(format!(
                    "\"mode\": {:?} is no mode of a macvlan: write bridge, private, vepa or passthru",
                    raw.mode
                ))
            })?,
            mac: keys::mac([
                ("runtimeConfig.mac", raw.runtime_config.mac),
                ("CNI_ARGS MAC", keys::mac_of_args(call)?),
                ("mac", raw.mac),
            ])?,
            broadcast_queue: Some(raw.bcqueuelen).filter(|length| *length != 0),
        })
    }
}

impl Plugin for Macvlan {
    fn about(&self) -> &'static str {
        "CNI macvlan plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let (stacked, own) = (Stacked::of(call)?, Own::of(call)?);
        // In passthru mode a MAC would be set on the link below, and stay there.
        let derived = || Mac::from(identity::mac(&call.attachment, "container"));
        let passthru = own.mode.1 == MacvlanMode::Passthru;
        let wanted = Wanted {
            kind: KIND,
            mac: own.mac.or_else(|| (!passthru).then(derived)),
            request: |link: NewLink<'_>| {
                let macvlan = Request {
                    link,
                    mode: own.mode.1,
                    broadcast_queue: own.broadcast_queue,
                };
                macvlan.request()
            },
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
        let (stacked, own) = (Stacked::of(call)?, Own::of(call)?);
        let eth = stacked.check(call, KIND)?;
        let (name, mode) = own.mode;
        match eth.macvlan == Some(mode) {
            true => Ok(()),
            false => Err(broken(format!(
                "{0} is not in mode {name}: run `ip link set {0} type macvlan mode {name}` in the pod",
                eth.name
            ))),
        }
    }

    /// The link goes with its pod, so only addresses can be left over.
    fn gc(&self, call: &Call) -> Result<()> {
        Ipam::collect(call)
    }

    fn status(&self, call: &Call) -> Result<()> {
        Own::of(call)?;
        Stacked::of(call)?.status(call, KIND)
    }
}
