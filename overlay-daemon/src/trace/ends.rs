//! The ends of a packet's way: which pod is meant, and where it is.

use std::net::IpAddr;
use std::path::Path;

use cni::Attachment;
use cni::runtime::RuntimeConf;
use netlink::Handle;
use netlink::netns::Netns;

use crate::conflist::NETWORK;
use crate::{gc, pods, runtime};

/// One end of a packet's way.
#[derive(Debug)]
pub(super) struct Pod {
    /// What it was called.
    pub name: String,
    /// Its namespace, if it is a pod of this node.
    pub netns: Option<Netns>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Finds an end by its address, the path of its netns, its container id, or `namespace/pod`.
pub(super) fn find(text: &str) -> Result<Pod, String> {
    let name = text.to_owned();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Pod {
            netns: with_address(address),
            addresses: vec![address],
            name,
        });
    }
    if Path::new(text).exists() {
        let netns = Netns::open(Path::new(text)).map_err(|error| error.to_string())?;
        let addresses = addresses(&netns).map_err(|error| error.to_string())?;
        return Ok(Pod {
            netns: Some(netns),
            addresses,
            name,
        });
    }
    if let Some((namespace, pod)) = text.split_once('/')
        && !namespace.is_empty()
        && !pod.contains('/')
    {
        return by_kubernetes_name(namespace, pod);
    }
    let leases = gc::leases().unwrap_or_default();
    let addresses: Vec<IpAddr> = leases
        .iter()
        .filter(|lease| {
            let owner = lease.owner.as_ref();
            text.len() >= 6 && owner.is_some_and(|owner| owner.0.container_id.starts_with(text))
        })
        .map(|lease| lease.address)
        .collect();
    match addresses.first() {
        Some(first) => Ok(Pod {
            netns: with_address(*first),
            addresses,
            name,
        }),
        None => Err(format!(
            "{text:?} is no address, no netns, no container id and no namespace/pod of this node: name a pod by its address (`kubectl get pods -o wide`)"
        )),
    }
}

/// By what the runtime keeps of each ADD; a sandbox that has gone is passed over.
fn by_kubernetes_name(namespace: &str, pod: &str) -> Result<Pod, String> {
    let name = format!("{namespace}/{pod}");
    let is_pods = |attachment: &RuntimeConf| {
        let has = |key: &str, value: &str| {
            let mut args = attachment.args.iter();
            args.any(|(name, found)| name == key && found == value)
        };
        has("K8S_POD_NAMESPACE", namespace) && has("K8S_POD_NAME", pod)
    };
    let kept = runtime::local().attachments(NETWORK);
    for attachment in kept.iter().filter(|attachment| is_pods(attachment)) {
        let opened = match &attachment.netns {
            Some(path) => Netns::open(path).ok(),
            // Before 1.2 libcni, and so containerd 1.6 and 1.7, does not keep it.
            None => with_lease(&attachment.attachment),
        };
        if let Some(netns) = opened
            && let Ok(addresses) = addresses(&netns)
            && !addresses.is_empty()
        {
            return Ok(Pod {
                name,
                netns: Some(netns),
                addresses,
            });
        }
    }
    Err(format!(
        "{name} is no pod of this node: name one of another node by its address, `kubectl -n {namespace} get pod {pod} -o wide`"
    ))
}

/// The namespace that has the address which is leased to an attachment.
fn with_lease(attachment: &Attachment) -> Option<Netns> {
    let leases = gc::leases().unwrap_or_default();
    let mut own = leases.iter().filter(|lease| {
        let owner = lease.owner.as_ref();
        owner.is_some_and(|owner| owner.0 == *attachment)
    });
    with_address(own.next()?.address)
}

/// The namespace that has an address.
fn with_address(address: IpAddr) -> Option<Netns> {
    let mut all = pods::namespaces().map(|(_, netns)| netns);
    all.find(|netns| addresses(netns).is_ok_and(|own| own.contains(&address)))
}

/// Those by which others know a pod, IPv4 first.
fn addresses(netns: &Netns) -> netlink::Result<Vec<IpAddr>> {
    let all = Handle::in_netns(netns)?.addresses(None)?;
    let mut usable: Vec<IpAddr> = all
        .into_iter()
        .map(|address| address.network.ip())
        .filter(|ip| match ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect();
    usable.sort();
    Ok(usable)
}
