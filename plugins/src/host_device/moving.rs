//! The way of a device into the pod and back.
//!
//! While it is away, its alias says what it is called at home, as the reference writes it, followed by the alias that
//! it had there, if any. An alternative name says whose it is. Both stay with the device, so that one whose pod has
//! died, and which the kernel has put back under whatever name was free, gets its own again.

use cni::{Attachment, Call, Code, Error, Result, identity};
use netlink::netns::Netns;
use netlink::{Handle, Link, link};

use super::conf::Which;
use crate::error::{Failures, kernel, unless_missing};
use crate::guest::Guest;
use crate::sandbox;
use crate::undo::Undo;

/// The device that is meant, on the host.
///
/// # Errors
/// Code 7 when it is not there.
pub fn find(host: &mut Handle, which: &Which) -> Result<Option<Link>> {
    let (found, said) = match which {
        Which::Userspace => return Ok(None),
        Which::Link(name) => (host.link(name).map_err(kernel)?, name.clone()),
        Which::Mac(mac) => {
            let links = host.links().map_err(kernel)?;
            let found = links.into_iter().find(|link| link.mac == Some(*mac));
            (found, mac.to_string())
        }
        Which::Device(device, said) => {
            let names = device.links().map_err(kernel)?;
            let mut found = None;
            for name in names {
                found = match found {
                    None => host.link(&name).map_err(kernel)?,
                    found => found,
                };
            }
            (found, said.clone())
        }
    };
    found.map(Some).ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            format!(
                "the host has no network device {said:?}: name another, or wait until the pod that has it is gone"
            ),
        )
    })
}

/// Moves the device into the pod, where it gets the interface's name.
///
/// # Errors
/// What the kernel said.
pub fn bring<'a>(guest: &mut Guest<'a>, device: Link, undo: &mut Undo<'a>) -> Result<()> {
    let call = guest.call;
    let name = &call.attachment.ifname;
    let alias = match &device.alias {
        Some(own) => format!("{} {own}", device.name),
        None => device.name.clone(),
    };
    if alias.len() > identity::ALIAS_MAX {
        return Err(Error::new(
            Code::InvalidConfig,
            format!(
                "the alias of {} leaves no room for its name: shorten it to {} bytes",
                device.name,
                identity::ALIAS_MAX - device.name.len() - 1
            ),
        ));
    }
    let mut host = Handle::new().map_err(kernel)?;
    let index = device.index;
    undo.push("the device's place", move || take_back(call, &device));
    let moved = link::move_to(index, &guest.netns, name, &alias);
    host.execute(vec![moved]).map_err(kernel)?;
    let eth = guest.pod.link(name).map_err(kernel)?.ok_or_else(|| {
        let why = format!("{name} vanished from the pod while it was being attached");
        Error::new(Code::Internal, why)
    })?;
    let marked = link::add_alternative_name(eth.index, &mark(&call.conf.name, &call.attachment));
    match guest.pod.execute(vec![marked]) {
        // Before 5.5 there are no such names; the device is then given back as long as its pod is there.
        Err(error) if error.is_unsupported() => Ok(()),
        outcome => outcome.map_err(kernel),
    }
}

/// Undoes [`bring`], as far as it came: the device is on the host as `before`.
fn take_back(call: &Call, before: &Link) -> Result<()> {
    let Some(netns) = sandbox::open_if_there(call)? else {
        return Ok(());
    };
    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    for name in [&call.attachment.ifname, &before.name] {
        let found = pod.link(name).map_err(kernel)?;
        if let Some(link) = found.filter(|link| link.mac == before.mac && link.kind == before.kind)
        {
            send_home(&mut pod, &link, &before.name, before.alias.as_deref())?;
        }
    }
    let mut host = Handle::new().map_err(kernel)?;
    match host.link(&before.name).map_err(kernel)? {
        Some(link) if before.up && !link.up => {
            host.execute(vec![link::set_up(link.index)]).map_err(kernel)
        }
        _ => Ok(()),
    }
}

/// Gives the attachment's device back, from the pod, or from under the name that the kernel found for it.
///
/// # Errors
/// What the kernel said; never for a device that is gone.
pub fn give_back(call: &Call) -> Result<()> {
    let own = mark(&call.conf.name, &call.attachment);
    if let Some(netns) = sandbox::open_if_there(call)? {
        let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
        let found = pod.link(&call.attachment.ifname).map_err(kernel)?;
        let ours = |link: &Link| {
            let marks = link.alternative_names.iter();
            let mut marks = marks.filter(|name| name.starts_with(MARK)).peekable();
            // The reference leaves no mark.
            marks.peek().is_none() || marks.any(|mark| *mark == own)
        };
        if let Some(link) = found.filter(ours)
            && let Some((name, alias)) = link.alias.as_deref().and_then(home)
        {
            return send_home(&mut pod, &link, name, alias);
        }
    }
    let mut host = Handle::new().map_err(kernel)?;
    match host.link_by_alternative_name(&own) {
        Ok(Some(link)) => rename_home(&mut host, &link),
        Ok(None) => Ok(()),
        Err(error) if error.errno().is_some() => Ok(()),
        Err(error) => Err(kernel(error)),
    }
}

/// Gives the devices of this network back that the kernel has put on the host, and whose attachment is not among the
/// valid ones.
///
/// # Errors
/// What the kernel said.
pub fn collect(call: &Call) -> Result<()> {
    let network = &call.conf.name;
    let valid = call.conf.valid_attachments.as_deref().unwrap_or_default();
    let keep: Vec<_> = valid
        .iter()
        .map(|attachment| mark(network, attachment))
        .collect();
    let mut host = Handle::new().map_err(kernel)?;
    let mut failures = Failures::default();
    for link in host.links().map_err(kernel)? {
        let of_network = |name: &&String| name.starts_with(&prefix(network));
        let mut marks = link.alternative_names.iter().filter(of_network);
        if marks.any(|mark| !keep.contains(mark)) {
            failures.note(rename_home(&mut host, &link));
        }
    }
    failures.into_result()
}

/// A device that is on the host again, under a name that is not its own.
fn rename_home(host: &mut Handle, link: &Link) -> Result<()> {
    if let Some((name, alias)) = link.alias.as_deref().and_then(home) {
        let mut changes = vec![link::set_down(link.index)];
        if link.name != name {
            changes.push(link::rename(link.index, name));
        }
        match host.execute(changes) {
            Err(error) if error.is_exists() => return Err(in_the_way(name)),
            outcome => unless_missing(outcome)?,
        }
        let own = link::set_alias(link.index, alias.unwrap_or_default());
        unless_missing(host.execute(vec![own]))?;
    }
    unmark(host, link)
}

/// Moves a device from the pod to the host, where it is called `name` again.
fn send_home(pod: &mut Handle, link: &Link, name: &str, alias: Option<&str>) -> Result<()> {
    // Otherwise the kernel would move it, and only then say that it cannot be called so.
    let mut host = Handle::new().map_err(kernel)?;
    if host.link(name).map_err(kernel)?.is_some() {
        return match pod.link_by_index(link.index).map_err(kernel)? {
            Some(still) if still.alias == link.alias => Err(in_the_way(name)),
            // Another DEL of the same attachment has been quicker.
            _ => Ok(()),
        };
    }
    unmark(pod, link)?;
    let home = Netns::current().map_err(kernel)?;
    let moved = link::move_to(link.index, &home, name, alias.unwrap_or_default());
    unless_missing(pod.execute(vec![moved]))
}

fn unmark(handle: &mut Handle, link: &Link) -> Result<()> {
    let marks = link.alternative_names.iter();
    let requests = marks
        .filter(|name| name.starts_with(MARK))
        .map(|name| link::delete_alternative_name(link.index, name));
    unless_missing(handle.execute(requests.collect()))
}

fn in_the_way(name: &str) -> Error {
    Error::new(
        Code::Internal,
        format!(
            "the device cannot be called {name} again, because the host has another of that name: rename that one with `ip link set {name} name OTHER`"
        ),
    )
}

/// Name and alias that a device had at home.
fn home(alias: &str) -> Option<(&str, Option<&str>)> {
    let (name, own) = match alias.split_once(' ') {
        Some((name, own)) => (name, Some(own)),
        None => (alias, None),
    };
    cni::check_interface_name(name).ok().map(|()| (name, own))
}

/// How the alternative name begins that says whose a device is.
const MARK: &str = "heddle-";

fn prefix(network: &str) -> String {
    format!("{MARK}{}-", identity::digest(network, 16))
}

fn mark(network: &str, attachment: &Attachment) -> String {
    let Attachment {
        container_id,
        ifname,
    } = attachment;
    let own = identity::digest(&format!("{container_id}\n{ifname}"), 16);
    format!("{}{own}", prefix(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_says_what_the_device_was_called_and_its_alias() {
        assert_eq!(home("ens5f0"), Some(("ens5f0", None)));
        assert_eq!(
            home("ens5f0 to the lab"),
            Some(("ens5f0", Some("to the lab")))
        );
        for foreign in ["", "heddle/lab/pod/eth0", "a name that is much too long"] {
            assert_eq!(
                home(foreign).filter(|(name, _)| *name != "a"),
                None,
                "{foreign}"
            );
        }
    }
}
