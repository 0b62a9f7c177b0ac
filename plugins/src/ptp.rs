//! `ptp`: a veth pair between pod and host, and nothing else on that wire: the host routes. The order of the verbs
//! stands here.

mod conf;
mod host;

use cni::{AddResult, Call, Interface, Plugin, Result};
use ipnetwork::IpNetwork;
use netlink::{Handle, link};

use self::conf::PtpConf;
use crate::error::{Failures, kernel};
use crate::ipam::Ipam;
use crate::pod::check::{Expected, broken, compare, ours, previous, require_routes};
use crate::pod::{PodLink, routes_by_gateway};
use crate::undo::Undo;
use crate::{forwarding, masquerade, rules, sandbox, uplink, veth};

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Ptp;

/// Where the container's interface stands in a result: after the host's end.
const CONTAINER: usize = 1;

impl Plugin for Ptp {
    fn about(&self) -> &'static str {
        "CNI ptp plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let conf = PtpConf::of(call)?;
        let mut undo = Undo::default();
        add(call, &conf, &mut undo).map_err(|error| undo.run(error))
    }

    /// Finds everything by the attachment's identity, whatever the configuration says now.
    fn del(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(veth::remove(call));
        failures.note(rules::open().and_then(|mut nft| masquerade::remove(&mut nft, call)));
        failures.note(Ipam::release(call));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        let conf = PtpConf::of(call)?;
        Ipam::resolve(call, &conf.ipam)?.check(call)?;
        let result = previous(call)?;
        let mut host = Handle::new().map_err(kernel)?;
        let veth = veth::host_end(&mut host, call)?.ok_or_else(|| {
            broken("the host's end of the pod's link is gone: the pod must be made anew")
        })?;
        let mine = AddResult {
            ips: ours(call, result).cloned().collect(),
            ..AddResult::default()
        };
        host::check(&mut host, &veth, &mine)?;
        let expected = Expected {
            kind: Some("veth"),
            mtu: conf.mtu,
            up: true,
        };
        let (mut pod, eth) = compare(call, result, expected)?;
        require_routes(&mut pod, &eth, &routes_by_gateway(eth.index, &mine))?;
        if conf.ip_masq {
            masquerade::check(call, &addresses(&mine))?;
        }
        Ok(())
    }

    fn gc(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(veth::collect(call));
        failures.note(rules::open().and_then(|mut nft| masquerade::collect(&mut nft, call)));
        failures.note(Ipam::collect(call));
        failures.into_result()
    }

    fn status(&self, call: &Call) -> Result<()> {
        let conf = PtpConf::of(call)?;
        if conf.ip_masq {
            masquerade::status()?;
        }
        Ipam::resolve(call, &conf.ipam)?.status(call)
    }
}

fn add<'a>(call: &'a Call, conf: &PtpConf, undo: &mut Undo<'a>) -> Result<AddResult> {
    let netns = sandbox::open(call)?;
    let ipam = Ipam::resolve(call, &conf.ipam)?;
    let mut host = Handle::new().map_err(kernel)?;
    let mtu = match conf.mtu {
        Some(mtu) => mtu,
        None => uplink::mtu(&mut host)?,
    };
    let wanted = veth::Wanted {
        mtu,
        mac: None,
        master: None,
        up: false,
    };
    let pair = veth::create(
        &mut host,
        call,
        wanted,
        &netns,
        link::set_alias_by_name,
        undo,
    )?;
    let mut result = ipam.allocate(call, CONTAINER, undo)?;
    host::choose_gateways(&mut result)?;
    forwarding::enable(&addresses(&result))?;
    host::configure(&mut host, &pair.host_name, &result)?;

    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    let name = &call.attachment.ifname;
    let link = PodLink {
        netns: &netns,
        index: veth::index_of(&mut pod, name)?,
        name,
        duplicate_address_detection: false,
        by_gateway: true,
    };
    link.configure(&mut pod, &result)?;
    if conf.ip_masq {
        undo.push("the masquerade rules", || {
            masquerade::remove(&mut rules::open()?, call)
        });
        masquerade::add(call, &addresses(&result))?;
    }

    result.interfaces = vec![
        Interface {
            name: pair.host_name,
            mac: Some(pair.host_mac.to_string()),
            mtu: Some(mtu),
            ..Interface::default()
        },
        Interface {
            name: name.clone(),
            mac: Some(pair.mac.to_string()),
            mtu: Some(mtu),
            sandbox: Some(sandbox::required(call)?.display().to_string()),
            ..Interface::default()
        },
    ];
    if let Some(dns) = &conf.dns {
        result.dns = dns.clone();
    }
    Ok(result)
}

fn addresses(result: &AddResult) -> Vec<IpNetwork> {
    result.ips.iter().map(|ip| ip.address).collect()
}
