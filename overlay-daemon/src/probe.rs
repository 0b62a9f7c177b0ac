//! Tunnel health: a UDP echo between the nodes' own addresses on the overlay, by whatever way packets of pods would take,
//! as large as the path is meant to carry. A node sends a fixed number of probes a second, whatever the number of peers.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::reconciler::Report;

/// Between two probes of one peer, where there are few peers.
const EACH: Duration = Duration::from_secs(2);
/// Probes in a second, at most.
const BUDGET: u32 = 20;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of how many probes the loss is reckoned.
const REMEMBERED: usize = 10;
/// IP and UDP headers, in bytes.
const HEADERS_V4: u32 = 20 + 8;
const HEADERS_V6: u32 = 40 + 8;
/// What a probe begins with: a request or an answer, and a number.
const REQUEST: &[u8; 4] = b"hdl?";
const ANSWER: &[u8; 4] = b"hdl!";
const SMALLEST: usize = 12;

/// How the overlay carries packets to each peer, by name.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    peers: BTreeMap<String, Probe>,
    /// The port that has to be open, for messages.
    pub vxlan_port: u16,
}

/// How it carries them to one peer.
#[derive(Clone, Debug)]
pub struct Probe {
    address: IpAddr,
    /// Last round trip time.
    pub rtt: Option<Duration>,
    /// The largest packet that came back, in bytes.
    pub mtu: Option<u32>,
    /// Whether each of the last ones was answered, the newest last.
    answered: VecDeque<bool>,
    waiting: Option<(u64, Instant, u32)>,
    due: Instant,
}

impl Probes {
    /// One peer's.
    pub fn get(&self, name: &str) -> Option<&Probe> {
        self.peers.get(name)
    }
}

impl Probe {
    fn new(address: IpAddr) -> Self {
        Self {
            address,
            rtt: None,
            mtu: None,
            answered: VecDeque::new(),
            waiting: None,
            due: Instant::now(),
        }
    }

    /// Whether one of the last two was answered.
    pub fn is_answered(&self) -> bool {
        self.answered.iter().rev().take(2).any(|answered| *answered)
    }

    /// Whether too few have been sent to tell.
    pub fn is_new(&self) -> bool {
        self.answered.len() < 2
    }

    /// Unanswered ones of the last ten, in percent.
    pub fn loss_percent(&self) -> u8 {
        let lost = self.answered.iter().filter(|answered| !**answered).count();
        u8::try_from(lost * 100 / self.answered.len().max(1)).unwrap_or(100)
    }

    /// How long until the next one.
    pub fn due_in(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    fn remember(&mut self, answered: bool) {
        self.waiting = None;
        self.answered.push_back(answered);
        if self.answered.len() > REMEMBERED {
            self.answered.pop_front();
        }
    }
}

/// Answers the peers' probes, sends ours, and says what came of it.
///
/// # Errors
/// When the port cannot be had.
pub async fn run(
    port: u16,
    vxlan_port: u16,
    mut report: watch::Receiver<Report>,
    out: watch::Sender<Probes>,
) -> Result<(), String> {
    let taken = |error: std::io::Error| {
        format!(
            "\"probe_port\": cannot take UDP port {port}: {error}: end what has it, or choose another on all nodes"
        )
    };
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .map_err(taken)?;
    let v6 = only_v6(port).await.ok();
    let mut prober = Prober {
        port,
        v4,
        v6,
        probes: Probes {
            peers: BTreeMap::new(),
            vxlan_port,
        },
        number: 0,
        out,
    };
    let mut beat = tokio::time::interval(Duration::from_secs(1) / BUDGET);
    let (mut from_v4, mut from_v6) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Ok((length, from)) = prober.v4.recv_from(&mut from_v4) => prober.receive(&from_v4[..length], from).await,
            Ok((length, from)) = receive(prober.v6.as_ref(), &mut from_v6) => prober.receive(&from_v6[..length], from).await,
            _ = beat.tick() => prober.beat(&report.borrow_and_update().clone()).await,
        }
    }
}

async fn only_v6(port: u16) -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet6,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC | nix::sys::socket::SockFlag::SOCK_NONBLOCK,
        None,
    )?);
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    let address = nix::sys::socket::SockaddrIn6::from(std::net::SocketAddrV6::new(
        Ipv6Addr::UNSPECIFIED,
        port,
        0,
        0,
    ));
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)?;
    UdpSocket::from_std(socket)
}

async fn receive(
    socket: Option<&UdpSocket>,
    buffer: &mut [u8],
) -> std::io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

struct Prober {
    port: u16,
    v4: UdpSocket,
    v6: Option<UdpSocket>,
    probes: Probes,
    number: u64,
    out: watch::Sender<Probes>,
}

impl Prober {
    async fn receive(&mut self, bytes: &[u8], from: SocketAddr) {
        if bytes.len() < SMALLEST {
            return;
        }
        if bytes.starts_with(REQUEST) {
            let answer = [ANSWER, &bytes[4..]].concat();
            self.send(from, &answer).await;
        } else if bytes.starts_with(ANSWER) {
            let number = bytes[4..SMALLEST]
                .try_into()
                .map(u64::from_be_bytes)
                .unwrap_or_default();
            // By its number, not by where it comes from: on a direct path a node answers from its underlay address.
            let waiting =
                |probe: &&mut Probe| probe.waiting.is_some_and(|(sent, ..)| sent == number);
            if let Some(probe) = self.probes.peers.values_mut().find(waiting)
                && let Some((_, when, size)) = probe.waiting
            {
                probe.rtt = Some(when.elapsed());
                probe.mtu = probe.mtu.max(Some(size));
                probe.remember(true);
                self.out.send_replace(self.probes.clone());
            }
        }
    }

    /// Sends the probe that is due longest, if one is.
    async fn beat(&mut self, report: &Report) {
        self.follow(report);
        let mtu = report
            .local
            .as_ref()
            .map(crate::local::Local::overlay_mtu)
            .unwrap_or_default();
        let now = Instant::now();
        let mut changed = false;
        for probe in self.probes.peers.values_mut() {
            if probe
                .waiting
                .is_some_and(|(_, when, _)| when.elapsed() > PATIENCE)
            {
                probe.remember(false);
                changed = true;
            }
        }
        let due = self
            .probes
            .peers
            .values_mut()
            .filter(|probe| probe.due <= now && probe.waiting.is_none());
        if let Some(probe) = due.min_by_key(|probe| probe.due) {
            self.number += 1;
            // A full-sized one, and after a lost one a small one: what is lost only when it is large is a matter of the MTU.
            let headers = if probe.address.is_ipv4() {
                HEADERS_V4
            } else {
                HEADERS_V6
            };
            let small = probe.answered.back() == Some(&false) && probe.answered.len() % 2 == 0;
            let size = if small {
                headers + 64
            } else {
                mtu.max(headers + 64)
            };
            let mut bytes = vec![0; (size - headers) as usize];
            bytes[..4].copy_from_slice(REQUEST);
            bytes[4..SMALLEST].copy_from_slice(&self.number.to_be_bytes());
            probe.waiting = Some((self.number, now, size));
            probe.due = now + EACH;
            let to = SocketAddr::new(probe.address, self.port);
            self.send(to, &bytes).await;
            changed = true;
        }
        if changed {
            self.out.send_replace(self.probes.clone());
        }
    }

    /// Probes go to the base address of each peer's first CIDR: its VTEP has it.
    fn follow(&mut self, report: &Report) {
        let addresses: BTreeMap<&String, IpAddr> = report
            .peers
            .iter()
            .filter_map(|(name, reach)| Some((name, reach.ways.keys().next()?.network())))
            .collect();
        self.probes
            .peers
            .retain(|name, probe| addresses.get(name) == Some(&probe.address));
        for (name, address) in addresses {
            if !self.probes.peers.contains_key(name) {
                self.probes.peers.insert(name.clone(), Probe::new(address));
            }
        }
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = if to.is_ipv4() {
            Some(&self.v4)
        } else {
            self.v6.as_ref()
        };
        if let Some(socket) = socket {
            // What cannot be sent is not answered either.
            let _ = socket.send_to(bytes, to).await;
        }
    }
}
