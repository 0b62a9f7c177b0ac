//! Heavy faults, seed by seed: what may go wrong does, the invariants are asserted after every event, and once the
//! world is whole again every node must own a slot and know all others.

use std::time::Duration;

use heddle::gossip::{ClaimState, Input, Liveness};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::world::{Cluster, Instant, Network, SECOND, World};

const QUARANTINE: Instant = 6 * SECOND;

/// What is left to say about a run that went well.
#[derive(Default, Debug)]
pub struct Summary {
    pub events: u64,
    /// How long it took until all was well again.
    pub recovery: Instant,
    /// How often a node was seen fenced, exhausted, or without a slot while faults happened.
    pub fenced: u64,
    pub lost: u64,
}

/// One run.
pub fn run(seed: u64) -> Summary {
    let mut rng = SmallRng::seed_from_u64(seed);
    let hosts = rng.random_range(5..=8);
    let cluster = Cluster {
        electors: [1, 3, 3, 5][rng.random_range(0..4)],
        slots: rng.random_range(hosts as u32 / 2..=hosts as u32 + 1),
        quarantine: Duration::from_micros(QUARANTINE),
    };
    let mut world = World::new(rng.next_u64(), hosts, cluster);
    for host in 0..hosts {
        // The fastest clock is less than twice as fast as the slowest.
        world.hosts[host].rate = if world.rng.random_bool(0.5) {
            world.rng.random_range(0.7..1.4)
        } else {
            [0.7, 1.39][host % 2]
        };
        world.hosts[host].offset = world.rng.random_range(-1_000_000_000..1_000_000_000);
    }
    let mut chaos = Chaos {
        gone: vec![false; hosts],
        base: world.hosts.iter().map(|host| host.offset).collect(),
    };
    for host in 0..hosts {
        if world.rng.random_bool(0.8) {
            world.start(host);
        }
    }
    let end = world.rng.random_range(20..40) * SECOND;
    let mut summary = Summary::default();
    while world.now < end {
        let longest = [SECOND / 2, SECOND, 2 * QUARANTINE][world.rng.random_range(0..3)];
        let pause = world.rng.random_range(10_000..longest);
        world.run(world.now + pause, |_| false);
        chaos.happens(&mut world);
        for host in world.hosts.iter().filter_map(|host| host.machine.as_ref()) {
            match host.claim() {
                ClaimState::Fenced { .. } => summary.fenced += 1,
                ClaimState::Held { .. } => {}
                _ => summary.lost += 1,
            }
        }
    }
    chaos.ends(&mut world);
    let healed = world.now;
    while !whole(&world) {
        assert!(
            world.now < healed + 120 * SECOND,
            "not whole again: {}",
            describe(&world)
        );
        let deadline = world.now + SECOND / 2;
        world.run(deadline, |_| false);
    }
    Summary {
        events: world.events,
        recovery: world.now - healed,
        ..summary
    }
}

struct Chaos {
    /// Hosts that will never come back with their disk.
    gone: Vec<bool>,
    /// The least offset that each wall clock may be set to.
    base: Vec<i64>,
}

impl Chaos {
    fn happens(&mut self, world: &mut World) {
        let hosts = world.hosts.len();
        let victim = world.rng.random_range(0..hosts);
        match world.rng.random_range(0..24) {
            0..=2 => {
                let sides = world.rng.random_range(2..=3);
                for host in 0..hosts {
                    world.hosts[host].side = world.rng.random_range(0..sides);
                }
            }
            3 => world.hosts[victim].side = 99,
            4..=5 => world.hosts.iter_mut().for_each(|host| host.side = 0),
            6..=7 => world.hosts[victim].crash_soon = true,
            8..=12 => self.restart(world, victim),
            13 => {
                (0..hosts).for_each(|host| world.crash(host));
                for host in 0..hosts {
                    self.restart(world, host);
                }
            }
            14 => {
                world.crash(victim);
                self.restart(world, victim);
            }
            15..=16 => {
                let loss = [0.0, 0.05, 0.3, 0.6][world.rng.random_range(0..4)];
                let repeat = [0.0, 0.1, 0.4][world.rng.random_range(0..3)];
                let delay = [1_000, 50_000, 900_000][world.rng.random_range(0..3)];
                world.network = Network {
                    loss,
                    repeat,
                    delay,
                };
            }
            17 => {
                world.hosts[victim].stopped_until =
                    world.now + world.rng.random_range(0..QUARANTINE)
            }
            22..=23 => {
                let host = &mut world.hosts[victim];
                host.disk_full = !host.disk_full;
                host.write();
            }
            19..=20 => {
                // Away, and still cut off when it is back.
                world.crash(victim);
                world.hosts[victim].side = 50 + victim as u32;
            }
            18 => {
                world.input(victim, Input::Leave);
                world.crash(victim);
            }
            _ => self.destroy(world, victim),
        }
    }

    /// Starts a node that is down, perhaps with another wall clock.
    fn restart(&mut self, world: &mut World, host: usize) {
        if world.hosts[host].machine.is_some() || self.gone[host] {
            return;
        }
        if world.rng.random_bool(0.5) {
            if world.rng.random_bool(0.1) {
                self.base[host] += world.rng.random_range(0..100 * SECOND as i64);
                world.hosts[host].offset = world.hosts[host].offset.max(self.base[host]);
            }
            // Back by a quarter of the quarantine at most.
            let step = world.rng.random_range(0..QUARANTINE as i64 / 4);
            world.hosts[host].offset = self.base[host] + step;
        }
        world.start(host);
    }

    /// A node that is no elector burns down; perhaps someone says so, perhaps it is installed anew.
    fn destroy(&mut self, world: &mut World, host: usize) {
        if host < world.cluster.electors {
            return;
        }
        world.crash(host);
        world.hosts[host].disk = None;
        if world.rng.random_bool(0.5) {
            let name = world.hosts[host].name.clone();
            let teller = world.rng.random_range(0..world.hosts.len());
            world.input(teller, Input::Forget(name));
        }
        self.gone[host] = world.rng.random_bool(0.5);
        // A machine installed anew has a clock that is right, or it would not be listened to.
        world.hosts[host].offset = self.base[host] + QUARANTINE as i64 / 4;
        self.base[host] = world.hosts[host].offset;
    }

    fn ends(&mut self, world: &mut World) {
        world.network = Network::GOOD;
        for host in 0..world.hosts.len() {
            let there = &mut world.hosts[host];
            there.disk_full = false;
            there.write();
            (there.side, there.crash_soon, there.stopped_until) =
                (0, false, there.stopped_until.min(world.now));
            self.restart(world, host);
        }
    }
}

/// Every running node owns a slot, as long as there are enough, and all know the same of each other.
fn whole(world: &World) -> bool {
    let running: Vec<usize> = (0..world.hosts.len())
        .filter(|host| world.hosts[*host].machine.is_some())
        .collect();
    let owners = running
        .iter()
        .filter(|host| world.hands_out(**host).is_some())
        .count();
    let mut views = running
        .iter()
        .filter_map(|host| world.hosts[*host].machine.as_ref())
        .map(|machine| {
            let view = machine
                .nodes()
                .map(|member| (member.node.clone(), member.slot, member.state));
            view.collect::<Vec<_>>()
        });
    let first = views.next().unwrap_or_default();
    let alive = first
        .iter()
        .filter(|(.., state)| *state == Liveness::Alive)
        .count();
    owners == running.len().min(world.cluster.slots as usize)
        && alive == running.len()
        && views.all(|view| view == first)
}

fn describe(world: &World) -> String {
    let mut text = format!(
        "{} slots, {} electors\n",
        world.cluster.slots, world.cluster.electors
    );
    for host in &world.hosts {
        text += &format!("{}: ", host.name);
        match &host.machine {
            None => text += "down\n",
            Some(machine) => {
                text += &format!("{:?}", machine.claim());
                for member in machine.nodes() {
                    text += &format!(" {}={:?}/{:?}", member.node.name, member.state, member.slot);
                }
                text += "\n";
            }
        }
    }
    text
}
