//! `gossip`: drives the [`crate::gossip`] machine with a UDP socket, the two clocks, and a file.

mod warnings;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ipnetwork::IpNetwork;
use nix::time::{ClockId, clock_gettime};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::{Command, Inputs, Membership, PeerState, write_durably};
use crate::config::Config;
use crate::gossip::{
    ClaimState, Gossip, Input, Key, Ledger, Liveness, Output, Settings, Stored, Time,
};
use crate::names::vtep_mac;

/// Larger than any datagram that comes.
const DATAGRAM: usize = 64 * 1024;
/// Datagrams that are handled before the disk is written and any is answered.
const TOGETHER: usize = 64;
/// By then a node has heard of every other one: 1,000 nodes that begin at once need half of it (docs/gossip.md).
const SETTLED: Duration = Duration::from_secs(10);
/// When a name of an elector that does not resolve is tried again.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);
/// When a disk that did not take or give the state is tried again.
const DISK_AGAIN: Duration = Duration::from_secs(1);
/// How often what was dropped is named in the log.
const DROPPED: Duration = Duration::from_secs(60);

pub(super) async fn run(inputs: Inputs) -> Result<(), String> {
    let Inputs {
        config,
        mut endpoints,
        mut commands,
        out,
        ..
    } = inputs;
    // Gossip speaks from the underlay's addresses: there is nothing to say before there is one.
    let own = wait_for_endpoint(&mut endpoints).await;
    let port = config.gossip_port;
    let socket = bind(port).await.map_err(|error| {
        format!("\"gossip_port\": cannot take UDP port {port}: {error}: end what has it, or choose another on all nodes")
    })?;
    let settings = loop {
        match settings(&config, own.clone()).await {
            Ok(settings) => break settings,
            // A name server that is away comes back; until then the data path stays as it is.
            Err(why) => {
                out.send_modify(|membership| membership.problems = vec![why]);
                tokio::time::sleep(RESOLVE_AGAIN).await;
            }
        }
    };
    let mut driver = Driver {
        file: config.state_dir.join("gossip.json"),
        ledger: Ledger::default(),
        tried: Instant::now(),
        trouble: None,
        socket,
        began: boot_time(),
        out,
        config,
    };
    let stored = driver.wait_for_state().await;
    driver.ledger = Ledger::new(stored.as_ref());
    let (mut gossip, outputs) = Gossip::new(settings, stored, driver.now());
    driver.carry_out(outputs).await;
    driver.tell(&gossip);
    driver
        .serve(&mut gossip, &mut endpoints, &mut commands)
        .await;
    Ok(())
}

/// A socket for both families, or for IPv4 on a host without IPv6.
async fn bind(port: u16) -> std::io::Result<UdpSocket> {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

async fn wait_for_endpoint(endpoints: &mut watch::Receiver<Vec<IpAddr>>) -> Vec<IpAddr> {
    match endpoints.wait_for(|endpoints| !endpoints.is_empty()).await {
        Ok(endpoints) => endpoints.clone(),
        // The reconciler is gone, and the process with it.
        Err(_) => std::future::pending().await,
    }
}

async fn settings(config: &Config, endpoints: Vec<IpAddr>) -> Result<Settings, String> {
    let mut peers = Vec::new();
    for peer in &config.peers {
        peers.push(resolve(peer, config.gossip_port).await?);
    }
    let mut seed = [0; 32];
    SysRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(Settings {
        name: config.node_name.clone(),
        listen_port: config.gossip_port,
        endpoints,
        vtep_mac: vtep_mac(&config.node_name),
        peers,
        keys: config
            .keys
            .iter()
            .map(|key| Key::from_secret(key.reveal().as_bytes()))
            .collect(),
        slots: config.slots(),
        quarantine: Duration::from_secs(config.quarantine_seconds),
        seed,
    })
}

/// `ADDRESS`, `ADDRESS:PORT`, `NAME` or `NAME:PORT`.
async fn resolve(peer: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = peer.parse::<IpAddr>() {
        return Ok((ip, port).into());
    }
    if let Ok(address) = peer.parse() {
        return Ok(address);
    }
    let with_port = if peer.contains(':') {
        peer.to_owned()
    } else {
        format!("{peer}:{port}")
    };
    let resolved = tokio::net::lookup_host(&with_port).await;
    let first = resolved.ok().and_then(|mut addresses| addresses.next());
    first.ok_or_else(|| format!("\"peers\": {peer:?} does not resolve to an address: write the address itself, or mend the name"))
}

struct Driver {
    config: Config,
    file: PathBuf,
    ledger: Ledger,
    /// When the disk was last tried.
    tried: Instant,
    /// Why it did not take the state.
    trouble: Option<String>,
    socket: UdpSocket,
    began: Duration,
    out: watch::Sender<Membership>,
}

impl Driver {
    async fn serve(
        &mut self,
        gossip: &mut Gossip,
        endpoints: &mut watch::Receiver<Vec<IpAddr>>,
        commands: &mut mpsc::Receiver<Command>,
    ) {
        let mut buffer = vec![0; DATAGRAM];
        let mut named = (Instant::now(), 0);
        let mut told = Vec::new();
        loop {
            let due = gossip.next_tick().saturating_sub(self.now().monotonic);
            let input = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => Input::Datagram { from: canonical(from), bytes: buffer[..length].to_vec() },
                    // An ICMP error of an earlier datagram: that peer is away, which gossip finds out by itself.
                    Err(_) => continue,
                },
                () = tokio::time::sleep(due) => Input::Tick,
                changed = endpoints.changed() => {
                    let now = endpoints.borrow_and_update().clone();
                    if changed.is_err() || now.is_empty() {
                        continue;
                    }
                    Input::SetEndpoints(now)
                }
                Some(Command::Forget(name)) = commands.recv() => Input::Forget(name),
            };
            let mut outputs = gossip.handle(input, self.now());
            // What has come in meanwhile goes along: one write to the disk serves all of it.
            for _ in 1..TOGETHER {
                let Ok((length, from)) = self.socket.try_recv_from(&mut buffer) else {
                    break;
                };
                let (from, bytes) = (canonical(from), buffer[..length].to_vec());
                outputs.extend(gossip.handle(Input::Datagram { from, bytes }, self.now()));
            }
            let cidrs = self.own_cidrs(gossip);
            if cidrs != told {
                told.clone_from(&cidrs);
                outputs.extend(gossip.handle(Input::SetPodCidrs(cidrs), self.now()));
            }
            self.carry_out(outputs).await;
            // Held, fenced or lost by nothing but the passing of time.
            self.tell(gossip);
            self.name_dropped(gossip, &mut named);
        }
    }

    /// Carries out what the machine asks for: the last state is on the disk before anything that follows from any of
    /// them is sent. What promises a state that the disk does not take is not sent.
    async fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut sends = Vec::new();
        for output in outputs {
            match output {
                Output::Store(stored) => self.ledger.note(stored),
                Output::Send {
                    to,
                    bytes,
                    is_promise,
                } => sends.push((to, bytes, is_promise)),
                Output::Changed => {}
            }
        }
        self.write();
        for (to, bytes, is_promise) in sends {
            if self.ledger.may_send(is_promise) {
                // What cannot be sent is what gets lost: gossip lives with that.
                let _ = self.socket.send_to(&bytes, self.mapped(to)).await;
            }
        }
    }

    /// What the last process left. A disk that does not give it, or gives nonsense, is waited for: without it this node
    /// does not know what it has promised.
    async fn wait_for_state(&mut self) -> Option<Stored> {
        loop {
            match load(&self.file) {
                Ok(stored) => return stored,
                Err(why) => {
                    self.complain(why.clone());
                    self.out.send_if_modified(|membership| {
                        let problems = vec![why];
                        std::mem::replace(&mut membership.problems, problems.clone()) != problems
                    });
                }
            }
            tokio::time::sleep(DISK_AGAIN).await;
        }
    }

    /// Writes down what is to be written, once a second while the disk does not take it.
    fn write(&mut self) {
        if self.ledger.is_written() || (self.trouble.is_some() && self.tried.elapsed() < DISK_AGAIN)
        {
            return;
        }
        self.tried = Instant::now();
        let file = &self.file;
        match self.ledger.write(|stored| store(file, stored)) {
            Ok(()) => self.trouble = None,
            Err(why) => self.complain(format!(
                "{why}: make room; until then this node is given no share and gives none"
            )),
        }
    }

    fn complain(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}");
            self.trouble = Some(why);
        }
    }

    fn now(&self) -> Time {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Time {
            monotonic: boot_time().saturating_sub(self.began),
            wall: wall.unwrap_or_default(),
        }
    }

    fn mapped(&self, address: SocketAddr) -> SocketAddr {
        let v6 = self.socket.local_addr().is_ok_and(|own| own.is_ipv6());
        match address.ip() {
            IpAddr::V4(v4) if v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
            _ => address,
        }
    }

    /// Says what the machine knows now, if it is something new.
    fn tell(&self, gossip: &Gossip) {
        let mut membership = Membership {
            is_known: true,
            is_settled: self.now().monotonic > SETTLED,
            may_hand_out: gossip.may_hand_out(self.now()) && self.ledger.has_claim(),
            warnings: warnings::warnings(gossip, self.now(), &self.config.node_name),
            ..Membership::default()
        };
        membership.own_cidrs = self.own_cidrs(gossip);
        membership.problems.extend(self.trouble.clone());
        match &gossip.claim() {
            ClaimState::Held { slot } => membership
                .notes
                .push(format!("slot {slot} of {} is held", self.config.slots())),
            other => membership.problems.push(self.explain(other)),
        }
        if let Some(address) = gossip.same_name() {
            membership.problems.push(format!(
                "another node calls itself {} as well, at {address}: give each node its own \"node_name\"",
                self.config.node_name
            ));
        }
        let now = self.now().monotonic;
        let grace = Duration::from_secs(self.config.grace_seconds);
        let others = gossip
            .nodes()
            .filter(|member| member.node.name != self.config.node_name);
        for member in others {
            let state = match member.state {
                Liveness::Alive => PeerState::Up,
                Liveness::Suspect => PeerState::Suspect,
                Liveness::Down => PeerState::Down,
            };
            if state == PeerState::Down && now.saturating_sub(member.since) > grace {
                continue;
            }
            membership.states.insert(member.node.name.clone(), state);
            membership.nodes.push(member.node.clone().into());
        }
        self.out.send_if_modified(|known| {
            let new = *known != membership;
            if new {
                *known = membership;
            }
            new
        });
    }

    fn own_cidrs(&self, gossip: &Gossip) -> Vec<IpNetwork> {
        match gossip.claim() {
            ClaimState::Held { slot } | ClaimState::Fenced { slot, .. } => {
                self.config.cidrs_of_slot(slot)
            }
            _ => Vec::new(),
        }
    }

    fn explain(&self, claim: &ClaimState) -> String {
        match claim {
            ClaimState::Held { .. } => String::new(),
            ClaimState::Searching { tried, .. } => format!(
                "this node has no pod CIDR yet: {tried} of {} shares of the cluster range were asked for; a majority of the electors has to answer: is UDP port {} open to them, and are \"keys\" theirs?",
                self.config.slots(),
                self.config.gossip_port
            ),
            ClaimState::Fenced { slot, why, .. } => {
                format!("this node gives no addresses of share {slot} away: {why}")
            }
            ClaimState::Exhausted => format!(
                "\"cluster_cidrs\": all {} shares are owned: widen the range, or `heddle forget` nodes that are gone for good",
                self.config.slots()
            ),
        }
    }

    /// Names what was dropped since it was last named, once a minute.
    fn name_dropped(&self, gossip: &Gossip, (when, before): &mut (Instant, u64)) {
        let counters = gossip.counters();
        let dropped = counters.wrong_key
            + counters.replay
            + counters.version
            + counters.garbage
            + counters.same_name;
        if dropped > *before && when.elapsed() > DROPPED {
            tracing::warn!(
                wrong_key = counters.wrong_key,
                replay = counters.replay,
                version = counters.version,
                garbage = counters.garbage,
                same_name = counters.same_name,
                "gossip datagrams were dropped"
            );
            (*when, *before) = (Instant::now(), dropped);
        }
    }
}

/// What is in the file; nothing where there is none.
fn load(file: &Path) -> Result<Option<Stored>, String> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            format!(
                "{} is damaged: {error}: restore it, or remove it if this node has no pods",
                file.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

fn store(file: &Path, stored: &Stored) -> Result<(), String> {
    let bytes = serde_json::to_vec(stored).map_err(|error| error.to_string())?;
    write_durably(file, &bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// Since the machine was booted, sleep included.
fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

/// The socket speaks IPv6 to both families; what it hears from IPv4 is turned back.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
