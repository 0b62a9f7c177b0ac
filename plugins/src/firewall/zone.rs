//! firewalld's zones, over D-Bus: a pod's addresses become sources of a zone, so that what firewalld forwards for it is
//! what the zone lets through. A source knows no owner, so [`super::sources`] keeps whose it is.

use std::net::IpAddr;

use cni::{Call, Code, Error, Result, identity};

use netlink::nft::Handle;

use super::conf::{Backend, FirewallConf};
use super::sources;
use crate::dbus::{Answer, Bus, Method};
use crate::rules;

const NAME: &str = "org.fedoraproject.FirewallD1";

/// firewalld, where it runs.
struct Firewalld(Bus);

/// Makes the pod's addresses sources of the zone, if firewalld runs.
///
/// # Errors
/// Code 11 when it has to run and does not; code 7 when it has no such zone.
pub fn add(nft: &mut Handle, call: &Call, conf: &FirewallConf, addresses: &[IpAddr]) -> Result<()> {
    let Some(mut firewalld) = Firewalld::wanted(conf)? else {
        return Ok(());
    };
    sources::put(
        nft,
        &rules::owner(&call.conf.name, &call.attachment),
        addresses,
    )?;
    for address in addresses {
        match firewalld.call("addSource", &[&conf.zone, &source(*address)])? {
            // Left by a pod that had the address before.
            Answer::Error(_, message) if message.contains("ZONE_ALREADY_SET") => {}
            Answer::Error(_, message) if message.contains("INVALID_ZONE") => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    format!(
                        "firewalld has no zone {:?}: give another one as \"firewalldZone\", or make it",
                        conf.zone
                    ),
                ));
            }
            Answer::Error(_, message) => {
                return Err(Error::new(
                    Code::Internal,
                    format!(
                        "firewalld does not take {address} into the zone {:?}: {message}",
                        conf.zone
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the attachment's addresses out of their zone.
///
/// # Errors
/// When firewalld runs and does not answer.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let owner = rules::owner(&call.conf.name, &call.attachment);
    remove_owned(nft, |mark| mark == owner)
}

/// Takes the addresses of the network's attachments that are not valid out of their zone.
///
/// # Errors
/// When firewalld runs and does not answer.
pub fn collect(nft: &mut Handle, call: &Call) -> Result<()> {
    let network = &call.conf.name;
    let valid = call.conf.valid_attachments.as_deref().unwrap_or_default();
    let keep: Vec<_> = valid
        .iter()
        .map(|attachment| rules::owner(network, attachment))
        .collect();
    remove_owned(nft, |mark| {
        identity::belongs_to(mark, network) && !keep.iter().any(|valid| valid == mark)
    })
}

fn remove_owned(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    let addresses = sources::of(nft, &is_ours)?;
    if addresses.is_empty() {
        return Ok(());
    }
    // Where it does not run, there are no zones.
    if let Some(mut firewalld) = Firewalld::running()? {
        for address in addresses {
            let source = source(address);
            match firewalld.call("getZoneOfSource", &[&source])? {
                Answer::Text(zone) if !zone.is_empty() => {
                    // Somebody else may have been there first.
                    firewalld.call("removeSource", &[&zone, &source])?;
                }
                _ => {}
            }
        }
    }
    sources::forget(nft, is_ours)
}

/// Whether the pod's addresses are in the zone, if firewalld runs.
///
/// # Errors
/// Code 999 when one is not.
pub fn check(conf: &FirewallConf, addresses: &[IpAddr]) -> Result<()> {
    let Some(mut firewalld) = Firewalld::wanted(conf)? else {
        return Ok(());
    };
    for address in addresses {
        let answer = firewalld.call("querySource", &[&conf.zone, &source(*address)])?;
        if answer != Answer::Truth(true) {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "{address} is not in firewalld's zone {:?} any more: `firewall-cmd --reload` forgets the sources",
                    conf.zone
                ),
            ));
        }
    }
    Ok(())
}

/// Whether firewalld runs where the configuration wants it.
///
/// # Errors
/// Code 50 when it does not.
pub fn status(conf: &FirewallConf) -> Result<()> {
    let unavailable = |error: Error| Error::new(Code::NotAvailable, error.msg);
    Firewalld::wanted(conf).map(drop).map_err(unavailable)
}

impl Firewalld {
    /// As the configuration says: never, if it runs, or always.
    fn wanted(conf: &FirewallConf) -> Result<Option<Self>> {
        match conf.backend {
            Backend::Nftables => Ok(None),
            Backend::Any => Self::running(),
            Backend::Firewalld => match Self::running()? {
                Some(firewalld) => Ok(Some(firewalld)),
                None => Err(Error::new(
                    Code::TryAgainLater,
                    "firewalld does not run: start it, or leave \"backend\" out",
                )),
            },
        }
    }

    fn running() -> Result<Option<Self>> {
        let Some(mut bus) = Bus::connect().map_err(failed)? else {
            return Ok(None);
        };
        let runs = bus.has_owner(NAME).map_err(failed)?;
        Ok(runs.then_some(Self(bus)))
    }

    fn call(&mut self, member: &str, arguments: &[&str]) -> Result<Answer> {
        let method = Method {
            destination: NAME,
            path: "/org/fedoraproject/FirewallD1",
            interface: "org.fedoraproject.FirewallD1.zone",
            member,
        };
        self.0.call(method, arguments).map_err(failed)
    }
}

/// An address as firewalld writes a source.
fn source(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}

fn failed(error: std::io::Error) -> Error {
    Error::new(
        Code::TryAgainLater,
        format!("firewalld cannot be asked over D-Bus: {error}"),
    )
}
