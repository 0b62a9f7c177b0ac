//! `bridge`: joins a pod to a Linux bridge by a veth pair. The order of the verbs stands here; each
//! noun has a file in `bridge/`.

mod check;
mod conf;
mod device;
mod gateway;
mod node_status;
mod port;
mod vlan_gateway;

use cni::{AddResult, Call, Code, Error, Interface, Plugin, Result};
use ipnetwork::IpNetwork;
use netlink::Handle;

use self::conf::BridgeConf;
use crate::error::{Failures, kernel};
use crate::ipam::Ipam;
use crate::netns_lock::NetnsLock;
use crate::pod::PodLink;
use crate::undo::Undo;
use crate::{mac_spoof, masquerade, rules, sandbox, veth};

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Bridge;

/// Where the container's interface stands in a result: after the bridge and the host's veth end.
const CONTAINER: usize = 2;

impl Plugin for Bridge {
    fn about(&self) -> &'static str {
        "CNI bridge plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let conf = BridgeConf::of(call)?;
        if let Some(file) = &conf.status_file {
            node_status::may_add(file)?;
        }
        let mut undo = Undo::default();
        add(call, &conf, &mut undo).map_err(|error| undo.run(error))
    }

    /// Finds everything by the attachment's identity: the configuration may have changed since ADD,
    /// the namespace may be gone, `prevResult` may be missing.
    fn del(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(veth::remove(call));
        match rules::open() {
            Ok(mut nft) => {
                failures.note(mac_spoof::remove(&mut nft, call));
                failures.note(masquerade::remove(&mut nft, call));
            }
            Err(error) => failures.note(Err(error)),
        }
        failures.note(Ipam::release(call));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        let conf = BridgeConf::of(call)?;
        if let Some(plugin) = &conf.ipam {
            Ipam::resolve(call, plugin)?.check(call)?;
        }
        check::check(call, &conf)
    }

    fn gc(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(veth::collect(call));
        match rules::open() {
            Ok(mut nft) => {
                failures.note(mac_spoof::collect(&mut nft, call));
                failures.note(masquerade::collect(&mut nft, call));
            }
            Err(error) => failures.note(Err(error)),
        }
        failures.note(Ipam::collect(call));
        failures.into_result()
    }

    fn status(&self, call: &Call) -> Result<()> {
        let conf = BridgeConf::of(call)?;
        if let Some(file) = &conf.status_file {
            node_status::status(file)?;
        }
        device::status(&conf)?;
        if conf.ip_masq || conf.mac_spoof_check {
            masquerade::status()?;
        }
        conf.ipam
            .as_deref()
            .map_or(Ok(()), |plugin| Ipam::resolve(call, plugin)?.status(call))
    }
}

fn add<'a>(call: &'a Call, conf: &'a BridgeConf, undo: &mut Undo<'a>) -> Result<AddResult> {
    let netns = sandbox::open(call)?;
    let ipam = conf
        .ipam
        .as_deref()
        .map(|plugin| Ipam::resolve(call, plugin))
        .transpose()?;
    let mut host = Handle::new().map_err(kernel)?;

    // From finding the bridge to being its port nobody may remove it.
    let lock = NetnsLock::shared()?;
    let (bridge, lock) = device::ensure(&mut host, conf, lock, undo)?;
    let mtu = conf.mtu.unwrap_or(bridge.mtu);
    let veth = port::create(&mut host, call, conf, &bridge, mtu, &netns, undo)?;
    let home = lock.release()?;

    if conf.mac_spoof_check {
        undo.push("the MAC spoof check", || {
            mac_spoof::remove(&mut rules::open()?, call)
        });
        mac_spoof::add(call, veth.mac)?;
    }

    let mut result = match &ipam {
        Some(ipam) => ipam.allocate(call, CONTAINER, undo)?,
        None => AddResult::default(),
    };
    let gateways = gateway::plan(&mut host, conf, &bridge, &mut result)?;

    let mut pod = Handle::in_netns_from(&netns, &home).map_err(kernel)?;
    if !conf.disable_container_interface {
        let eth = pod
            .link(&call.attachment.ifname)
            .map_err(kernel)?
            .ok_or_else(|| {
                Error::new(
                    Code::Internal,
                    format!(
                        "{} vanished from the pod while it was being attached",
                        call.attachment.ifname
                    ),
                )
            })?;
        let link = PodLink {
            netns: &netns,
            index: eth.index,
            name: &call.attachment.ifname,
            duplicate_address_detection: conf.duplicate_address_detection,
            by_gateway: false,
        };
        link.configure(&mut pod, &result)?;
    }
    if conf.ip_masq && !result.ips.is_empty() {
        undo.push("the masquerade rules", || {
            masquerade::remove(&mut rules::open()?, call)
        });
        let subnets: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(call, &subnets)?;
    }
    if !conf.disable_container_interface {
        port::wait_until_forwarding(&mut host, &veth.host_name)?;
    }
    // Last, because others may rely on a gateway as soon as it is there: nothing after it can fail.
    let vlan_gateway = gateways.apply(&mut host, conf, &bridge)?;

    result.interfaces = vec![
        Interface {
            name: bridge.name,
            mac: Some(bridge.mac.to_string()),
            mtu: Some(bridge.mtu),
            ..Interface::default()
        },
        Interface {
            name: veth.host_name,
            mac: Some(veth.host_mac.to_string()),
            mtu: Some(mtu),
            ..Interface::default()
        },
        Interface {
            name: call.attachment.ifname.clone(),
            mac: Some(veth.mac.to_string()),
            mtu: Some(mtu),
            sandbox: Some(sandbox::required(call)?.display().to_string()),
            ..Interface::default()
        },
    ];
    result.interfaces.extend(vlan_gateway);
    if let Some(dns) = &conf.dns {
        result.dns = dns.clone();
    }
    Ok(result)
}
