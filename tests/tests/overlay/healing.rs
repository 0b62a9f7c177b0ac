//! Whatever is taken from the overlay comes back by itself, within a second, and nothing else is touched.
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::probe::ping;
use lab::{Node, Result, wait};

use lab::overlay::{Cluster, NODES};

/// What is promised for each row, and what is waited for where several nodes have to hear of a change.
const PROMISE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// What the kernel holds for the overlay, as iproute2 and nft show it; counters and timers left out.
fn rows(node: &Node) -> Result<String> {
    sh(
        node.space(),
        "ip -o -d link show vxlan.heddle | cut -d ' ' -f 2-\n\
         ip -o address show dev vxlan.heddle scope global | cut -d ' ' -f 2- | sort\n\
         bridge fdb show dev vxlan.heddle | sort\n\
         ip neighbour show dev vxlan.heddle nud permanent | sort\n\
         ip nexthop show protocol 176 | sort\n\
         ip route show protocol 176 | sort\n\
         ip -6 route show protocol 176 | sort\n\
         nft list table inet heddle",
    )
}

/// Breaks something on the third node and waits until it is as before.
fn heals(cluster: &Cluster, what: &str, harm: &str) -> Result {
    let member = &cluster.members[2];
    let before = rows(&member.node)?;
    let start = Instant::now();
    sh(member.node.space(), harm).with_context(|| what.to_owned())?;
    wait::until(PATIENCE, what, || {
        let now = rows(&member.node)?;
        ensure!(
            now == before,
            "before:\n{before}\nnow:\n{now}\n{}",
            member.log()
        );
        Ok(())
    })?;
    let took = start.elapsed();
    ensure!(took < PROMISE, "{what} healed after {took:?}");
    Ok(())
}

pub fn each() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    for (what, harm) in [
        ("a route", "ip route delete 10.32.1.0/24"),
        ("a route of IPv6", "ip -6 route delete fd32:0:0:2::/64"),
        (
            "all our routes",
            "for dst in $(ip route show protocol 176 | cut -d ' ' -f 1); do ip route delete $dst; done",
        ),
        (
            "a nexthop",
            "ip nexthop delete id $(ip nexthop show protocol 176 | head -n 1 | cut -d ' ' -f 2)",
        ),
        (
            "an FDB entry",
            "bridge fdb delete $(bridge fdb show dev vxlan.heddle | head -n 1 | cut -d ' ' -f 1) dev vxlan.heddle self",
        ),
        (
            "a neighbour",
            "ip neighbour delete $(ip neighbour show dev vxlan.heddle nud permanent | head -n 1 | cut -d ' ' -f 1) dev vxlan.heddle",
        ),
        ("the ruleset", "nft flush ruleset"),
        (
            "a rule",
            "nft delete rule inet heddle vxlan-out handle $(nft -a list chain inet heddle vxlan-out | sed -n 's/.*handle //p' | tail -n 1)",
        ),
        (
            "a peer in the set",
            "nft delete element inet heddle peers4 '{ 192.0.1.11 }'",
        ),
        (
            "an address of the VTEP",
            "ip address delete 10.32.3.0/32 dev vxlan.heddle",
        ),
        (
            "a peer's row that leads to two others",
            "mac=$(bridge fdb show dev vxlan.heddle | head -n 1 | cut -d ' ' -f 1)
             bridge fdb replace $mac dev vxlan.heddle dst 192.0.9.8 self permanent
             bridge fdb append $mac dev vxlan.heddle dst 192.0.9.9 self permanent",
        ),
        (
            "a row too many",
            "bridge fdb append 02:00:00:00:00:99 dev vxlan.heddle dst 192.0.9.9 self permanent",
        ),
    ] {
        heals(&cluster, what, harm)?;
        ping(pods[2].pod.space(), pods[0].addresses[0]).context(what)?;
    }
    Ok(())
}

pub fn device() -> Result {
    let mut cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    for (what, harm) in [
        ("the device", "ip link delete vxlan.heddle"),
        ("its state", "ip link set vxlan.heddle down"),
        ("its MTU", "ip link set vxlan.heddle mtu 1300"),
        (
            "its MAC",
            "ip link set vxlan.heddle address 02:00:00:00:00:01",
        ),
    ] {
        heals(&cluster, what, harm)?;
        ping(pods[2].pod.space(), pods[0].addresses[0]).context(what)?;
        ping(pods[0].pod.space(), pods[2].addresses[1]).context(what)?;
    }
    // While the daemon is away someone makes a device of its name.
    let third = &mut cluster.members[2];
    let before = rows(&third.node)?;
    third.stop(true)?;
    sh(
        third.node.space(),
        "ip link delete vxlan.heddle\nip link add vxlan.heddle type vxlan id 99 dstport 4789",
    )?;
    third.start()?;
    third.wait_ready(2)?;
    let now = rows(&third.node)?;
    ensure!(now == before, "before:\n{before}\nnow:\n{now}");
    Ok(())
}

pub fn uplink() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let (fabric, third) = (&cluster.fabric, &cluster.members[2]);
    let reached = |what: &str| {
        wait::until(PATIENCE, what, || {
            ping(pods[0].pod.space(), pods[2].addresses[0])?;
            ping(pods[2].pod.space(), pods[0].addresses[1])
        })
        .with_context(|| third.log())
    };
    sh(third.node.space(), "ip link set eth0 down")?;
    fabric.address(&third.node, 2, 13)?;
    reached("the uplink down and up")?;
    sh(third.node.space(), "ip link delete eth0")?;
    third.wait_for("the loss of the uplink in the status", |status| {
        status["ready"] == false
    })?;
    fabric.join(&third.node, 2, 13)?;
    reached("the uplink removed and back")?;
    sh(third.node.space(), "ip link set eth0 mtu 1400")?;
    wait::until(PATIENCE, "the overlay's MTU to follow", || {
        let mtu = sh(third.node.space(), "cat /sys/class/net/vxlan.heddle/mtu")?;
        ensure!(mtu.trim() == "1350", "{mtu}");
        Ok(())
    })?;
    sh(third.node.space(), "ip link set eth0 mtu 1500")?;
    sh(
        third.node.space(),
        "ip link set eth0 address 02:00:00:00:00:77",
    )?;
    reached("another MAC of the uplink")?;
    // Another address: the others' files say so a moment later.
    sh(third.node.space(), "ip address flush dev eth0 scope global")?;
    fabric.address(&third.node, 2, 99)?;
    let moved: Vec<_> = NODES
        .iter()
        .map(|(name, endpoints, share)| match *name {
            "n3" => (*name, &["192.0.2.99", "fd00:2::99"][..], *share),
            _ => (*name, *endpoints, *share),
        })
        .collect();
    cluster.write_nodes(&moved)?;
    reached("another underlay address")?;
    let fdb = sh(
        cluster.members[0].node.space(),
        "bridge fdb show dev vxlan.heddle",
    )?;
    ensure!(
        !fdb.contains("192.0.2.13"),
        "the old address is still there: {fdb}"
    );
    Ok(())
}

/// Rows that look like ours but for the mark.
pub fn others() -> Result {
    let mut cluster = Cluster::new("membership = \"static\"")?;
    cluster.write_nodes(&NODES)?;
    let member = &cluster.members[2];
    sh(
        member.node.space(),
        "ip route add 10.200.0.0/16 via 192.0.2.1\n\
         ip route add 10.201.0.0/16 via 192.0.2.1 protocol static\n\
         ip nexthop add id 7 via 192.0.2.1 dev eth0\n\
         ip route add 10.202.0.0/16 nhid 7\n\
         ip link add vx9 type vxlan id 9 dstport 4789 nolearning\n\
         bridge fdb append 02:00:00:00:00:99 dev vx9 dst 192.0.9.9 self permanent\n\
         ip neighbour add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent\n\
         nft add table inet theirs\n\
         nft add chain inet theirs c '{ type filter hook input priority 0; }'\n\
         nft add rule inet theirs c counter",
    )?;
    let theirs = "ip route show | grep -v 'proto 176'; ip nexthop show | grep -v 'proto 176'; bridge fdb show dev vx9; \
                  ip neighbour show dev eth0 nud permanent; nft list table inet theirs | grep -v packets";
    let before = sh(member.node.space(), theirs)?;
    cluster.start()?;
    cluster.ready()?;
    let member = &mut cluster.members[2];
    sh(member.node.space(), "ip link delete vxlan.heddle")?;
    member.wait_for("the device back", |status| status["ready"] == true)?;
    member.stop(true)?;
    member.start()?;
    member.wait_ready(2)?;
    ensure!(
        sh(member.node.space(), theirs)? == before,
        "{}",
        sh(member.node.space(), theirs)?
    );
    member.stop(false)?;
    member.heddle("cleanup").ok()?;
    ensure!(
        sh(member.node.space(), theirs)? == before,
        "{}",
        sh(member.node.space(), theirs)?
    );
    Ok(())
}

pub fn members() -> Result {
    let cluster = Cluster::fixed("")?;
    let first = &cluster.members[0];
    cluster.write_nodes(&NODES[..2])?;
    wait::until(PATIENCE, "the removal of a node that has gone", || {
        let left = rows(&first.node)?;
        ensure!(
            !left.contains("10.32.3.0") && !left.contains("192.0.2.13"),
            "{left}"
        );
        Ok(())
    })?;
    // A node's share moves to another node, which had its own.
    let moved = [NODES[0], ("n2", NODES[1].1, 3), ("n3", NODES[2].1, 2)];
    cluster.write_nodes(&moved)?;
    wait::until(PATIENCE, "shares that changed hands", || {
        let route = sh(first.node.space(), "ip route show 10.32.2.0/24")?;
        ensure!(route.contains("vxlan.heddle"), "{route}");
        let route = sh(first.node.space(), "ip route show 10.32.3.0/24")?;
        ensure!(route.contains("via 192.0.1.12"), "{route}");
        Ok(())
    })?;
    Ok(())
}

/// Inputs go before looks, and a look still comes about while they never end.
pub fn meanwhile() -> Result {
    let cluster = Cluster::fixed("")?;
    let first = &cluster.members[0];
    let moved = [NODES[0], NODES[1], ("n3", NODES[2].1, 4)];
    let lost = "10.32.2.0/24";
    let mut lost_at = None;
    let start = Instant::now();
    for turn in 0.. {
        cluster.write_nodes(if turn % 2 == 0 { &moved } else { &NODES })?;
        std::thread::sleep(Duration::from_millis(20));
        let route = sh(first.node.space(), &format!("ip route show {lost}"))?;
        match lost_at {
            None if start.elapsed() > PROMISE => {
                sh(first.node.space(), &format!("ip route delete {lost}"))?;
                lost_at = Some(Instant::now());
            }
            Some(at) if !route.is_empty() => {
                let took = at.elapsed();
                ensure!(took < PROMISE, "healed after {took:?}");
                break;
            }
            Some(at) => ensure!(at.elapsed() < PATIENCE, "not healed: {}", first.log()),
            None => {}
        }
    }
    cluster.write_nodes(&moved)?;
    wait::until(PATIENCE, "the last word", || {
        let rows = rows(&first.node)?;
        ensure!(
            rows.contains("10.32.4.0/24") && !rows.contains("10.32.3.0/24"),
            "{rows}"
        );
        Ok(())
    })?;
    let status = first.status()?;
    ensure!(status["ready"] == true, "{status:#}");
    Ok(())
}
