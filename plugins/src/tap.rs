//! `tap`: a link in the pod whose other end is a program, such as a virtual machine.

use cni::{AddResult, Call, Code, Dns, Error, Plugin, Result, identity};
use netlink::{Mac, link, tap};
use serde::Deserialize;

use crate::error::kernel;
use crate::guest::{self, Guest, lacking};
use crate::ipam::Ipam;
use crate::keys::{self, RawDns, RawIpam, RawMac};
use crate::netns_lock::NetnsLock;
use crate::pod::check::{Expected, compare, previous};
use crate::stacked;
use crate::undo::Undo;

/// The plugin.
#[derive(Debug)]
pub struct Tap;

/// What the kernel calls the kind of TAP devices.
const KIND: &str = "tun";

/// The plugin's keys, checked.
#[derive(Debug)]
struct Conf {
    /// MTU in bytes; `None` asks for the kernel's, 1500.
    mtu: Option<u32>,
    /// The MAC asked for.
    mac: Option<Mac>,
    /// Whether several threads may have a queue of their own.
    multi_queue: bool,
    /// SELinux label of the device.
    label: String,
    /// The IPAM plugin's type; `None` for a link without addresses.
    ipam: Option<String>,
    /// The configuration's own DNS, which replaces IPAM's when any field is given.
    dns: Option<Dns>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    multi_queue: bool,
    mtu: i64,
    mac: Option<String>,
    owner: Option<u32>,
    group: Option<u32>,
    selinux_context: String,
    ipam: RawIpam,
    dns: Option<RawDns>,
    runtime_config: RawMac,
}

impl Conf {
    fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        for (key, number) in [("owner", raw.owner), ("group", raw.group)] {
            if let Some(number) = number {
                return Err(Error::new(
                    Code::UnsupportedField,
                    format!(
                        "\"{key}\": {number} is not supported: leave it out, or use the reference's tap for this network"
                    ),
                ));
            }
        }
        Ok(Self {
            mtu: keys::mtu(raw.mtu, "1500")?,
            mac: keys::mac([
                ("runtimeConfig.mac", raw.runtime_config.mac),
                ("CNI_ARGS MAC", keys::mac_of_args(call)?),
                ("mac", raw.mac),
            ])?,
            multi_queue: raw.multi_queue,
            label: raw.selinux_context,
            ipam: raw.ipam.plugin(),
            dns: raw.dns.and_then(RawDns::replacement),
        })
    }
}

impl Plugin for Tap {
    fn about(&self) -> &'static str {
        "CNI tap plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let conf = Conf::of(call)?;
        let mut undo = Undo::default();
        add(call, &conf, &mut undo).map_err(|error| undo.run(error))
    }

    fn del(&self, call: &Call) -> Result<()> {
        stacked::del(call, KIND)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let conf = Conf::of(call)?;
        if let Some(plugin) = &conf.ipam {
            Ipam::resolve(call, plugin)?.check(call)?;
        }
        let expected = Expected {
            kind: Some(KIND),
            mtu: conf.mtu,
            up: true,
        };
        compare(call, previous(call)?, expected).map(drop)
    }

    /// The link goes with its pod, so only addresses can be left over.
    fn gc(&self, call: &Call) -> Result<()> {
        Ipam::collect(call)
    }

    fn status(&self, call: &Call) -> Result<()> {
        let conf = Conf::of(call)?;
        guest::status(KIND)?;
        conf.ipam
            .as_deref()
            .map_or(Ok(()), |plugin| Ipam::resolve(call, plugin)?.status(call))
    }
}

fn add<'a>(call: &'a Call, conf: &Conf, undo: &mut Undo<'a>) -> Result<AddResult> {
    let mut guest = Guest::open(call, conf.ipam.as_deref())?;
    // From finding the name free to having marked the link, or another call for it would take the same.
    let lock = guest.netns.run(NetnsLock::exclusive).map_err(kernel)??;
    guest.require_free_name()?;
    let new = tap::Tap {
        name: &call.attachment.ifname,
        multi_queue: conf.multi_queue,
        label: Some(conf.label.as_str()).filter(|label| !label.is_empty()),
    };
    match guest.netns.run(|| new.create()).map_err(kernel)? {
        Ok(()) => {}
        Err(error) if error.is_exists() => return Err(guest::taken(call)),
        Err(error) if error.is_not_found() => return Err(lacking(KIND, Code::Internal)),
        Err(error) => return Err(kernel(error)),
    }
    let index = guest.adopt(KIND, undo)?;
    drop(lock);
    let mac = conf
        .mac
        .unwrap_or_else(|| Mac::from(identity::mac(&call.attachment, "container")));
    let mut changes = vec![link::set_mac(index, mac)];
    changes.extend(conf.mtu.map(|mtu| link::set_mtu(index, mtu)));
    guest.pod.execute(changes).map_err(kernel)?;
    let result = guest.allocate(undo)?;
    guest.configure(result, conf.dns.as_ref())
}
