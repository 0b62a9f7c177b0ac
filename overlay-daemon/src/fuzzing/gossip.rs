//! Gossip: a datagram, sealed or as a member says it, and the state file.

use std::net::SocketAddr;
use std::time::Duration;

use super::rows;
use crate::gossip::{Gossip, Input, Key, Machine, Settings, Stored, Time};
use crate::names::vtep_mac;

fn address(node: u8) -> SocketAddr {
    ([192, 0, 2, node], 7946).into()
}

/// Those of the node `own`, which is an elector.
fn settings() -> Settings {
    Settings {
        name: "own".into(),
        listen_port: 7946,
        endpoints: vec![address(9).ip()],
        vtep_mac: vtep_mac("own"),
        peers: vec![address(9), address(1), address(2)],
        keys: vec![Key::from_secret(b"the lab's")],
        slots: 256,
        quarantine: Settings::QUARANTINE,
        seed: [9; 32],
    }
}

const NOW: Time = Time {
    monotonic: Duration::from_secs(100),
    wall: Duration::from_secs(1_790_000_000),
};

/// The bytes as they come from a host on the underlay, and as what a member has sealed. Nobody brings about more nodes than
/// the bytes have room for.
pub fn datagram(bytes: &[u8]) {
    let (mut gossip, _) = Gossip::new(settings(), None, NOW);
    let (from, bytes) = (address(1), bytes.to_vec());
    let unsealed = bytes.clone();
    gossip.handle(Input::Datagram { from, bytes }, NOW);
    assert_eq!(gossip.nodes().count(), 1, "a stranger is believed");
    assert!(gossip.strangers(NOW).count() <= 1);

    let (mut machine, _) = Machine::new(settings(), None, NOW);
    machine.receive(from, "node-1", &unsealed, NOW);
    tick(&mut machine);
    // A record has a name, an address, a MAC and six numbers.
    assert!(machine.nodes().count() <= 1 + unsealed.len() / 16);
    let nodes = machine.nodes().map(|member| member.node.clone());
    rows(nodes.collect());
}

/// The state file. What of it is believed is written again as it was.
pub fn state(bytes: &[u8]) {
    let Ok(stored) = serde_json::from_slice::<Stored>(bytes) else {
        return;
    };
    let again = serde_json::to_vec(&stored).unwrap_or_default();
    assert_eq!(
        serde_json::from_slice::<Stored>(&again).ok().as_ref(),
        Some(&stored)
    );
    let (mut machine, _) = Machine::new(settings(), Some(stored), NOW);
    tick(&mut machine);
    let nodes = machine.nodes().map(|member| member.node.clone());
    rows(nodes.collect());
}

/// A minute of it, or as much as twenty ticks are.
fn tick(machine: &mut Machine) {
    let mut now = NOW;
    for _ in 0..20 {
        let latest = now.monotonic + Duration::from_secs(3);
        now.monotonic = machine.next_tick().clamp(now.monotonic, latest);
        machine.handle(Input::Tick, now);
        assert!(machine.nodes().any(|member| member.node.name == "own"));
    }
}
