//! A world in one process: nodes with disks and clocks of their own, a network that loses, delays, repeats and
//! divides, and one queue of events. The same seed gives the same run.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use heddle::gossip::seal::OVERHEAD;
use heddle::gossip::wire::Message;
use heddle::gossip::{ClaimState, Input, Ledger, Machine, Output, Settings, Stored, Time};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// Simulated time, in µs since the world began.
pub type Instant = u64;

/// A second.
pub const SECOND: Instant = 1_000_000;

/// The wall clocks' reading when the world begins.
const EPOCH: i64 = 1_790_000_000_000_000;
const PORT: u16 = 6784;

/// How the network behaves between nodes that it connects.
#[derive(Clone, Copy)]
pub struct Network {
    pub loss: f64,
    pub repeat: f64,
    /// The longest delay; each datagram has its own, so that they overtake each other.
    pub delay: Instant,
}

impl Network {
    /// A datacentre's.
    pub const GOOD: Self = Self {
        loss: 0.0,
        repeat: 0.0,
        delay: 1_000,
    };
}

/// A machine that runs a node, or does not.
pub struct Host {
    pub name: String,
    pub address: SocketAddr,
    pub machine: Option<Machine>,
    /// What was written down last.
    pub disk: Option<Stored>,
    /// Whether it takes nothing more.
    pub disk_full: bool,
    ledger: Ledger,
    /// How fast its clocks run.
    pub rate: f64,
    /// How far its wall clock is off, in µs.
    pub offset: i64,
    started: Instant,
    /// Nothing runs before this time: the process is stopped.
    pub stopped_until: Instant,
    /// Which side of a partition it is on.
    pub side: u32,
    /// Crash within the next outputs.
    pub crash_soon: bool,
    pub sent_bytes: u64,
    pub sent_datagrams: u64,
    tick_at: Instant,
}

enum Event {
    Deliver {
        to: usize,
        from: SocketAddr,
        sender: Rc<str>,
        bytes: Rc<[u8]>,
    },
    Tick {
        host: usize,
    },
}

struct Queued {
    at: Instant,
    number: u64,
    event: Event,
}

impl Host {
    /// Writes down what is to be, if the disk takes it.
    pub fn write(&mut self) {
        let (disk, full) = (&mut self.disk, self.disk_full);
        let written = self.ledger.write(|stored| {
            if full {
                return Err(());
            }
            *disk = Some(stored.clone());
            Ok(())
        });
        let _ = written;
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What all nodes' configurations say.
#[derive(Clone)]
pub struct Cluster {
    pub electors: usize,
    pub slots: u32,
    pub quarantine: Duration,
}

pub struct World {
    pub now: Instant,
    pub rng: SmallRng,
    pub hosts: Vec<Host>,
    pub network: Network,
    pub cluster: Cluster,
    queue: BinaryHeap<Reverse<Queued>>,
    numbered: u64,
    pub events: u64,
    /// Whether the claims are compared after every event.
    pub checked: bool,
}

pub fn address(host: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + host as u32)), PORT)
}

fn host_of(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    u32::from(ip)
        .checked_sub(0x0a00_0001)
        .map(|host| host as usize)
}

impl World {
    pub fn new(seed: u64, hosts: usize, cluster: Cluster) -> Self {
        let host = |n: usize| Host {
            name: format!("node-{n}"),
            address: address(n),
            machine: None,
            disk: None,
            disk_full: false,
            ledger: Ledger::default(),
            rate: 1.0,
            offset: 0,
            started: 0,
            stopped_until: 0,
            side: 0,
            crash_soon: false,
            sent_bytes: 0,
            sent_datagrams: 0,
            tick_at: Instant::MAX,
        };
        Self {
            now: 0,
            rng: SmallRng::seed_from_u64(seed),
            hosts: (0..hosts).map(host).collect(),
            network: Network::GOOD,
            cluster,
            queue: BinaryHeap::new(),
            numbered: 0,
            events: 0,
            checked: true,
        }
    }

    pub fn time(&self, host: usize) -> Time {
        let host = &self.hosts[host];
        let monotonic = ((self.now - host.started) as f64 * host.rate) as u64;
        let wall = EPOCH + (self.now as f64 * host.rate) as i64 + host.offset;
        Time {
            monotonic: Duration::from_micros(monotonic),
            wall: Duration::from_micros(wall as u64),
        }
    }

    /// Starts the node with what its disk holds.
    pub fn start(&mut self, number: usize) {
        let settings = Settings {
            name: self.hosts[number].name.clone(),
            listen_port: PORT,
            endpoints: vec![self.hosts[number].address.ip()],
            vtep_mac: [2, 0, 0, 0, (number >> 8) as u8, number as u8],
            peers: (0..self.cluster.electors).map(address).collect(),
            keys: Vec::new(),
            slots: self.cluster.slots,
            quarantine: self.cluster.quarantine,
            seed: std::array::from_fn(|_| self.rng.next_u32() as u8),
        };
        let host = &mut self.hosts[number];
        host.started = self.now;
        host.crash_soon = false;
        host.stopped_until = 0;
        host.ledger = Ledger::new(host.disk.as_ref());
        let (machine, outputs) = Machine::new(settings, host.disk.clone(), self.time(number));
        self.hosts[number].machine = Some(machine);
        // A node is not installed on a full disk.
        let host = &mut self.hosts[number];
        host.disk_full &= host.disk.is_some();
        self.carry_out(number, outputs);
    }

    /// The process ends here and now; the disk keeps what it has.
    pub fn crash(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.machine = None;
        host.tick_at = Instant::MAX;
    }

    pub fn input(&mut self, number: usize, input: Input) {
        let now = self.time(number);
        if let Some(machine) = &mut self.hosts[number].machine {
            let outputs = machine.handle(input, now);
            self.carry_out(number, outputs);
        }
    }

    /// Hands a payload to a node as if another one had sent it.
    pub fn inject(&mut self, number: usize, sender: usize, payload: &[u8]) {
        let now = self.time(number);
        let (from, name) = (self.hosts[sender].address, self.hosts[sender].name.clone());
        if let Some(machine) = &mut self.hosts[number].machine {
            let outputs = machine.receive(from, &name, payload, now);
            self.carry_out(number, outputs);
        }
    }

    /// Carries outputs out in order; a host that is about to crash does so in the middle of them.
    fn carry_out(&mut self, number: usize, outputs: Vec<Output>) {
        let crash = self.hosts[number]
            .crash_soon
            .then(|| self.rng.random_range(0..=outputs.len()));
        for (n, output) in outputs.into_iter().enumerate() {
            if crash == Some(n) {
                break;
            }
            let host = &mut self.hosts[number];
            match output {
                Output::Send {
                    to,
                    bytes,
                    is_promise,
                } => {
                    if host.ledger.may_send(is_promise) {
                        self.send(number, to, bytes);
                    }
                }
                Output::Store(stored) => {
                    check_grants(&stored);
                    host.ledger.note(stored);
                    host.write();
                }
                Output::Changed => {}
            }
        }
        if crash.is_some() {
            self.crash(number);
            return;
        }
        self.schedule(number);
        if self.checked {
            self.check(number);
        }
    }

    fn send(&mut self, number: usize, to: SocketAddr, bytes: Vec<u8>) {
        if self.checked {
            self.check_written(number, &bytes);
        }
        let host = &mut self.hosts[number];
        host.sent_bytes += (bytes.len() + OVERHEAD + host.name.len()) as u64;
        host.sent_datagrams += 1;
        let Some(to) = host_of(to).filter(|to| *to < self.hosts.len()) else {
            return;
        };
        let (from, sender): (_, Rc<str>) = (
            self.hosts[number].address,
            self.hosts[number].name.as_str().into(),
        );
        let bytes: Rc<[u8]> = bytes.into();
        let copies = if self.network.repeat > 0.0 && self.rng.random_bool(self.network.repeat) {
            3
        } else {
            1
        };
        for copy in 0..copies {
            if self.network.loss > 0.0 && self.rng.random_bool(self.network.loss) {
                continue;
            }
            // A repeated datagram may come much later.
            let longest = if copy > 0 {
                self.network.delay * 20
            } else {
                self.network.delay
            };
            let at = self.now + self.rng.random_range(100..=longest.max(100));
            let (sender, bytes) = (Rc::clone(&sender), Rc::clone(&bytes));
            self.queue(
                at,
                Event::Deliver {
                    to,
                    from,
                    sender,
                    bytes,
                },
            );
        }
    }

    fn queue(&mut self, at: Instant, event: Event) {
        self.numbered += 1;
        self.queue.push(Reverse(Queued {
            at,
            number: self.numbered,
            event,
        }));
    }

    fn schedule(&mut self, number: usize) {
        let host = &self.hosts[number];
        let Some(machine) = &host.machine else { return };
        let due = machine.next_tick().as_micros() as f64 / host.rate;
        let at = host
            .started
            .saturating_add(due.ceil() as u64)
            .max(self.now + 1);
        if at < host.tick_at {
            self.hosts[number].tick_at = at;
            self.queue(at, Event::Tick { host: number });
        }
    }

    /// Runs until that time, or until `until` says so; returns whether it did.
    pub fn run(&mut self, deadline: Instant, mut until: impl FnMut(&Self) -> bool) -> bool {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > deadline {
                break;
            }
            let Some(Reverse(queued)) = self.queue.pop() else {
                break;
            };
            self.now = queued.at;
            self.events += 1;
            self.happen(queued.event);
            if until(self) {
                return true;
            }
        }
        self.now = self.now.max(deadline);
        false
    }

    fn happen(&mut self, event: Event) {
        let number = match &event {
            Event::Deliver { to, .. } => *to,
            Event::Tick { host } => *host,
        };
        if self.hosts[number].machine.is_some() && self.hosts[number].stopped_until > self.now {
            let at = self.hosts[number].stopped_until;
            if matches!(event, Event::Tick { .. }) {
                self.hosts[number].tick_at = at;
            }
            self.queue(at, event);
            return;
        }
        match event {
            Event::Tick { host } => {
                // An earlier tick has been queued meanwhile, and this one with it.
                if self.hosts[host].tick_at <= self.now {
                    self.hosts[host].tick_at = Instant::MAX;
                    self.input(host, Input::Tick);
                }
            }
            Event::Deliver {
                to,
                from,
                sender,
                bytes,
            } => {
                let there = host_of(from).map(|from| self.hosts[from].side);
                if there == Some(self.hosts[to].side) {
                    let now = self.time(to);
                    if let Some(machine) = &mut self.hosts[to].machine {
                        let outputs = machine.receive(from, &sender, &bytes, now);
                        self.carry_out(to, outputs);
                    }
                }
            }
        }
    }

    /// The slot from which a node may hand out now.
    pub fn hands_out(&self, number: usize) -> Option<u32> {
        let machine = self.hosts[number].machine.as_ref()?;
        // Held as of its last event; the time decides whether it still may.
        let slot = match machine.claim() {
            ClaimState::Held { slot } | ClaimState::Fenced { slot, .. } => slot,
            _ => return None,
        };
        let may = machine.may_hand_out(self.time(number)) && self.hosts[number].ledger.has_claim();
        may.then_some(slot)
    }

    /// Never two nodes at once that may hand out from one slot. Only the node that has just done something can have
    /// begun to.
    fn check(&self, number: usize) {
        let Some(slot) = self.hands_out(number) else {
            return;
        };
        let written = self.hosts[number].disk.as_ref().and_then(|disk| disk.claim);
        assert_eq!(
            written.map(|claim| claim.slot),
            Some(slot),
            "not written down"
        );
        let other = (0..self.hosts.len())
            .find(|other| *other != number && self.hands_out(*other) == Some(slot));
        assert!(
            other.is_none(),
            "slot {slot}: both {number} and {other:?} may hand out, at {} µs",
            self.now
        );
    }
}

impl World {
    /// What a node says of grants and attempts is on its disk already.
    fn check_written(&self, number: usize, bytes: &[u8]) {
        let (Ok(message), Some(disk)) = (Message::decode(bytes), &self.hosts[number].disk) else {
            panic!("sent before anything was written, or not a message");
        };
        match message {
            Message::Answer { of, granted: true } => assert!(disk.grants.iter().any(|grant| {
                (grant.slot, &grant.owner, grant.instance) == (of.slot, &of.owner, of.instance)
                    && grant.attempt == of.attempt
            })),
            Message::Claim(claim) => assert!(disk.last_attempt >= claim.attempt),
            _ => {}
        }
    }
}

/// An elector has granted a slot to one owner, and to an owner one slot.
fn check_grants(stored: &Stored) {
    for (n, grant) in stored.grants.iter().enumerate() {
        for other in &stored.grants[n + 1..] {
            assert_ne!(grant.slot, other.slot);
            assert_ne!(
                (&grant.owner, grant.instance),
                (&other.owner, other.instance)
            );
        }
    }
}
