//! Tunnel health: a UDP echo between the nodes' own addresses on the overlay, by whatever way packets of pods would take,
//! as large as the path is meant to carry. A node sends a fixed number of probes a second, whatever the number of peers.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use prometheus_client::metrics::histogram::Histogram;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::config::Config;
use crate::far::QUESTION;
use crate::far::tell::Teller;
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
/// What a request begins with; a number follows.
pub(crate) const REQUEST: &[u8; 4] = b"hdl?";
/// What an answer begins with.
pub(crate) const ANSWER: &[u8; 4] = b"hdl!";
const SMALLEST: usize = 12;
/// A peer that probes at all does it within this time, if there are few.
const HEARD: Duration = Duration::from_secs(5);
/// So many large packets are not lost by chance while small ones pass.
const NARROW: u32 = 3;
/// What a small probe carries, in bytes.
const SMALL: u32 = 64;
/// Between two tellings of what was found.
const TELL: Duration = Duration::from_millis(200);

/// How the overlay carries packets to each peer, by name.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    peers: BTreeMap<String, Probe>,
    /// Probes sent to all peers so far.
    pub sent: u64,
    /// Those of them that were not answered.
    pub lost: u64,
    /// Round trips, in seconds.
    pub round_trips: RoundTrips,
    /// The share of each ten probes of one peer that was lost.
    pub losses: Losses,
    /// The port that has to be open, for messages.
    pub vxlan_port: u16,
}

/// Upper bounds in seconds, from one host to around the world.
const BUCKETS: [f64; 10] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0,
];

/// A histogram of round trips.
#[derive(Clone, Debug)]
pub struct RoundTrips(pub Histogram);

impl Default for RoundTrips {
    fn default() -> Self {
        Self(Histogram::new(BUCKETS))
    }
}

/// A histogram of shares.
#[derive(Clone, Debug)]
pub struct Losses(pub Histogram);

impl Default for Losses {
    fn default() -> Self {
        Self(Histogram::new([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]))
    }
}

/// How it carries them to one peer.
#[derive(Clone, Debug)]
pub struct Probe {
    address: IpAddr,
    /// The largest packet that the path should carry, in bytes.
    pub limit: u32,
    /// Last round trip time.
    pub rtt: Option<Duration>,
    /// The largest packet that came back, in bytes; less when large ones are lost again.
    pub mtu: Option<u32>,
    /// Large packets that were lost since the last one that was not.
    lost: u32,
    /// Whether each of the last ones was answered, the newest last.
    answered: VecDeque<bool>,
    /// How many of them the histogram of losses does not have yet.
    uncounted: usize,
    waiting: Option<(u64, Instant, u32)>,
    due: Instant,
    /// When its own last probe came.
    heard: Option<Instant>,
}

impl Probes {
    /// One peer's.
    pub fn get(&self, name: &str) -> Option<&Probe> {
        self.peers.get(name)
    }

    /// Whether a peer's own probes arrive here. It probes as many peers as this node does.
    pub fn is_heard(&self, name: &str) -> bool {
        let peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let patience = HEARD.max(Duration::from_secs(1) / BUDGET * 2 * peers);
        let heard = self.peers.get(name).and_then(|probe| probe.heard);
        heard.is_some_and(|heard| heard.elapsed() < patience)
    }
}

impl Probe {
    fn new(address: IpAddr, limit: u32) -> Self {
        Self {
            address,
            limit,
            rtt: None,
            mtu: None,
            lost: 0,
            answered: VecDeque::new(),
            uncounted: 0,
            waiting: None,
            due: Instant::now(),
            heard: None,
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

    /// The next datagram: a full-sized one, and now and then after a lost one a small one, for what is lost only when it is
    /// large is a matter of the MTU.
    fn next(&mut self, number: u64, now: Instant) -> Vec<u8> {
        let small = self.answered.back() == Some(&false) && self.answered.len().is_multiple_of(2);
        let smallest = headers(self.address) + SMALL;
        let size = if small {
            smallest
        } else {
            self.limit.max(smallest)
        };
        let bytes = payload(REQUEST, number, self.address, size);
        self.waiting = Some((number, now, size));
        self.due = now + EACH;
        bytes
    }

    /// What a packet of `size` bytes that came back tells of the path.
    fn measure(&mut self, size: u32) {
        if size >= self.limit {
            self.lost = 0;
        }
        self.mtu = match self.is_narrow() {
            true => Some(size),
            false => self.mtu.max(Some(size)),
        };
    }

    /// Whether small packets pass and large ones do not.
    pub fn is_narrow(&self) -> bool {
        self.lost >= NARROW && self.is_answered()
    }

    fn remember(&mut self, answered: bool, losses: &Losses) {
        let large = self.waiting.is_some_and(|(.., size)| size >= self.limit);
        self.lost += u32::from(large && !answered);
        self.waiting = None;
        self.answered.push_back(answered);
        if self.answered.len() > REMEMBERED {
            self.answered.pop_front();
        }
        self.uncounted += 1;
        if self.uncounted == REMEMBERED {
            self.uncounted = 0;
            losses.0.observe(f64::from(self.loss_percent()) / 100.0);
        }
    }
}

/// What a packet of `size` bytes to `address` carries: a request or an answer, its number, and zeros.
pub(crate) fn payload(kind: &[u8; 4], number: u64, address: IpAddr, size: u32) -> Vec<u8> {
    let length = size.saturating_sub(headers(address)) as usize;
    let mut bytes = vec![0; length.max(SMALLEST)];
    bytes[..4].copy_from_slice(kind);
    bytes[4..SMALLEST].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn headers(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => HEADERS_V4,
        IpAddr::V6(_) => HEADERS_V6,
    }
}

/// Answers the peers' probes, sends ours, and says what came of it.
///
/// # Errors
/// When the port cannot be had.
pub async fn run(
    config: Config,
    mut report: watch::Receiver<Report>,
    out: watch::Sender<Probes>,
) -> Result<(), String> {
    let port = config.probe_port;
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
        v4: Arc::new(v4),
        v6: v6.map(Arc::new),
        probes: Probes {
            vxlan_port: config.vxlan_port,
            ..Probes::default()
        },
        port,
        teller: Teller::new(config, report.clone()),
        number: 0,
        told: Instant::now(),
        out,
    };
    let mut beat = tokio::time::interval(Duration::from_secs(1) / BUDGET);
    let (mut from_v4, mut from_v6) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Ok((length, from)) = prober.v4.recv_from(&mut from_v4) => prober.receive(&from_v4[..length], from).await,
            Ok((length, from)) = receive(prober.v6.as_deref(), &mut from_v6) => prober.receive(&from_v6[..length], from).await,
            Ok(()) = report.changed() => prober.follow(&report.borrow_and_update()),
            _ = beat.tick() => prober.beat().await,
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
    teller: Teller,
    v4: Arc<UdpSocket>,
    v6: Option<Arc<UdpSocket>>,
    probes: Probes,
    number: u64,
    told: Instant,
    out: watch::Sender<Probes>,
}

impl Prober {
    async fn receive(&mut self, bytes: &[u8], from: SocketAddr) {
        if bytes.len() < SMALLEST {
            return;
        }
        if bytes.starts_with(REQUEST) {
            let sender = |probe: &&mut Probe| probe.address == from.ip();
            if let Some(probe) = self.probes.peers.values_mut().find(sender) {
                probe.heard = Some(Instant::now());
            }
            let answer = [ANSWER, &bytes[4..]].concat();
            self.send(from, &answer).await;
        } else if bytes.starts_with(QUESTION) {
            if let Some(socket) = self.socket(from).cloned() {
                self.teller.tell(bytes, from, socket);
            }
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
                let rtt = when.elapsed();
                probe.rtt = Some(rtt);
                self.probes.round_trips.0.observe(rtt.as_secs_f64());
                probe.measure(size);
                probe.remember(true, &self.probes.losses);
            }
        }
    }

    /// Sends the probe that is due longest, if one is.
    async fn beat(&mut self) {
        let now = Instant::now();
        for probe in self.probes.peers.values_mut() {
            if probe
                .waiting
                .is_some_and(|(_, when, _)| now.duration_since(when) > PATIENCE)
            {
                probe.remember(false, &self.probes.losses);
                self.probes.lost += 1;
            }
        }
        let free = |probe: &&mut Probe| probe.due <= now && probe.waiting.is_none();
        let due = self.probes.peers.values_mut().filter(free);
        if let Some(probe) = due.min_by_key(|probe| probe.due) {
            self.number += 1;
            self.probes.sent += 1;
            let (to, bytes) = (
                SocketAddr::new(probe.address, self.port),
                probe.next(self.number, now),
            );
            self.send(to, &bytes).await;
        }
        if self.told.elapsed() > TELL {
            self.told = now;
            self.out.send_replace(self.probes.clone());
        }
    }

    /// Probes go to the base address of each peer's first CIDR: its VTEP has it.
    fn follow(&mut self, report: &Report) {
        let mut wanted = BTreeMap::new();
        for (name, reach) in &report.peers {
            if let Some((cidr, limit)) = reach.ways.keys().next().zip(reach.mtu) {
                wanted.insert(name, (cidr.network(), limit));
            }
        }
        let same = |probe: &Probe| (probe.address, probe.limit);
        self.probes
            .peers
            .retain(|name, probe| wanted.get(name) == Some(&same(probe)));
        for (name, (address, limit)) in wanted {
            if !self.probes.peers.contains_key(name) {
                self.probes
                    .peers
                    .insert(name.clone(), Probe::new(address, limit));
            }
        }
    }

    fn socket(&self, to: SocketAddr) -> Option<&Arc<UdpSocket>> {
        match to {
            SocketAddr::V4(_) => Some(&self.v4),
            SocketAddr::V6(_) => self.v6.as_ref(),
        }
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = self.socket(to);
        if let Some(socket) = socket {
            // What cannot be sent is not answered either.
            let _ = socket.send_to(bytes, to).await;
        }
    }
}
