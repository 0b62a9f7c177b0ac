//! `heddle check`: two throw-away pods by the node's real conflist, and packets of full size between them, this node, the
//! peers and beyond.

mod dns;
mod echo;
mod pods;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::echo::Echo;
use self::pods::TestPod;
use crate::config::Config;
use crate::status::Status;
use crate::trace;

/// What runtimes copy into pods.
const RESOLVER: &str = "/etc/resolv.conf";
/// How long a connection out of the cluster may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// Who sent.
    pub from: &'static str,
    /// Who was to answer.
    pub to: String,
    /// Where.
    pub address: IpAddr,
    /// Round trip in microseconds; none if there was no answer.
    pub rtt_us: Option<u64>,
    /// Where the packet was lost, as far as `heddle trace` sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The round trip time, or why there was none.
type Answer = Result<Duration, String>;

/// Tries everything, and leaves nothing behind. `beyond` are addresses with a TCP port, out of the cluster, that pods have
/// to reach.
///
/// # Errors
/// When no pod can be made or removed: the plugin's own words.
pub fn check(config: &Config, status: &Status, beyond: &[SocketAddr]) -> Result<Vec<Row>, String> {
    let pods = pods::make(config)?;
    let tester = Tester { config, status };
    let rows = tester.all(pods.each(), beyond);
    pods.remove()?;
    rows
}

struct Tester<'a> {
    config: &'a Config,
    status: &'a Status,
}

impl Tester<'_> {
    fn all(&self, [one, other]: [&TestPod; 2], beyond: &[SocketAddr]) -> Result<Vec<Row>, String> {
        let mut rows = Vec::new();
        for address in &other.addresses {
            let echo = other.inside(|| Echo::start(*address))??;
            let answer = one.inside(|| echo::ask(echo.at, self.size()))?;
            rows.push(self.row("pod", "pod".into(), one.path(), *address, answer));
            let answer = echo::ask(echo.at, self.size());
            rows.push(self.row("node", "pod".into(), "node".into(), *address, answer));
        }
        for gateway in &one.gateways {
            let echo = Echo::start(*gateway)?;
            let answer = one.inside(|| echo::ask(echo.at, self.size()))?;
            rows.push(self.row("pod", "node".into(), one.path(), *gateway, answer));
        }
        for (name, peer) in &self.status.peers {
            for base in peer.pod_cidrs.iter().map(ipnetwork::IpNetwork::network) {
                if !one
                    .addresses
                    .iter()
                    .any(|own| own.is_ipv4() == base.is_ipv4())
                {
                    continue;
                }
                // The peer's daemon answers probes from all over the cluster.
                let at = SocketAddr::new(base, self.config.probe_port);
                let size = peer.mtu.unwrap_or(u32::MAX).min(self.size());
                let answer = one.inside(|| echo::ask(at, size))?;
                rows.push(self.row("pod", name.clone(), one.path(), base, answer));
            }
        }
        // Without a file no pod is given any.
        let resolver = std::fs::read_to_string(RESOLVER).unwrap_or_default();
        for server in dns::servers(&resolver) {
            let has = |own: &IpAddr| own.is_ipv4() == server.is_ipv4();
            if one.addresses.iter().any(has) {
                let answer = one.inside(|| dns::ask(server))?;
                rows.push(self.row("pod", "DNS".into(), one.path(), server, answer));
            }
        }
        for target in beyond {
            let began = Instant::now();
            let connected = one.inside(|| TcpStream::connect_timeout(target, PATIENCE))?;
            let answer = connected
                .map(|_| began.elapsed())
                .map_err(|error| format!("no TCP connection: {error}"));
            rows.push(self.row("pod", target.to_string(), one.path(), target.ip(), answer));
        }
        Ok(rows)
    }

    /// A packet that is lost is followed to where that happened.
    fn row(
        &self,
        from: &'static str,
        to: String,
        origin: String,
        address: IpAddr,
        answer: Answer,
    ) -> Row {
        let mut row = Row {
            from,
            to,
            address,
            rtt_us: None,
            reason: None,
            remedy: None,
        };
        match answer {
            Ok(rtt) => row.rtt_us = u64::try_from(rtt.as_micros()).ok(),
            Err(why) => {
                let traced = trace::trace(
                    self.config,
                    Some(self.status),
                    &origin,
                    &address.to_string(),
                );
                let hops = traced.map(|trace| trace.hops).unwrap_or_default();
                let problem = hops.into_iter().find_map(|hop| hop.problem);
                row.remedy = problem.as_ref().map(|problem| problem.remedy.clone());
                row.reason = Some(problem.map_or(why, |problem| problem.reason));
            }
        }
        row
    }

    /// The largest packet that pods send, in bytes.
    fn size(&self) -> u32 {
        self.status.mtu.unwrap_or(1280)
    }
}
