//! `bandwidth`: limits what a pod receives and what it sends. The order of the verbs stands here.
//!
//! What the pod receives waits in a token bucket on the host's end of its link. What it sends comes in by that
//! end, where nothing can wait; so it is redirected through an `ifb` of the pod's own, and waits there.

mod conf;
mod reference;
mod shape;

use cni::{AddResult, Call, Code, Error, Interface, Plugin, Result, identity};
use netlink::netns::Netns;
use netlink::{Handle, Link};

use self::conf::BandwidthConf;
use crate::error::{Failures, kernel};
use crate::links;
use crate::sandbox;
use crate::stale;
use crate::undo::Undo;

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Bandwidth;

impl Plugin for Bandwidth {
    fn about(&self) -> &'static str {
        "CNI bandwidth plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let mut result = previous(call)?.clone();
        let conf = BandwidthConf::of(call)?;
        if conf.is_empty() {
            return Ok(result);
        }
        let netns = sandbox::open(call)?;
        let mut undo = Undo::default();
        let ifb = add(call, &conf, &netns, &mut undo).map_err(|error| undo.run(error))?;
        result.interfaces.extend(ifb.map(|ifb| Interface {
            name: ifb.name,
            mac: ifb.mac.map(|mac| mac.to_string()),
            ..Interface::default()
        }));
        Ok(result)
    }

    /// Removes the `ifb` by its name, and the queues of the host's end as far as that is still to be found: it goes
    /// with the pod anyway.
    fn del(&self, call: &Call) -> Result<()> {
        let mut host = Handle::new().map_err(kernel)?;
        let mut failures = Failures::default();
        match host_end_if_there(call, &mut host) {
            Ok(Some(link)) => {
                failures.note(host.clear_traffic_control(link.index).map_err(kernel));
            }
            Ok(None) => {}
            Err(error) => failures.note(Err(error)),
        }
        failures.note(shape::remove_ifb(&mut host, &shape::ifb_name(call)));
        failures.note(reference::remove(&mut host, call));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        previous(call)?;
        let conf = BandwidthConf::of(call)?;
        if conf.is_empty() {
            return Ok(());
        }
        let mut host = Handle::new().map_err(kernel)?;
        let link = host_end(call, &sandbox::open(call)?, &mut host)?;
        shape::check(&mut host, call, &conf, &link)
    }

    fn gc(&self, call: &Call) -> Result<()> {
        let Some(valid) = &call.conf.valid_attachments else {
            return Ok(());
        };
        let network = &call.conf.name;
        let is_stale = stale::marks(call, identity::ALIAS_MAX);
        let mut host = Handle::new().map_err(kernel)?;
        let mut failures = Failures::default();
        let all = host.links().map_err(kernel)?;
        let is_stale_ifb = |link: &&Link| {
            link.kind.as_deref() == Some("ifb") && link.alias.as_deref().is_some_and(&is_stale)
        };
        failures.note(links::delete(all.iter().filter(is_stale_ifb)));
        failures.note(reference::collect(&mut host, &all, network, valid));
        failures.into_result()
    }

    fn status(&self, call: &Call) -> Result<()> {
        BandwidthConf::of(call).map(drop)
    }
}

fn add<'a>(
    call: &'a Call,
    conf: &BandwidthConf,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Option<Link>> {
    let mut host = Handle::new().map_err(kernel)?;
    let link = host_end(call, netns, &mut host)?;
    // What an earlier ADD has left makes way.
    host.clear_traffic_control(link.index).map_err(kernel)?;
    shape::remove_ifb(&mut host, &shape::ifb_name(call))?;
    let index = link.index;
    undo.push("the queues", move || {
        let mut host = Handle::new().map_err(kernel)?;
        host.clear_traffic_control(index).map_err(kernel)?;
        shape::remove_ifb(&mut host, &shape::ifb_name(call))
    });
    shape::apply(&mut host, call, conf, &link)
}

/// The host's end of the pod's link.
fn host_end(call: &Call, netns: &Netns, host: &mut Handle) -> Result<Link> {
    peer(call, netns, host)?.ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            format!(
                "the pod's {} has no end on the host: bandwidth is for veth pairs, as bridge and ptp make them",
                call.attachment.ifname
            ),
        )
    })
}

/// The same for DEL: by the pod if it is there, otherwise by the name that `bridge` gives it.
fn host_end_if_there(call: &Call, host: &mut Handle) -> Result<Option<Link>> {
    if let Some(netns) = sandbox::open_if_there(call)?
        && let Some(link) = peer(call, &netns, host)?
    {
        return Ok(Some(link));
    }
    let mark = identity::mark(&call.conf.name, &call.attachment, identity::ALIAS_MAX);
    let link = host
        .link(&identity::host_link_name(&call.attachment))
        .map_err(kernel)?;
    Ok(link.filter(|link| link.alias.as_ref() == Some(&mark)))
}

fn peer(call: &Call, netns: &Netns, host: &mut Handle) -> Result<Option<Link>> {
    let mut pod = Handle::in_netns(netns).map_err(kernel)?;
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    let inner = pod
        .link(&call.attachment.ifname)
        .map_err(kernel)?
        .filter(is_veth);
    let Some((inner, index)) = inner.and_then(|link| link.peer_index.map(|index| (link, index)))
    else {
        return Ok(None);
    };
    let outer = host.link_by_index(index).map_err(kernel)?;
    Ok(outer.filter(|link| is_veth(link) && link.peer_index == Some(inner.index)))
}

fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "bandwidth must be called as a chained plugin: put it behind the plugin that makes the interface",
        )
    })
}
