//! What `macvlan`, `ipvlan` and `vlan` have in common: a link in the pod that stands on one of the host's, or on
//! another of the pod's.

use cni::{AddResult, Call, Code, Dns, Error, Result};
use netlink::link::NewLink;
use netlink::{Handle, Link, Mac, Request};
use serde::Deserialize;

use crate::error::{Failures, kernel};
use crate::guest::{self, Birthplace, Guest};
use crate::ipam::Ipam;
use crate::keys::{self, RawDns, RawIpam, invalid};
use crate::pod::check::{Expected, broken, compare, previous};
use crate::undo::Undo;
use crate::uplink;

/// The keys that all of them have, checked.
#[derive(Debug)]
pub struct Stacked {
    /// Name of the link below; `None` asks for that of the default route.
    pub master: Option<String>,
    /// MTU in bytes; `None` asks for that of the link below.
    mtu: Option<u32>,
    /// Whether the link below is one of the pod's.
    in_pod: bool,
    /// The IPAM plugin's type; `None` for a link without addresses.
    pub ipam: Option<String>,
    /// The configuration's own DNS, which replaces IPAM's when any field is given.
    dns: Option<Dns>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    master: String,
    mtu: i64,
    link_in_container: bool,
    ipam: RawIpam,
    dns: Option<RawDns>,
}

/// A link that is to be made: what the plugins differ in.
pub struct Wanted<F> {
    /// Its kind.
    pub kind: &'static str,
    /// Its MAC; the kernel's choice where `None`.
    pub mac: Option<Mac>,
    /// Makes the request.
    pub request: F,
}

impl Stacked {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// Code 7 for a value that cannot be.
    pub fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        Ok(Self {
            master: Some(raw.master).filter(|name| !name.is_empty()),
            mtu: keys::mtu(raw.mtu, "that of the link below")?,
            in_pod: raw.link_in_container,
            ipam: raw.ipam.plugin(),
            dns: raw.dns.and_then(RawDns::replacement),
        })
    }

    /// Makes the link, and gives it the addresses that IPAM gives, or else those of `given`.
    ///
    /// # Errors
    /// Code 7 when the link below is not there or carries less than `mtu`; otherwise what [`Guest`] says.
    pub fn add<'a, F: FnOnce(NewLink<'_>) -> Request>(
        &self,
        call: &'a Call,
        given: Option<&AddResult>,
        wanted: Wanted<F>,
        undo: &mut Undo<'a>,
    ) -> Result<AddResult> {
        let mut guest = Guest::open(call, self.ipam.as_deref())?;
        let (place, below) = match self.in_pod {
            true => (Birthplace::Pod, self.below(&mut guest.pod)?),
            false => {
                let mut host = Handle::new().map_err(kernel)?;
                (Birthplace::Host, self.below(&mut host)?)
            }
        };
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu > below.mtu) {
            return Err(invalid(format!(
                "\"mtu\": {mtu} is more than {0} carries: write at most {1}, or 0 for {1}",
                below.name, below.mtu
            )));
        }
        let new = NewLink {
            below: Some(below.index),
            mtu: self.mtu,
            mac: wanted.mac,
            ..NewLink::default()
        };
        guest.make(place, new, wanted.kind, wanted.request, undo)?;
        let mut result = match given {
            Some(given) => given.clone(),
            None => guest.allocate(undo)?,
        };
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        guest.configure(result, self.dns.as_ref())
    }

    /// Compares what is there with `prevResult`; returns the pod's link for what is special about its kind.
    ///
    /// # Errors
    /// Code 999 for the first thing found missing or different.
    pub fn check(&self, call: &Call, kind: &str) -> Result<Link> {
        if let Some(plugin) = &self.ipam {
            Ipam::resolve(call, plugin)?.check(call)?;
        }
        let result = previous(call)?;
        let expected = Expected {
            kind: Some(kind),
            mtu: self.mtu,
            up: true,
        };
        let (mut pod, eth) = compare(call, result, expected)?;
        // One that was chosen by the default route may be another by now, and that is no fault.
        if self.master.is_some() {
            let below = match self.in_pod {
                true => self.below(&mut pod),
                false => self.below(&mut Handle::new().map_err(kernel)?),
            };
            let below = below.map_err(|error| broken(error.msg))?;
            if eth.peer_index != Some(below.index) {
                return Err(broken(format!(
                    "{} stands on another link than {} now: the pod must be made anew",
                    eth.name, below.name
                )));
            }
        }
        Ok(eth)
    }

    /// Whether an ADD would find its link below, and a kernel that knows the kind.
    ///
    /// # Errors
    /// Code 50 when it would not.
    pub fn status(&self, call: &Call, kind: &'static str) -> Result<()> {
        guest::status(kind)?;
        if !self.in_pod {
            self.below(&mut Handle::new().map_err(kernel)?)
                .map_err(|error| Error::new(Code::NotAvailable, error.msg))?;
        }
        self.ipam
            .as_deref()
            .map_or(Ok(()), |plugin| Ipam::resolve(call, plugin)?.status(call))
    }

    fn below(&self, handle: &mut Handle) -> Result<Link> {
        let whose = if self.in_pod { "pod" } else { "host" };
        match &self.master {
            Some(name) => handle.link(name).map_err(kernel)?.ok_or_else(|| {
                invalid(format!(
                    "\"master\": the {whose} has no link {name:?}: name one that `ip link` shows"
                ))
            }),
            None => uplink::device(handle)?.ok_or_else(|| {
                invalid(format!(
                    "\"master\" is missing, and the {whose} has no default route to say which link is meant: name it"
                ))
            }),
        }
    }
}

/// DEL, which needs neither the link below nor a configuration that is still good.
///
/// # Errors
/// What could not be removed; never what is gone.
pub fn del(call: &Call, kind: &str) -> Result<()> {
    let mut failures = Failures::default();
    failures.note(guest::remove(call, kind));
    failures.note(Ipam::release(call));
    failures.into_result()
}

/// That there is an IPAM plugin, where one is needed.
///
/// # Errors
/// Code 7 when it is missing.
pub fn require_ipam(ipam: Option<&str>, plugin: &str) -> Result<()> {
    match ipam {
        Some(_) => Ok(()),
        None => Err(invalid(format!(
            "\"ipam\" is missing: {plugin} gives the pod addresses, so name a plugin such as {{\"type\": \"host-local\", \"subnet\": \"10.1.2.0/24\"}}"
        ))),
    }
}
