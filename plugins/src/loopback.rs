//! `loopback`: brings the pod's `lo` up.

use cni::{AddResult, Call, Code, Error, Interface, IpConfig, Plugin, Result};
use netlink::netns::Netns;
use netlink::{Handle, Link, link};

use crate::error::kernel;
use crate::sandbox;

/// The plugin; it has no keys of its own.
#[derive(Debug)]
pub struct Loopback;

impl Plugin for Loopback {
    fn about(&self) -> &'static str {
        "CNI loopback plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let netns = sandbox::open(call)?;
        let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
        let lo = find(&mut pod)?;
        pod.execute(vec![link::set_up(lo.index)]).map_err(kernel)?;
        let addresses = pod.addresses(Some(lo.index)).map_err(kernel)?;
        if let Some(foreign) = addresses
            .iter()
            .find(|address| !address.network.ip().is_loopback())
        {
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!(
                    "lo carries {}, which is no loopback address: remove it from the pod's lo",
                    foreign.network
                ),
            ));
        }
        if let Some(previous) = &call.conf.prev_result {
            return Ok(previous.clone());
        }
        // One address of each family, IPv4 first, as the reference reports them.
        let first = |v6: bool| {
            addresses
                .iter()
                .find(move |address| address.network.is_ipv6() == v6)
        };
        Ok(AddResult {
            interfaces: vec![Interface {
                name: lo.name,
                mac: Some("00:00:00:00:00:00".to_owned()),
                mtu: Some(lo.mtu),
                sandbox: Some(sandbox::required(call)?.display().to_string()),
                ..Interface::default()
            }],
            ips: [first(false), first(true)]
                .into_iter()
                .flatten()
                .map(|address| IpConfig {
                    interface: Some(0),
                    address: address.network,
                    gateway: None,
                })
                .collect(),
            ..AddResult::default()
        })
    }

    fn del(&self, call: &Call) -> Result<()> {
        match sandbox::open_if_there(call)? {
            Some(netns) => set_down(&netns),
            None => Ok(()),
        }
    }

    fn check(&self, call: &Call) -> Result<()> {
        let mut pod = Handle::in_netns(&sandbox::open(call)?).map_err(kernel)?;
        match find(&mut pod)?.up {
            true => Ok(()),
            false => Err(Error::new(
                Code::Internal,
                "the pod's lo is down: run `ip link set lo up` in its namespace",
            )),
        }
    }

    fn gc(&self, _call: &Call) -> Result<()> {
        Ok(())
    }

    fn status(&self, _call: &Call) -> Result<()> {
        Ok(())
    }
}

fn find(pod: &mut Handle) -> Result<Link> {
    pod.link("lo")
        .map_err(kernel)?
        .ok_or_else(|| Error::new(Code::Internal, "the pod's namespace has no lo"))
}

fn set_down(netns: &Netns) -> Result<()> {
    let mut pod = Handle::in_netns(netns).map_err(kernel)?;
    let lo = find(&mut pod)?;
    pod.execute(vec![link::set_down(lo.index)]).map_err(kernel)
}
