//! Tests of the machine with its seal: three nodes that talk in memory, and what a stranger can do to them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hostile;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PORT: u16 = 6784;

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], PORT))
}

fn settings(node: u8, keys: &[&str]) -> Settings {
    Settings {
        name: format!("node-{node}"),
        listen_port: PORT,
        endpoints: vec![address(node).ip()],
        vtep_mac: [2, 0, 0, 0, 0, node],
        peers: vec![address(0), address(1), address(2)],
        keys: keys
            .iter()
            .map(|key| Key::from_secret(key.as_bytes()))
            .collect(),
        slots: 16,
        quarantine: Settings::QUARANTINE,
        seed: [node; 32],
    }
}

/// Nodes whose datagrams arrive at once.
struct Net {
    nodes: BTreeMap<u8, Gossip>,
    disks: BTreeMap<u8, Stored>,
    now: Duration,
    /// All that was sent.
    heard: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Net {
    fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            now: Duration::ZERO,
            heard: Vec::new(),
        }
    }

    fn time(&self) -> Time {
        Time {
            monotonic: self.now,
            wall: Duration::from_secs(1_790_000_000) + self.now,
        }
    }

    fn start(&mut self, node: u8, keys: &[&str]) {
        let (gossip, outputs) = Gossip::new(
            settings(node, keys),
            self.disks.get(&node).cloned(),
            self.time(),
        );
        self.nodes.insert(node, gossip);
        self.carry_out(node, outputs);
    }

    fn carry_out(&mut self, node: u8, outputs: Vec<Output>) {
        let mut sent = Vec::new();
        for output in outputs {
            match output {
                Output::Send { to, bytes, .. } => sent.push((address(node), to, bytes)),
                Output::Store(stored) => drop(self.disks.insert(node, *stored)),
                Output::Changed => {}
            }
        }
        for (from, to, bytes) in sent {
            self.heard.push((from, to, bytes.clone()));
            let now = self.time();
            let to = (0..=255).find(|node| address(*node) == to).unwrap();
            if let Some(gossip) = self.nodes.get_mut(&to) {
                let outputs = gossip.handle(Input::Datagram { from, bytes }, now);
                self.carry_out(to, outputs);
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some((node, at)) = self
            .nodes
            .iter()
            .map(|(node, gossip)| (*node, gossip.next_tick()))
            .min_by_key(|next| next.1)
            && at <= end
        {
            self.now = self.now.max(at);
            let now = self.time();
            let outputs = self.nodes.get_mut(&node).unwrap().handle(Input::Tick, now);
            self.carry_out(node, outputs);
        }
        self.now = end;
    }

    fn alive(&self, node: u8) -> usize {
        self.nodes[&node]
            .nodes()
            .filter(|member| member.state == Liveness::Alive)
            .count()
    }
}

#[test]
fn three_nodes_find_each_other_and_own_a_slot_each() {
    let mut net = Net::new();
    (0..3).for_each(|node| net.start(node, &["k"]));
    net.run(5);
    let mut slots = Vec::new();
    for node in 0..3 {
        assert_eq!(net.alive(node), 3);
        let ClaimState::Held { slot } = net.nodes[&node].claim() else {
            panic!()
        };
        assert!(net.nodes[&node].may_hand_out(net.time()));
        slots.push(slot);
    }
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 3);
    // Every datagram fits into the least MTU of IPv6, and none shows a name.
    for (.., bytes) in &net.heard {
        assert!(bytes.len() <= 1280 - 48);
        assert!(!bytes.windows(5).any(|part| part == b"node-"));
    }
}

#[test]
fn a_node_that_leaves_keeps_its_slot_and_is_seen_to_be_gone() {
    let mut net = Net::new();
    (0..3).for_each(|node| net.start(node, &["k"]));
    net.run(5);
    let claim = net.disks[&2].claim;
    assert!(claim.is_some());
    let now = net.time();
    let outputs = net.nodes.get_mut(&2).unwrap().handle(Input::Leave, now);
    net.carry_out(2, outputs);
    net.nodes.remove(&2);
    net.run(3);
    assert_eq!((net.alive(0), net.alive(1)), (2, 2));
    // It comes back with no elector in reach, and may hand out at once.
    (0..2).for_each(|node| drop(net.nodes.remove(&node)));
    net.start(2, &["k"]);
    assert_eq!(
        net.nodes[&2].claim(),
        ClaimState::Held {
            slot: claim.unwrap().slot
        }
    );
}

#[test]
fn another_key_is_another_world() {
    let mut net = Net::new();
    net.start(0, &["k"]);
    net.start(1, &["k", "new"]);
    net.start(2, &["other"]);
    net.run(5);
    assert_eq!((net.alive(0), net.alive(1), net.alive(2)), (2, 2, 1));
    assert!(net.nodes[&0].counters().wrong_key > 0);
    assert_eq!(
        net.nodes[&2].claim(),
        ClaimState::Searching {
            slot: Some(net.slot_asked(2)),
            tried: 0
        }
    );
}

impl Net {
    fn slot_asked(&self, node: u8) -> u32 {
        match self.nodes[&node].claim() {
            ClaimState::Searching {
                slot: Some(slot), ..
            } => slot,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn all_that_was_ever_said_said_again_changes_nothing() {
    let mut net = Net::new();
    (0..3).for_each(|node| net.start(node, &["k"]));
    net.run(5);
    let (heard, now) = (net.heard.clone(), net.time());
    for (from, _, bytes) in heard {
        for node in 0..3 {
            let gossip = net.nodes.get_mut(&node).unwrap();
            let before = gossip.counters();
            let to_others = from == address(node);
            let outputs = gossip.handle(
                Input::Datagram {
                    from,
                    bytes: bytes.clone(),
                },
                now,
            );
            // One that was meant for somebody else is new here, once.
            let after = gossip.counters();
            assert!(
                to_others
                    || after.replay > before.replay
                    || outputs
                        .iter()
                        .all(|output| !matches!(output, Output::Store(_)))
            );
        }
    }
    assert_eq!(net.alive(0), 3);
}

#[test]
fn two_nodes_of_one_name_are_noticed() {
    let mut net = Net::new();
    (0..5).for_each(|node| net.start(node, &["k"]));
    net.run(3);
    // Node 4 is no elector: the new one does not turn to it.
    let mut impostor = settings(9, &["k"]);
    impostor.name = "node-4".into();
    let (gossip, outputs) = Gossip::new(impostor, None, net.time());
    net.nodes.insert(9, gossip);
    net.carry_out(9, outputs);
    net.run(10);
    assert_eq!(net.nodes[&4].same_name(), Some(address(9)));
    assert_eq!(net.nodes[&0].same_name(), None);
}

#[test]
fn an_elector_writes_down_before_it_answers() {
    let mut net = Net::new();
    net.start(0, &["k"]);
    let (mut asker, outputs) = Machine::new(settings(1, &["k"]), None, net.time());
    drop(outputs);
    let (mut elector, _) = Machine::new(settings(0, &["k"]), None, net.time());
    let mut at = net.time();
    let mut grants = 0;
    for _ in 0..20 {
        at.monotonic = asker.next_tick();
        for output in asker.handle(Input::Tick, at) {
            let Output::Send { to, bytes, .. } = output else {
                continue;
            };
            if to != address(0) {
                continue;
            }
            let asked = matches!(wire::Message::decode(&bytes), Ok(wire::Message::Claim(_)));
            let outputs = elector.receive(address(1), "node-1", &bytes, at);
            let first = |is: fn(&Output) -> bool| outputs.iter().position(is);
            if asked && grants == 0 {
                let stored = first(
                    |output| matches!(output, Output::Store(stored) if stored.grants.len() == 1),
                );
                let answered = first(|output| {
                    matches!(output, Output::Send { bytes, .. }
                        if matches!(wire::Message::decode(bytes), Ok(wire::Message::Answer { granted: true, .. })))
                });
                assert!(stored.unwrap() < answered.unwrap());
                grants += 1;
            }
        }
    }
    assert_eq!(grants, 1);
}

proptest! {
    /// A member with a defect, or of a later version of the same protocol number: valid messages, odd contents.
    #[test]
    fn any_altered_message_is_taken_without_a_stumble(position in 0usize..400, value: u8) {
        let mut net = Net::new();
        (0..3).for_each(|node| net.start(node, &["k"]));
        let now = net.time();
        let (mut machine, _) = Machine::new(settings(0, &["k"]), None, now);
        let (mut other, outputs) = Machine::new(settings(1, &["k"]), None, now);
        let mut later = now;
        later.monotonic = Duration::from_secs(1);
        for output in outputs.into_iter().chain(other.handle(Input::Tick, later)) {
            if let Output::Send { mut bytes, .. } = output {
                let position = position % bytes.len();
                bytes[position] = value;
                machine.receive(address(1), "node-1", &bytes, now);
            }
        }
    }
}
