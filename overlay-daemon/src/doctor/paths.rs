//! The ways to the peers as the daemon's probes find them; one that is silent is asked on the underlay, to tell why.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{Finding, Patient};
use crate::probe::{REQUEST, payload};
use crate::status::{Peer, Status};

const CHECK: &str = "paths";
/// A node that is there answers on the underlay within this time.
const PATIENCE: Duration = Duration::from_millis(400);
/// How many silent peers are asked.
const ASKED: usize = 3;
/// What the question has, in bytes.
const SMALL: u32 = 64;

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let Ok(status) = &patient.status else {
        return Vec::new();
    };
    // Each silent one takes a moment to ask: of many, the first few tell as much.
    let mut may_ask = ASKED;
    let mut findings = Vec::new();
    for (name, peer) in &status.peers {
        findings.extend(match &*peer.state {
            "established" => narrow(name, peer, status),
            "failed" => None, // Among the daemon's own problems.
            "unreachable" | "down" if may_ask > 0 => {
                may_ask -= 1;
                Some(silent(name, peer, patient.config.probe_port))
            }
            "unreachable" | "down" => Some(Finding::bad(
                CHECK,
                format!("{name} is {}", peer.state),
                "heddle peers shows why",
            )),
            state => Some(Finding::note(CHECK, format!("{name} is {state}"))),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!("every one of {} peers answers", status.peers.len()),
        ));
    }
    findings
}

/// A path that is narrower than the pods' interfaces: each new connection pays for it once.
fn narrow(name: &str, peer: &Peer, status: &Status) -> Option<Finding> {
    if let (Some(reason), Some(endpoint)) = (&peer.reason, peer.endpoint) {
        return Some(Finding::bad(
            CHECK,
            format!(
                "{name}: {reason}: the MTU of a link on the way is too small, and nobody says so"
            ),
            format!(
                "ip route add {endpoint} via GATEWAY mtu N, with the N of the narrowest link: pods then send less"
            ),
        ));
    }
    let (found, own) = (peer.mtu?, status.mtu?);
    (found < own).then(|| {
        Finding::note(
            CHECK,
            format!("{name}: packets of {found} bytes pass and larger ones do not, while pods send {own}"),
        )
        .with_remedy("set the MTU of the underlay's link to what the whole way takes: ip link set dev IFACE mtu N")
    })
}

/// Whether it is the way or the node: the daemon there answers on the underlay as well.
fn silent(name: &str, peer: &Peer, port: u16) -> Finding {
    let state = &peer.state;
    let reason = peer
        .reason
        .clone()
        .unwrap_or_else(|| "its daemon is not heard".to_owned());
    let Some(endpoint) = peer.endpoint else {
        return Finding::bad(
            CHECK,
            format!("{name} is {state}: {reason}"),
            format!("on {name}: heddle doctor"),
        );
    };
    match ask(endpoint, port) {
        Answer::Daemon => Finding::bad(
            CHECK,
            format!("{name} is {state}: {reason} (its daemon answers at {endpoint})"),
            format!(
                "heddle trace node {}; on {name}: heddle doctor; let the port through on the way",
                base(peer)
            ),
        ),
        Answer::Host => Finding::bad(
            CHECK,
            format!("{name} is {state}: the node answers at {endpoint}, but no daemon runs there"),
            format!("on {name}: systemctl start heddle; journalctl -u heddle says why it ended"),
        ),
        Answer::Nobody => Finding::bad(
            CHECK,
            format!(
                "{name} is {state}: nothing answers at {endpoint}: the node is off, cut off, or behind a filter"
            ),
            format!("ping {endpoint}; if {name} never comes back: heddle forget {name}"),
        ),
    }
}

fn base(peer: &Peer) -> String {
    peer.pod_cidrs
        .first()
        .map_or_else(|| "ADDRESS".to_owned(), |cidr| cidr.network().to_string())
}

/// Who answers at an address.
enum Answer {
    Daemon,
    /// It says that nobody has the port.
    Host,
    Nobody,
}

fn ask(endpoint: IpAddr, port: u16) -> Answer {
    let any: IpAddr = match endpoint {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let asked = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(SocketAddr::new(endpoint, port))?;
        socket.send(&payload(REQUEST, 0, endpoint, SMALL))?;
        socket.recv(&mut [0; 1_500])
    };
    match asked() {
        Ok(_) => Answer::Daemon,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Answer::Host,
        Err(_) => Answer::Nobody,
    }
}
