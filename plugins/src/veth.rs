//! veth pairs of `bridge` and `ptp`: the host's end carries the attachment's identity as its name and alias, so
//! that DEL and GC find it without any state.

use cni::{Attachment, Call, Code, Error, Result, identity};
use netlink::netns::Netns;
use netlink::{Handle, Link, Mac, Request, link};

use crate::error::{kernel, unless_missing};
use crate::links;
use crate::sandbox;
use crate::stale;
use crate::undo::Undo;

/// A pair that was made.
#[derive(Debug)]
pub struct VethPair {
    /// Name of the end on the host.
    pub host_name: String,
    /// MAC of the end on the host.
    pub host_mac: Mac,
    /// MAC of the container's end.
    pub mac: Mac,
}

/// The alias that marks the host's end as this attachment's.
pub fn alias(network: &str, attachment: &Attachment) -> String {
    identity::mark(network, attachment, identity::ALIAS_MAX)
}

/// What sets one pair apart from another.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// MAC of the container's end, where the configuration asks for one.
    pub mac: Option<Mac>,
    /// Index of the bridge that the host's end becomes a port of.
    pub master: Option<u32>,
    /// Whether the host's end is born up.
    pub up: bool,
}

/// Makes the pair, the container's end in `netns`; `settings` makes the request that gives the host's end, by its
/// name, its alias: the kernel passes that over in the message that makes a link.
///
/// # Errors
/// Code 4 when the attachment is already there; otherwise what the kernel said.
pub fn create<'a>(
    host: &mut Handle,
    call: &'a Call,
    wanted: Wanted,
    netns: &Netns,
    settings: impl FnOnce(&str, &str) -> Request,
    undo: &mut Undo<'a>,
) -> Result<VethPair> {
    let attachment = &call.attachment;
    let pair = VethPair {
        host_name: identity::host_link_name(attachment),
        host_mac: Mac::from(identity::mac(attachment, "host")),
        mac: wanted
            .mac
            .unwrap_or_else(|| Mac::from(identity::mac(attachment, "container"))),
    };
    let veth = link::Veth {
        name: &pair.host_name,
        peer_name: &attachment.ifname,
        peer_netns: netns,
        mtu: Some(wanted.mtu),
        mac: pair.host_mac,
        peer_mac: pair.mac,
        master: wanted.master,
        up: wanted.up,
    };
    let alias = alias(&call.conf.name, attachment);
    let batch = vec![veth.request(), settings(&pair.host_name, &alias)];
    match host.execute(batch) {
        Ok(()) => undo.push("the veth pair", || remove_host_end(call).map(drop)),
        // What stands in the way is an attachment, maybe a living one: hands off.
        Err(error) if error.is_exists() => return Err(already_attached(call, &pair.host_name)),
        Err(error) => {
            undo.push("the veth pair", || remove_host_end(call).map(drop));
            return Err(kernel(error));
        }
    }
    Ok(pair)
}

/// The host's end, if it carries this attachment's mark.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn host_end(host: &mut Handle, call: &Call) -> Result<Option<Link>> {
    let name = identity::host_link_name(&call.attachment);
    let alias = alias(&call.conf.name, &call.attachment);
    let link = host.link(&name).map_err(kernel)?;
    Ok(link.filter(|link| link.alias.as_ref() == Some(&alias)))
}

/// Removes the attachment's veth pair, whatever is left of it. Without a host end of ours the
/// container's interface is removed: a pair that the reference plugin made has a random name here.
///
/// # Errors
/// What the kernel said; never for a pair that is already gone.
pub fn remove(call: &Call) -> Result<()> {
    if remove_host_end(call)? {
        return Ok(());
    }
    let Some(netns) = sandbox::open_if_there(call)? else {
        return Ok(());
    };
    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    match pod.link(&call.attachment.ifname).map_err(kernel)? {
        Some(eth) => unless_missing(pod.execute(vec![link::delete(eth.index)])),
        None => Ok(()),
    }
}

/// Removes the veth pair by its host end; false when there is none that carries our mark.
fn remove_host_end(call: &Call) -> Result<bool> {
    let mut host = Handle::new().map_err(kernel)?;
    match host_end(&mut host, call)? {
        Some(link) => unless_missing(host.execute(vec![link::delete(link.index)])).map(|()| true),
        None => Ok(false),
    }
}

/// Removes the pairs of this network whose attachment is not among the valid ones.
///
/// # Errors
/// What the kernel said.
pub fn collect(call: &Call) -> Result<()> {
    let is_stale = stale::marks(call, identity::ALIAS_MAX);
    let all = Handle::new()
        .and_then(|mut host| host.links())
        .map_err(kernel)?;
    let is_stale = |link: &&Link| link.alias.as_deref().is_some_and(&is_stale);
    links::delete(all.iter().filter(is_stale))
}

/// The number of a link that must be there.
///
/// # Errors
/// When it is not, or the kernel cannot be asked.
pub fn index_of(host: &mut Handle, name: &str) -> Result<u32> {
    let link = host.link(name).map_err(kernel)?;
    link.map(|link| link.index).ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("{name} vanished while the pod was being attached"),
        )
    })
}

fn already_attached(call: &Call, host_name: &str) -> Error {
    let ifname = &call.attachment.ifname;
    Error::new(
        Code::InvalidEnvironment,
        format!(
            "CNI_IFNAME {ifname}: container {} already has an interface of that name, or its host end {host_name} is left over: run DEL first",
            call.attachment.container_id
        ),
    )
}
