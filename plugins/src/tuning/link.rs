//! Settings of the pod's link: remembered, changed, put back. An MTU is one of both ends, or packets would be
//! lost on the way to the smaller one.

use cni::{Code, Error, Result};
use netlink::netns::Netns;
use netlink::{Handle, Link, LinkSettings, link};

use super::backup::{Backup, HostEnd};
use super::conf::Wanted;
use super::pod;
use crate::error::kernel;

/// Writes down what the settings to be changed are now, unless an earlier ADD has, and says what the host's end
/// is called if it is to be changed.
///
/// # Errors
/// Code 7 when the pod has no such link.
pub fn remember(
    netns: &Netns,
    ifname: &str,
    wanted: &Wanted,
    backup: &mut Backup,
) -> Result<Option<String>> {
    if *wanted == Wanted::default() {
        return Ok(None);
    }
    let mut pod = pod(netns)?;
    let now = find(&mut pod, ifname)?;
    if wanted.mac.is_some() && wanted.mac != now.mac {
        backup.mac = backup.mac.take().or(now.mac.map(|mac| mac.to_string()));
    }
    if wanted.promisc && !now.promiscuous {
        backup.promisc = backup.promisc.or(Some(false));
    }
    if wanted
        .all_multicast
        .is_some_and(|on| on != now.all_multicast)
    {
        backup.allmulti = backup.allmulti.or(Some(now.all_multicast));
    }
    if wanted
        .tx_queue_length
        .is_some_and(|length| length != now.tx_queue_length)
    {
        backup.tx_q_len = backup.tx_q_len.or(Some(now.tx_queue_length));
    }
    let Some(mtu) = wanted.mtu else {
        return Ok(None);
    };
    if mtu != now.mtu {
        backup.mtu = backup.mtu.or(Some(now.mtu));
    }
    let host_end = host_end(&mut pod, ifname)?;
    if let Some((_, host_end)) = &host_end
        && host_end.mtu != mtu
    {
        let before = HostEnd {
            name: host_end.name.clone(),
            index: host_end.index,
            mtu: host_end.mtu,
        };
        backup.host_end = backup.host_end.take().or(Some(before));
    }
    Ok(host_end.map(|(_, link)| link.name))
}

/// Changes the settings.
///
/// # Errors
/// What the kernel refused.
pub fn apply(netns: &Netns, ifname: &str, wanted: &Wanted) -> Result<()> {
    if *wanted == Wanted::default() {
        return Ok(());
    }
    let mut pod = pod(netns)?;
    let index = find(&mut pod, ifname)?.index;
    if let Some(mtu) = wanted.mtu
        && let Some((mut host, link)) = host_end(&mut pod, ifname)?
    {
        set_host_mtu(&mut host, &link, mtu)?;
    }
    let mut requests = Vec::new();
    requests.extend(wanted.mtu.map(|mtu| link::set_mtu(index, mtu)));
    requests.extend(wanted.mac.map(|mac| link::set_mac(index, mac)));
    requests.extend(wanted.promisc.then(|| link::set_promisc(index, true)));
    requests.extend(
        wanted
            .all_multicast
            .map(|on| link::set_all_multicast(index, on)),
    );
    requests.extend(
        wanted
            .tx_queue_length
            .map(|length| link::set_tx_queue_length(index, length)),
    );
    pod.execute(requests).map_err(kernel)
}

/// Puts back what was written down; a link that is gone needs none.
///
/// # Errors
/// What the kernel refused.
pub fn restore(netns: &Netns, ifname: &str, before: &Backup) -> Result<()> {
    let mut pod = pod(netns)?;
    let Some(settings) = pod.link_settings(ifname).map_err(kernel)? else {
        return Ok(());
    };
    let index = settings.index;
    let mut requests = Vec::new();
    if let Some(text) = &before.mac {
        let mac = text.parse().map_err(|_| {
            Error::new(
                Code::Internal,
                format!("{text:?} was kept as the MAC of {ifname}, and is none"),
            )
        })?;
        requests.push(link::set_mac(index, mac));
    }
    requests.extend(before.mtu.map(|mtu| link::set_mtu(index, mtu)));
    requests.extend(before.promisc.map(|on| link::set_promisc(index, on)));
    requests.extend(before.allmulti.map(|on| link::set_all_multicast(index, on)));
    requests.extend(
        before
            .tx_q_len
            .map(|length| link::set_tx_queue_length(index, length)),
    );
    pod.execute(requests).map_err(kernel)
}

/// Puts back the MTU of the host's end, which is there without the pod's namespace too.
///
/// # Errors
/// What the kernel refused.
pub fn restore_host_end(before: &Backup) -> Result<()> {
    let Some(end) = &before.host_end else {
        return Ok(());
    };
    let mut host = Handle::new().map_err(kernel)?;
    match host.link(&end.name).map_err(kernel)? {
        Some(link) if link.index == end.index => set_host_mtu(&mut host, &link, end.mtu),
        _ => Ok(()),
    }
}

/// Whether the settings are as they are wanted.
///
/// # Errors
/// Code 999 for one that is not.
pub fn check(netns: &Netns, ifname: &str, wanted: &Wanted) -> Result<()> {
    if *wanted == Wanted::default() {
        return Ok(());
    }
    let mut pod = pod(netns)?;
    let now = find(&mut pod, ifname)?;
    let differs = |what: &str, found: String, expected: String| {
        Err(Error::new(
            Code::Internal,
            format!("the {what} of the pod's {ifname} is {found} and not {expected}"),
        ))
    };
    if let Some(mac) = wanted.mac.filter(|mac| now.mac != Some(*mac)) {
        let found = now
            .mac
            .map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        return differs("MAC", found, mac.to_string());
    }
    if wanted.promisc && !now.promiscuous {
        return differs("promiscuous mode", "off".to_owned(), "on".to_owned());
    }
    if let Some(on) = wanted.all_multicast.filter(|on| now.all_multicast != *on) {
        return differs("allmulticast mode", (!on).to_string(), on.to_string());
    }
    if let Some(length) = wanted
        .tx_queue_length
        .filter(|length| now.tx_queue_length != *length)
    {
        return differs(
            "queue length",
            now.tx_queue_length.to_string(),
            length.to_string(),
        );
    }
    let Some(mtu) = wanted.mtu else {
        return Ok(());
    };
    if now.mtu != mtu {
        return differs("MTU", now.mtu.to_string(), mtu.to_string());
    }
    match host_end(&mut pod, ifname)? {
        Some((_, link)) if link.mtu != mtu => Err(Error::new(
            Code::Internal,
            format!(
                "the MTU of {}, the host's end of the pod's {ifname}, is {} and not {mtu}",
                link.name, link.mtu
            ),
        )),
        _ => Ok(()),
    }
}

fn find(pod: &mut Handle, ifname: &str) -> Result<LinkSettings> {
    pod.link_settings(ifname).map_err(kernel)?.ok_or_else(|| {
        Error::new(
            Code::InvalidEnvironment,
            format!(
                "the pod has no interface {ifname}: put tuning behind the plugin that makes it"
            ),
        )
    })
}

/// A bridge follows the smallest of its ports until its own MTU is set: other pods' packets must not shrink with
/// this one's.
fn set_host_mtu(host: &mut Handle, link: &Link, mtu: u32) -> Result<()> {
    let bridge = |host: &mut Handle| match link.master {
        Some(index) => host.link_by_index(index).map_err(kernel),
        None => Ok(None),
    };
    let before = bridge(host)?;
    host.execute(vec![link::set_mtu(link.index, mtu)])
        .map_err(kernel)?;
    match (before, bridge(host)?) {
        (Some(before), Some(after)) if before.mtu != after.mtu => host
            .execute(vec![link::set_mtu(after.index, before.mtu)])
            .map_err(kernel),
        _ => Ok(()),
    }
}

/// The other end of the pod's veth, if it is in the host's namespace, and a handle there.
fn host_end(pod: &mut Handle, ifname: &str) -> Result<Option<(Handle, Link)>> {
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    let Some(inner) = pod.link(ifname).map_err(kernel)?.filter(is_veth) else {
        return Ok(None);
    };
    let (Some(index), Some(_)) = (inner.peer_index, inner.peer_netns_id) else {
        return Ok(None);
    };
    let mut host = Handle::new().map_err(kernel)?;
    let outer = host.link_by_index(index).map_err(kernel)?;
    let is_peer = |link: &Link| is_veth(link) && link.peer_index == Some(inner.index);
    Ok(outer.filter(is_peer).map(|link| (host, link)))
}
