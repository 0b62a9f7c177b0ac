//! Services: what kube-proxy makes of an address that is no pod's, as far as its rules can be read.

mod ipvs;
mod nftables;
mod saved;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use ipnetwork::IpNetwork;
use netlink::nft::{self, Family, Table};
use serde::Serialize;

use super::hop::Problem;
use super::{Hop, Packet, Step, Tracer};

/// Services share a range with the first of them: of how many bits at the least, by family.
const RANGE_V4: u8 = 16;
const RANGE_V6: u8 = 112;
/// The chain, in iptables' tables, that all of kube-proxy's rules begin in.
const CHAIN: &str = "KUBE-SERVICES";

/// A Service, as kube-proxy has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Service {
    /// Its namespace, name and port's name, as far as the rules say it.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The form of kube-proxy's rules: `iptables`, `legacy iptables`, `nftables` or `IPVS`.
    pub form: &'static str,
    /// Where it leads.
    pub backends: Vec<Backend>,
}

/// One of the pods, or other servers, behind a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Backend {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether a packet gets there; none where that was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrives: Option<bool>,
}

/// One port of a Service, as a form of kube-proxy's rules has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    address: IpAddr,
    port: u16,
    protocol: String,
    backends: Vec<SocketAddr>,
}

/// Everything that was read of kube-proxy's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    form: &'static str,
    ports: Vec<Port>,
    /// Addresses that stand in rules although no port leads on from them.
    dangling: BTreeSet<IpAddr>,
    /// Whether packets of pods, and of the node itself, come to the rules at all.
    is_entered: [bool; 2],
    /// Whether every packet leaves with the node's address, so that answers come back the same way.
    masquerades_all: bool,
}

/// A Service, and whether answers come back by way of the node whoever sends them.
pub(super) struct Proxied {
    pub service: Service,
    pub masquerades_all: bool,
}

impl Tracer<'_> {
    /// The Service that an address is, if it is one; where kube-proxy leads it nowhere the packet ends here.
    pub(super) fn service(
        &mut self,
        dst: IpAddr,
        packet: Packet,
        is_from_pod: bool,
    ) -> Step<Option<Proxied>> {
        let is_known = self.is_of_the_cluster(dst) || self.own_range(dst);
        let rules = match is_known {
            true => None,
            false => match read(dst) {
                Ok(rules) => rules,
                Err(why) => {
                    self.pass(Hop::new("node", "kube-proxy", why))?;
                    None
                }
            },
        };
        let Some(rules) = rules else {
            return Step::Continue(None);
        };
        let object = format!("Service {dst}");
        let found = match rules.find(dst, packet, is_from_pod) {
            Found::Elsewhere => return Step::Continue(None),
            Found::Broken(problem) => {
                let hop = Hop::new("node", object, format!("kube-proxy by {}", rules.form));
                self.pass(hop.blocked(problem.reason, problem.remedy))?;
                return Step::Break(());
            }
            Found::Port(port) => port,
        };
        let count = match found.backends.len() {
            1 => "1 backend".to_owned(),
            count => format!("{count} backends"),
        };
        let what = format!("{}, {count} by {}", found.name, rules.form);
        let object = format!("{object}:{}/{}", found.port, found.protocol);
        self.pass(Hop::new("node", object, what))?;
        let backends = found.backends.iter().map(|address| Backend {
            address: *address,
            arrives: None,
        });
        Step::Continue(Some(Proxied {
            service: Service {
                name: found.name.clone(),
                address: dst,
                port: found.port,
                protocol: found.protocol.clone(),
                form: rules.form,
                backends: backends.collect(),
            },
            masquerades_all: rules.masquerades_all,
        }))
    }

    fn own_range(&self, dst: IpAddr) -> bool {
        let own = self.status.map(|status| &status.pod_cidrs[..]);
        own.unwrap_or_default()
            .iter()
            .any(|cidr| cidr.contains(dst))
    }
}

/// What kube-proxy's rules say of an address.
enum Found<'a> {
    /// Nothing: it is no Service.
    Elsewhere,
    /// One of its ports.
    Port(&'a Port),
    /// That it leads nowhere.
    Broken(Problem),
}

impl Rules {
    fn find(&self, dst: IpAddr, packet: Packet, is_from_pod: bool) -> Found<'_> {
        let broken = |reason: String, remedy: String| Found::Broken(Problem { reason, remedy });
        let log = "kubectl -n kube-system logs -l k8s-app=kube-proxy";
        let of_address: Vec<&Port> = self
            .ports
            .iter()
            .filter(|port| port.address == dst)
            .collect();
        let Some(first) = of_address.first() else {
            return match self.dangling.contains(&dst) || self.is_in_range(dst) {
                true => broken(
                    "kube-proxy's rule is missing: nothing leads from the Service's address on"
                        .into(),
                    format!("{log}; is there such a Service: kubectl get services -A"),
                ),
                false => Found::Elsewhere,
            };
        };
        let asked = |port: &&&Port| {
            packet.port.is_none_or(|asked| port.port == asked)
                && packet
                    .protocol
                    .is_none_or(|asked| port.protocol == asked.as_str())
        };
        let Some(port) = of_address.iter().find(asked) else {
            let ports = of_address.iter();
            let ports: Vec<String> = ports
                .map(|port| format!("{}/{}", port.port, port.protocol))
                .collect();
            return broken(
                format!(
                    "the Service {} has no such port, but {}",
                    first.name,
                    ports.join(", ")
                ),
                "name one of its ports".into(),
            );
        };
        if !self.is_entered[usize::from(!is_from_pod)] {
            return broken(
                "no packet comes to kube-proxy's rules: the jump to them is missing".into(),
                format!("restart kube-proxy, and end what removes its rules; {log}"),
            );
        }
        if port.backends.is_empty() {
            let namespace = port.name.split('/').next().unwrap_or_default();
            return broken(
                format!("the Service {} has no endpoints", port.name),
                format!(
                    "kubectl -n {namespace} get endpointslices; are its pods ready, does its selector fit?"
                ),
            );
        }
        Found::Port(port)
    }

    /// Whether other Services have addresses beside this one.
    fn is_in_range(&self, dst: IpAddr) -> bool {
        let bits = if dst.is_ipv4() { RANGE_V4 } else { RANGE_V6 };
        let range = IpNetwork::new(dst, bits);
        let mut services = self.ports.iter();
        range.is_ok_and(|range| {
            services.any(|port| {
                port.name.starts_with("default/kubernetes") && range.contains(port.address)
            })
        })
    }
}

/// kube-proxy's rules for a family, in whichever form it has made them; none where there are none.
fn read(dst: IpAddr) -> Result<Option<Rules>, String> {
    let (family, ip6) = match dst {
        IpAddr::V4(_) => (Family::Ipv4, ""),
        IpAddr::V6(_) => (Family::Ipv6, "6"),
    };
    let table = |name| Table { family, name };
    let mut nft = nft::Handle::new().map_err(|error| error.to_string())?;
    if nft.chain(table("nat"), CHAIN).ok().flatten().is_some() {
        let text = output(&[
            &format!("ip{ip6}tables-nft-save"),
            &format!("ip{ip6}tables-save"),
        ])?;
        return Ok(Some(saved::rules(&text, "iptables")));
    }
    if !nft
        .chains(table("kube-proxy"))
        .unwrap_or_default()
        .is_empty()
    {
        let text = output_of(&format!("nft -j list table ip{ip6} kube-proxy"))?;
        return Ok(Some(nftables::rules(&text)));
    }
    // To ask the legacy program where nothing is legacy would make its tables.
    let names = fs::read_to_string(format!("/proc/net/ip{ip6}_tables_names")).unwrap_or_default();
    if names.lines().any(|name| name == "nat") {
        let text = output(&[
            &format!("ip{ip6}tables-legacy-save"),
            &format!("ip{ip6}tables-save"),
        ])?;
        if text.contains(CHAIN) {
            return Ok(Some(saved::rules(&text, "legacy iptables")));
        }
    }
    match fs::read_to_string("/proc/net/ip_vs") {
        Ok(text) => Ok(ipvs::rules(&text)),
        Err(_) => Ok(None),
    }
}

/// Reads a text as each of the forms. For the tests and for `fuzz/`; not part of a build.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_as_all(text: &str) {
    let forms = [
        Some(saved::rules(text, "iptables")),
        Some(nftables::rules(text)),
        ipvs::rules(text),
    ];
    for rules in forms.into_iter().flatten() {
        // Nothing is made up: each port has come from a line, or from an element, of its own.
        assert!(rules.ports.len() + rules.dangling.len() <= text.len());
        for port in &rules.ports {
            let packet = Packet {
                port: Some(port.port),
                protocol: None,
            };
            let _ = rules.find(port.address, packet, true);
        }
    }
}

/// What the first of the programs that is there prints.
fn output(programs: &[&str]) -> Result<String, String> {
    let mut printed = programs.iter().map(|program| output_of(program));
    let first = printed.find(Result::is_ok);
    first.unwrap_or_else(|| {
        Err(format!(
            "its rules cannot be read: {} is not here",
            programs.join(" or ")
        ))
    })
}

#[allow(clippy::disallowed_methods, reason = "no pod waits for a trace")]
fn output_of(command: &str) -> Result<String, String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("its rules cannot be read: {program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "its rules cannot be read: {command}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
