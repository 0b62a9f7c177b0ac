//! What a member with a defect, a stranger, a damaged disk or a later version may send: the machine takes all of it, and
//! goes on.

use super::wire::{ClaimRequest, Message};
use super::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        any::<u64>()
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["node-[0-3]", ".{0,20}", Just("x".repeat(300))]
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![(0..4_u8).prop_map(address), any::<SocketAddr>()]
}

fn record() -> impl Strategy<Value = Record> {
    let cidr = (any::<IpAddr>(), 0..=32_u8)
        .prop_map(|(ip, prefix)| IpNetwork::new(ip, prefix).expect("a prefix that fits"));
    let node = (
        name(),
        proptest::collection::vec(any::<IpAddr>(), 0..3),
        any::<[u8; 6]>(),
        proptest::collection::vec(cidr, 0..3),
    )
        .prop_map(|(name, endpoints, vtep_mac, pod_cidrs)| crate::Node {
            name,
            endpoints,
            vtep_mac,
            pod_cidrs,
        });
    let slot = proptest::option::of(prop_oneof![Just(u32::MAX), 0..20_u32]);
    let numbers = (number(), number(), any::<u32>(), number());
    (node, socket(), numbers, slot, any::<bool>()).prop_map(
        |(node, address, (instance, session, version, generation), slot, forgotten)| Record {
            node,
            address,
            instance,
            session,
            version,
            generation,
            slot,
            forgotten,
        },
    )
}

fn claim() -> impl Strategy<Value = ClaimRequest> {
    (
        name(),
        number(),
        number(),
        (any::<u32>(), number(), number()),
        socket(),
    )
        .prop_map(
            |(owner, instance, session, (slot, attempt, sent), elector)| ClaimRequest {
                owner,
                instance,
                session,
                slot: slot % 20,
                attempt,
                sent,
                elector,
            },
        )
}

fn message() -> impl Strategy<Value = Message> {
    let records = proptest::collection::vec((record(), any::<bool>()), 0..4);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Message::Swim),
        proptest::collection::vec(record(), 0..4).prop_map(Message::Rumours),
        (record(), any::<u32>()).prop_map(|(own, hash)| Message::Digest {
            own: Box::new(own),
            buckets: wire::Buckets([hash; records::BUCKETS]),
        }),
        (records, any::<u64>(), any::<bool>()).prop_map(|(records, wanted, more)| {
            Message::Records {
                records,
                wanted,
                more,
            }
        }),
        claim().prop_map(Message::Claim),
        (claim(), any::<bool>()).prop_map(|(of, granted)| Message::Answer { of, granted }),
        (number(), any::<u32>(), number()).prop_map(|(instance, slot, attempt)| {
            Message::Release {
                instance,
                slot,
                attempt,
            }
        }),
    ]
}

/// What nobody but a whole cluster may bring about stays out of reach of one member's words.
fn survives(messages: Vec<(u8, Message)>) {
    let mut now = Time {
        monotonic: Duration::ZERO,
        wall: Duration::from_secs(1_790_000_000),
    };
    let (mut machine, _) = Machine::new(settings(0, &["k"]), None, now);
    for (from, message) in messages {
        let bytes = message.encode().unwrap();
        machine.receive(address(from), &format!("node-{from}"), &bytes, now);
        now.monotonic = machine
            .next_tick()
            .clamp(now.monotonic, now.monotonic + Duration::from_secs(5));
        machine.handle(Input::Tick, now);
        assert!(machine.nodes().any(|member| member.node.name == "node-0"));
        let nodes = machine.nodes().map(|member| member.node.clone());
        crate::fuzzing::rows(nodes.collect());
    }
}

proptest! {
    #[test]
    fn any_message_with_any_content(messages in proptest::collection::vec((1..4_u8, message()), 1..8)) {
        survives(messages);
    }

    /// Cut short, with bits turned over, in the clear: none is taken for anybody's word.
    #[test]
    fn a_datagram_that_is_not_as_it_was_sealed(cut in 0usize..400, bit in 0usize..3200) {
        let mut net = Net::new();
        (0..2).for_each(|node| net.start(node, &["k"]));
        let (from, _, bytes) = net.heard.iter().find(|(_, to, _)| *to == address(0)).cloned().unwrap();
        let mut short = bytes.clone();
        short.truncate(cut % bytes.len());
        let mut turned = bytes.clone();
        turned[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
        let now = net.time();
        let (mut gossip, _) = Gossip::new(settings(0, &["k"]), None, now);
        for bytes in [short, turned] {
            gossip.handle(Input::Datagram { from, bytes }, now);
        }
        let counters = gossip.counters();
        prop_assert_eq!(counters.wrong_key + counters.garbage + counters.version, 2);
        prop_assert_eq!(gossip.nodes().count(), 1);
    }

    #[test]
    fn any_state_on_the_disk(text in ".{0,200}", instance in number(), session in number(), attempt in number(), known in proptest::collection::vec(record(), 0..4)) {
        drop(serde_json::from_str::<Stored>(&text));
        let stored = Stored {
            instance,
            session,
            last_attempt: attempt,
            claim: Some(Claim { slot: 3, attempt }),
            last_majority_wall: Some(session),
            known,
            ..Stored::default()
        };
        let now = Time { monotonic: Duration::ZERO, wall: Duration::from_secs(1) };
        let (mut machine, _) = Machine::new(settings(0, &["k"]), Some(stored), now);
        let later = Time { monotonic: Duration::from_secs(20), ..now };
        machine.handle(Input::Tick, later);
    }
}

/// A later version has more messages, and says more in those of today: what is not understood is passed over.
#[test]
fn a_later_version_is_understood_as_far_as_today_s_goes() {
    let now = Time {
        monotonic: Duration::ZERO,
        wall: Duration::from_secs(1_790_000_000),
    };
    let (mut machine, _) = Machine::new(settings(0, &["k"]), None, now);
    machine.receive(address(1), "node-1", &[200, 1, 2, 3], now);
    assert_eq!((machine.garbage(), machine.nodes().count()), (1, 1));
    let (other, _) = Machine::new(settings(1, &["k"]), None, now);
    let mut bytes = Message::Rumours(vec![other.record().clone()])
        .encode()
        .unwrap();
    bytes.extend_from_slice(b"what version 2 adds");
    machine.receive(address(1), "node-1", &bytes, now);
    assert_eq!((machine.garbage(), machine.nodes().count()), (1, 2));
}

/// What the first version sent and wrote down, byte for byte.
#[test]
fn what_the_first_version_said_is_understood() {
    let hex: String = include_str!("fixtures/v1-datagram.hex")
        .split_whitespace()
        .collect();
    let bytes = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let now = Time {
        monotonic: Duration::ZERO,
        wall: Duration::from_secs(1_790_000_000),
    };
    let (mut gossip, _) = Gossip::new(settings(0, &["a key of version 1"]), None, now);
    let from = address(1);
    gossip.handle(Input::Datagram { from, bytes }, now);
    let first = gossip
        .nodes()
        .find(|member| member.node.name == "node-1")
        .unwrap();
    assert_eq!(first.node.endpoints, [address(1).ip()]);
    let stored: Stored = serde_json::from_str(include_str!("fixtures/v1-gossip.json")).unwrap();
    assert_eq!(
        stored.claim,
        Some(Claim {
            slot: 7,
            attempt: 3
        })
    );
    assert_eq!((stored.grants.len(), stored.known.len()), (1, 1));
    // A later one's has more keys; going back to today's must not lose the claim.
    let mut later: serde_json::Value = serde_json::to_value(&stored).unwrap();
    later["colour"] = "blue".into();
    later["grants"][0]["weight"] = 5.into();
    later["known"][0]["zone"] = "west".into();
    assert_eq!(serde_json::from_value::<Stored>(later).unwrap(), stored);
}
