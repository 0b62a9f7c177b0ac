//! `vrf`: the pod's interface routes by the table of a VRF alone. The order of the verbs stands here.

mod member;

use cni::{AddResult, Call, Code, Error, Plugin, Result};
use netlink::link::{self, NewLink, Vrf as Request};
use netlink::netns::Netns;
use netlink::{Handle, Link, RouteFilter};
use serde::Deserialize;

use self::member::Member;
use crate::error::{kernel, unless_missing};
use crate::guest::{self, lacking};
use crate::keys::invalid;
use crate::netns_lock::NetnsLock;
use crate::pod::check::{broken, present};
use crate::sandbox;
use crate::undo::Undo;

/// The plugin.
#[derive(Debug)]
pub struct Vrf;

const KIND: &str = "vrf";

/// The alias of a VRF that was made here: only such a one is removed with its last member.
const MARK: &str = "heddle";

/// The plugin's keys, checked.
#[derive(Debug)]
struct Conf {
    /// Name of the VRF.
    name: String,
    /// Number of its table; `None` asks for that of the VRF that is there, or a free one.
    table: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    vrfname: String,
    table: u32,
}

impl Conf {
    fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        if raw.vrfname.is_empty() {
            return Err(invalid(
                "\"vrfname\" is missing: name the VRF that the interface is to be in",
            ));
        }
        cni::check_interface_name(&raw.vrfname).map_err(|why| {
            invalid(format!(
                "\"vrfname\": {:?} cannot name a device: {why}",
                raw.vrfname
            ))
        })?;
        Ok(Self {
            name: raw.vrfname,
            table: Some(raw.table).filter(|table| *table != 0),
        })
    }
}

impl Plugin for Vrf {
    fn about(&self) -> &'static str {
        "CNI vrf plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let result = previous(call)?;
        let conf = Conf::of(call)?;
        let netns = sandbox::open(call)?;
        let mut undo = Undo::default();
        add(call, &conf, &netns, &mut undo).map_err(|error| undo.run(error))?;
        Ok(result.clone())
    }

    /// Nothing outlives the namespace; in there the VRF is found by its member.
    fn del(&self, call: &Call) -> Result<()> {
        let Some(netns) = sandbox::open_if_there(call)? else {
            return Ok(());
        };
        let _lock = lock(&netns)?;
        let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
        let eth = pod.link(&call.attachment.ifname).map_err(kernel)?;
        let master = match eth.as_ref().and_then(|eth| eth.master) {
            Some(index) => pod.link_by_index(index).map_err(kernel)?,
            None => None,
        };
        if let (Some(eth), Some(vrf)) = (&eth, master.filter(is_vrf)) {
            let member = Member::of(&mut pod, eth, vrf.vrf)?;
            member.join(&mut pod, None)?;
            return remove_if_unused(&mut pod, &vrf.name);
        }
        let name: String = call.conf.parse_key(&["vrfname"]).unwrap_or_default();
        remove_if_unused(&mut pod, &name)
    }

    fn check(&self, call: &Call) -> Result<()> {
        previous(call)?;
        let conf = Conf::of(call)?;
        let mut pod = Handle::in_netns(&sandbox::open(call)?).map_err(kernel)?;
        let name = &call.attachment.ifname;
        let eth = present(pod.link(name), &format!("container interface {name}"))?;
        let vrf = present(pod.link(&conf.name), &format!("VRF {}", conf.name))?;
        if !is_vrf(&vrf) || conf.table.is_some_and(|table| vrf.vrf != Some(table)) {
            return Err(broken(format!(
                "{} is no VRF of table {} any more: the pod must be made anew",
                conf.name,
                conf.table.or(vrf.vrf).unwrap_or_default()
            )));
        }
        if !vrf.up {
            return Err(broken(format!(
                "VRF {0} is down: run `ip link set {0} up` in the pod",
                conf.name
            )));
        }
        match eth.master == Some(vrf.index) {
            true => Ok(()),
            false => Err(broken(format!(
                "{name} is not in VRF {0} any more: run `ip link set {name} master {0}` in the pod",
                conf.name
            ))),
        }
    }

    /// Nothing outlives its pod's namespace.
    fn gc(&self, _call: &Call) -> Result<()> {
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<()> {
        Conf::of(call)?;
        guest::status(KIND)
    }
}

fn add<'a>(call: &'a Call, conf: &'a Conf, netns: &'a Netns, undo: &mut Undo<'a>) -> Result<()> {
    let _lock = lock(netns)?;
    let mut pod = Handle::in_netns(netns).map_err(kernel)?;
    let name = &call.attachment.ifname;
    let eth = pod.link(name).map_err(kernel)?.ok_or_else(|| {
        Error::new(
            Code::InvalidEnvironment,
            format!("the pod has no interface {name}: put vrf behind the plugin that makes it"),
        )
    })?;
    if let Some(index) = eth.master {
        let master = pod.link_by_index(index).map_err(kernel)?;
        let master = master.map_or_else(|| "another device".to_owned(), |master| master.name);
        if master != conf.name {
            return Err(invalid(format!(
                "{name} is in {master} already, and an interface can be in one VRF or bridge only: leave one of them out"
            )));
        }
    }
    let vrf = ensure(&mut pod, conf, netns, undo)?;
    if eth.master == Some(vrf.index) {
        // A second ADD of the same.
        return Ok(());
    }
    let member = Member::of(&mut pod, &eth, None)?;
    let before = member.clone();
    undo.push("the interface's routes", move || {
        let mut pod = Handle::in_netns(netns).map_err(kernel)?;
        before.join(&mut pod, None)
    });
    member.join(&mut pod, Some(&vrf))
}

/// The VRF, made if it is missing.
fn ensure<'a>(
    pod: &mut Handle,
    conf: &'a Conf,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Link> {
    if let Some(found) = pod.link(&conf.name).map_err(kernel)? {
        if !is_vrf(&found) {
            return Err(invalid(format!(
                "\"vrfname\": {:?} already exists in the pod but is no VRF, it is a {}: choose another name",
                conf.name,
                found.kind.as_deref().unwrap_or("physical device")
            )));
        }
        return match conf.table {
            Some(table) if found.vrf != Some(table) => Err(invalid(format!(
                "\"table\": VRF {} already exists with table {}: write that number, or leave the key out",
                conf.name,
                found.vrf.unwrap_or_default()
            ))),
            _ => Ok(found),
        };
    }
    let table = match conf.table {
        Some(table) => table,
        None => free_table(pod)?,
    };
    let new = Request {
        link: NewLink {
            name: &conf.name,
            ..NewLink::default()
        },
        table,
    };
    match pod.execute(vec![
        new.request(),
        link::set_alias_by_name(&conf.name, MARK),
    ]) {
        Err(error) if error.is_unknown_kind() => return Err(lacking(KIND, Code::Internal)),
        outcome => {
            undo.push("the VRF", move || {
                let mut pod = Handle::in_netns(netns).map_err(kernel)?;
                remove_if_unused(&mut pod, &conf.name)
            });
            outcome.map_err(kernel)?;
        }
    }
    let made = present(pod.link(&conf.name), &format!("VRF {}", conf.name))?;
    pod.execute(vec![link::set_up(made.index)])
        .map_err(kernel)?;
    Ok(made)
}

/// The first table that nobody in the pod uses.
fn free_table(pod: &mut Handle) -> Result<u32> {
    let links = pod.links().map_err(kernel)?;
    let rules = pod.rules().map_err(kernel)?;
    let routes = pod.routes(RouteFilter::default()).map_err(kernel)?;
    let is_taken = |table: u32| {
        // 253 to 255 are the kernel's own.
        (253..=255).contains(&table)
            || links.iter().any(|link| link.vrf == Some(table))
            || rules.iter().any(|rule| rule.table == table)
            || routes.iter().any(|route| route.table == Some(table))
    };
    (1..).find(|table| !is_taken(*table)).ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "the pod has no routing table left: remove one",
        )
    })
}

/// Removes a VRF that was made here once nothing is in it.
fn remove_if_unused(pod: &mut Handle, name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let Some(vrf) = pod.link(name).map_err(kernel)? else {
        return Ok(());
    };
    let links = pod.links().map_err(kernel)?;
    let used = links.iter().any(|link| link.master == Some(vrf.index));
    if used || !is_vrf(&vrf) || vrf.alias.as_deref() != Some(MARK) {
        return Ok(());
    }
    unless_missing(pod.execute(vec![link::delete(vrf.index)]))
}

fn is_vrf(link: &Link) -> bool {
    link.kind.as_deref() == Some(KIND)
}

/// Keeps others from making or removing the VRF meanwhile.
fn lock(netns: &Netns) -> Result<NetnsLock> {
    netns.run(NetnsLock::exclusive).map_err(kernel)?
}

fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        invalid(
            "vrf must be called as a chained plugin: put it behind the plugin that makes the interface",
        )
    })
}
