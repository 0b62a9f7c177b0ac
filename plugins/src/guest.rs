//! A pod's link that has no other end on the host: made for it, or moved to it. Everything of it stands in the pod's
//! namespace and goes with that, so only the addresses outlive it.

use cni::{AddResult, Call, Code, Dns, Error, Interface, Result, identity};
use netlink::link::{self, NewLink};
use netlink::netns::Netns;
use netlink::{Handle, Request, sysctl};

use crate::error::{kernel, unless_missing};
use crate::ipam::Ipam;
use crate::pod::PodLink;
use crate::sandbox;
use crate::undo::Undo;

/// The pod that is to get the link.
pub struct Guest<'a> {
    /// The call that is about it.
    pub call: &'a Call,
    /// Its namespace.
    pub netns: Netns,
    /// A handle in there.
    pub pod: Handle,
    ipam: Option<Ipam>,
}

/// Where a link is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birthplace {
    /// By the host, on one of its links.
    Host,
    /// In the pod.
    Pod,
}

impl<'a> Guest<'a> {
    /// Opens the pod's namespace and looks for the IPAM plugin, if there is to be one.
    ///
    /// # Errors
    /// Code 8 for what is no namespace, code 4 when the interface's name is taken there, code 7 for an IPAM plugin that
    /// is nowhere.
    pub fn open(call: &'a Call, ipam: Option<&str>) -> Result<Self> {
        let netns = sandbox::open(call)?;
        let ipam = ipam.map(|plugin| Ipam::resolve(call, plugin)).transpose()?;
        let pod = Handle::in_netns(&netns).map_err(kernel)?;
        let mut guest = Self {
            call,
            netns,
            pod,
            ipam,
        };
        guest.require_free_name()?;
        Ok(guest)
    }

    /// Whether the pod has no interface of the name yet.
    ///
    /// # Errors
    /// Code 4 when it has.
    pub fn require_free_name(&mut self) -> Result<()> {
        let name = &self.call.attachment.ifname;
        match self.pod.link(name).map_err(kernel)? {
            Some(_) => Err(taken(self.call)),
            None => Ok(()),
        }
    }

    /// The pod's addresses, if it is to have any.
    ///
    /// # Errors
    /// As for [`Ipam::allocate`].
    pub fn allocate(&self, undo: &mut Undo<'a>) -> Result<AddResult> {
        match &self.ipam {
            Some(ipam) => ipam.allocate(self.call, 0, undo),
            None => Ok(AddResult::default()),
        }
    }

    /// Makes the link, which `request` makes a kind of, and gives it its name and the attachment's mark.
    ///
    /// # Errors
    /// Code 4 when the attachment is there already, or is being made; otherwise what the kernel said.
    pub fn make(
        &mut self,
        place: Birthplace,
        wanted: NewLink<'_>,
        kind: &'static str,
        request: impl FnOnce(NewLink<'_>) -> Request,
        undo: &mut Undo<'a>,
    ) -> Result<()> {
        let call = self.call;
        let name = &call.attachment.ifname;
        let mark = mark(call);
        let born = birth_name(call);
        let outcome = match place {
            Birthplace::Pod => {
                let new = NewLink { name, ..wanted };
                self.pod
                    .execute(vec![request(new), link::set_alias_by_name(name, &mark)])
            }
            // Under another name, because the host may have a link of that name itself.
            Birthplace::Host => {
                let new = NewLink {
                    name: &born,
                    netns: Some(&self.netns),
                    ..wanted
                };
                Handle::new().and_then(|mut host| host.execute(vec![request(new)]))
            }
        };
        match outcome {
            Err(error) if error.is_exists() => return Err(taken(call)),
            Err(error) if error.is_unknown_kind() => return Err(lacking(kind, Code::Internal)),
            Err(error) if error.errno().is_some() && error.is_busy() => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    format!(
                        "{error}: the link below belongs to a bridge, a bond or a link that does not share: name another"
                    ),
                ));
            }
            Err(error) => {
                undo.push("the pod's link", move || remove(call, kind));
                return Err(kernel(error));
            }
            Ok(()) => undo.push("the pod's link", move || remove(call, kind)),
        }
        if place == Birthplace::Host {
            let index = index_of(&mut self.pod, &born)?;
            let changes = vec![link::set_alias(index, &mark), link::rename(index, name)];
            self.pod.execute(changes).map_err(kernel)?;
        }
        Ok(())
    }

    /// Takes care of a link that was made in the pod by other means: it is marked, and removed should the call fail.
    /// Returns its index.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn adopt(&mut self, kind: &'static str, undo: &mut Undo<'a>) -> Result<u32> {
        let call = self.call;
        undo.push("the pod's link", move || remove(call, kind));
        let index = index_of(&mut self.pod, &call.attachment.ifname)?;
        let marked = vec![link::set_alias(index, &mark(call))];
        self.pod.execute(marked).map_err(kernel)?;
        Ok(index)
    }

    /// Gives the link what `result` says, brings it up and completes `result` with it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn configure(&mut self, mut result: AddResult, dns: Option<&Dns>) -> Result<AddResult> {
        let name = &self.call.attachment.ifname;
        let index = index_of(&mut self.pod, name)?;
        if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            // IPv6's gratuitous ARP (RFC 4861, section 7.2.6): the address may have been another pod's.
            let key = format!("net/ipv6/conf/{name}/ndisc_notify");
            let notify = self.netns.run(|| sysctl::ensure(&key, "1"));
            notify.map_err(kernel)?.map_err(kernel)?;
        }
        if result.ips.is_empty() {
            let up = vec![link::set_up(index)];
            self.pod.execute(up).map_err(kernel)?;
        } else {
            let link = PodLink {
                netns: &self.netns,
                index,
                name,
                duplicate_address_detection: false,
                by_gateway: false,
            };
            link.configure(&mut self.pod, &result)?;
        }
        let link = self.pod.link(name).map_err(kernel)?;
        let link = link.ok_or_else(|| vanished(name))?;
        result.interfaces = vec![Interface {
            name: name.clone(),
            mac: link.mac.map(|mac| mac.to_string()),
            mtu: Some(link.mtu),
            sandbox: Some(sandbox::required(self.call)?.display().to_string()),
            ..Interface::default()
        }];
        if let Some(dns) = dns {
            result.dns = dns.clone();
        }
        Ok(result)
    }
}

/// Removes the pod's link, if it is there and carries the attachment's mark, or no mark at all and is of this kind, as
/// the reference makes it.
///
/// # Errors
/// What the kernel said; never for a link or a namespace that is gone.
pub fn remove(call: &Call, kind: &str) -> Result<()> {
    let Some(netns) = sandbox::open_if_there(call)? else {
        return Ok(());
    };
    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    let mark = mark(call);
    for name in [&birth_name(call), &call.attachment.ifname] {
        let found = pod.link(name).map_err(kernel)?;
        let ours = found.filter(|link| match &link.alias {
            Some(alias) => *alias == mark,
            None => link.kind.as_deref() == Some(kind),
        });
        if let Some(link) = ours {
            unless_missing(pod.execute(vec![link::delete(link.index)]))?;
        }
    }
    Ok(())
}

/// Whether the kernel can make links of a kind.
///
/// # Errors
/// Code 50 when it cannot.
pub fn status(kind: &'static str) -> Result<()> {
    let known = Handle::new().and_then(|mut host| host.knows_link_kind(kind));
    match known.map_err(kernel)? {
        true => Ok(()),
        false => Err(lacking(kind, Code::NotAvailable)),
    }
}

/// Why the kernel cannot make links of a kind.
pub fn lacking(kind: &str, code: Code) -> Error {
    Error::new(
        code,
        format!(
            "this kernel has no {kind}: load its module with `modprobe {kind}`, or use a kernel that has it built in"
        ),
    )
}

/// What a link of the attachment is marked with.
fn mark(call: &Call) -> String {
    identity::mark(&call.conf.name, &call.attachment, identity::ALIAS_MAX)
}

/// What the link is called until it has its name.
fn birth_name(call: &Call) -> String {
    identity::host_link_name(&call.attachment).replacen("veth", "born", 1)
}

fn index_of(pod: &mut Handle, name: &str) -> Result<u32> {
    let link = pod.link(name).map_err(kernel)?;
    link.map(|link| link.index).ok_or_else(|| vanished(name))
}

fn vanished(name: &str) -> Error {
    let why = format!("{name} vanished from the pod while it was being attached");
    Error::new(Code::Internal, why)
}

/// Why a link cannot be made.
pub fn taken(call: &Call) -> Error {
    Error::new(
        Code::InvalidEnvironment,
        format!(
            "CNI_IFNAME {}: container {} already has an interface of that name: run DEL first",
            call.attachment.ifname, call.attachment.container_id
        ),
    )
}
