//! Figures against the cluster's size: how long news takes to reach everybody, and what it costs when there is none.

use std::time::Duration;

use heddle::gossip::wire::Message;
use heddle::gossip::{Claim, Grant, Input, Liveness, Machine, Settings, Stored};

use crate::world::{Cluster, Instant, Network, SECOND, World, address};

const SETTLE: Instant = 4 * SECOND;
const STEADY: Instant = 5 * SECOND;

/// One row of the table; times in µs, bytes and datagrams per node and second.
pub struct Row {
    pub nodes: usize,
    /// All start at once with empty disks, until all know all and own a slot. Not for the largest cluster: there, all
    /// have just been told of each other.
    pub start: Option<Instant>,
    pub change: Instant,
    pub join: Instant,
    /// Until all others hold a node that was killed to be down.
    pub death: Instant,
    pub bytes: u64,
    pub most_bytes: u64,
    pub datagrams: u64,
}

pub fn measure(nodes: usize, cold: bool) -> Row {
    let cluster = Cluster {
        electors: 3,
        slots: 2048,
        quarantine: Settings::QUARANTINE,
    };
    let mut world = World::new(nodes as u64, nodes + 1, cluster);
    world.checked = false;
    // A datacentre with some distance in it, and a loss that would already be called bad.
    world.network = Network {
        loss: 0.01,
        repeat: 0.0,
        delay: 5_000,
    };
    let start = if cold {
        Some(cold_start(&mut world, nodes))
    } else {
        warm_start(&mut world, nodes)
    };
    world.run(world.now + SETTLE, |_| false);

    let before: Vec<_> = world
        .hosts
        .iter()
        .map(|host| (host.sent_bytes, host.sent_datagrams))
        .collect();
    world.run(world.now + STEADY, |_| false);
    let sent = world.hosts[..nodes].iter().zip(&before);
    let sent: Vec<_> = sent
        .map(|(host, then)| (host.sent_bytes - then.0, host.sent_datagrams - then.1))
        .collect();
    let per_second = |total: u64| total * SECOND / STEADY;
    let bytes = per_second(sent.iter().map(|one| one.0).sum::<u64>() / nodes as u64);
    let datagrams = per_second(sent.iter().map(|one| one.1).sum::<u64>() / nodes as u64);
    let most_bytes = per_second(sent.iter().map(|one| one.0).max().unwrap_or_default());

    let (last, new) = (nodes - 1, nodes);
    let cidrs = vec!["10.32.7.0/24".parse().unwrap_or_else(|_| unreachable!())];
    world.input(last, Input::SetPodCidrs(cidrs.clone()));
    let change = until(&mut world, |world| {
        let name = &world.hosts[last].name;
        running(world).all(|machine| {
            machine
                .nodes()
                .any(|member| member.node.name == *name && member.node.pod_cidrs == cidrs)
        })
    });

    world.start(new);
    let join = until(&mut world, |world| {
        world.hands_out(new).is_some() && running(world).all(|machine| alive(machine) == nodes + 1)
    });

    world.crash(new);
    let death = until(&mut world, |world| {
        running(world).all(|machine| alive(machine) == nodes)
    });
    Row {
        nodes,
        start,
        change,
        join,
        death,
        bytes,
        most_bytes,
        datagrams,
    }
}

fn running(world: &World) -> impl Iterator<Item = &Machine> {
    world.hosts.iter().filter_map(|host| host.machine.as_ref())
}

fn alive(machine: &Machine) -> usize {
    machine
        .nodes()
        .filter(|member| member.state != Liveness::Down)
        .count()
}

/// How long it takes until that is so, looked at every 50 ms.
fn until(world: &mut World, so: impl Fn(&World) -> bool) -> Instant {
    let begun = world.now;
    while !so(world) {
        assert!(
            world.now < begun + 120 * SECOND,
            "not even after two minutes"
        );
        world.run(world.now + SECOND / 20, |_| false);
    }
    world.now - begun
}

fn cold_start(world: &mut World, nodes: usize) -> Instant {
    (0..nodes).for_each(|host| world.start(host));
    until(world, |world| {
        (0..nodes).all(|host| world.hands_out(host).is_some())
            && running(world).all(|machine| alive(machine) == nodes)
    })
}

/// Everybody owns a slot already and hears of everybody else at once.
fn warm_start(world: &mut World, nodes: usize) -> Option<Instant> {
    // What they say to find company is lost: it is out of date before it arrives.
    let network = std::mem::replace(
        &mut world.network,
        Network {
            loss: 1.0,
            ..Network::GOOD
        },
    );
    let electors: Vec<_> = (0..3).map(address).collect();
    let wall = world.time(0).wall;
    let session = wall.as_micros() as u64;
    let grant = |host: usize| Grant {
        slot: host as u32,
        owner: world.hosts[host].name.clone(),
        instance: host as u64,
        session,
        attempt: 1,
    };
    let grants: Vec<Grant> = (0..nodes).map(grant).collect();
    for host in 0..nodes {
        world.hosts[host].disk = Some(Stored {
            instance: host as u64,
            session: 0,
            claim: Some(Claim {
                slot: host as u32,
                attempt: 1,
            }),
            last_attempt: 1,
            last_majority_wall: Some((wall - Duration::from_secs(1)).as_millis() as u64),
            electors: electors.clone(),
            grants: if host < 3 { grants.clone() } else { Vec::new() },
            known: Vec::new(),
        });
        world.start(host);
    }
    let records = running(world)
        .map(|machine| (machine.record().clone(), false))
        .collect();
    let all = Message::Records {
        records,
        wanted: 0,
        more: false,
    }
    .encode()
    .unwrap_or_default();
    (0..nodes).for_each(|host| world.inject(host, (host + 1) % nodes, &all));
    world.network = network;
    None
}
