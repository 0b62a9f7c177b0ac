//! What is wrong is said in one sentence, with the exit code of its kind; what is only partly wrong leaves the rest running.
use std::fs;

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::Member;
use lab::probe::ping;
use lab::{Fabric, Result};

use lab::overlay::{Cluster, NODES};

/// `EX_UNAVAILABLE` and `EX_CONFIG` of sysexits.h.
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

pub fn refused() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let good = "membership = \"static\"";
    let cases = [
        ("colour = 1", "", CONFIG, "colour"),
        ("vni = 0", "", CONFIG, "\"vni\": 0"),
        (
            "masquerade_exclude = [\"nonsense\"]",
            "",
            CONFIG,
            "masquerade_exclude",
        ),
        (
            "",
            "ip route add 10.32.77.0/24 via 192.0.1.1",
            CONFIG,
            "overlaps 10.32.77.0/24",
        ),
        (
            "",
            "ip address add 10.32.9.9/24 dev eth0; ip address delete 192.0.1.21/24 dev eth0",
            CONFIG,
            "10.32.9.9",
        ),
        (
            "http = \"127.0.0.1:9946\"",
            "HOLD tcp 9946",
            UNAVAILABLE,
            "\"http\": cannot listen on 127.0.0.1:9946",
        ),
        (
            "",
            "HOLD udp 7947",
            UNAVAILABLE,
            "\"probe_port\": cannot take UDP port 7947",
        ),
    ];
    for (index, (line, before, code, words)) in cases.iter().enumerate() {
        let host = u8::try_from(21 + index)?;
        let member = Member::new(
            &fabric,
            &format!("b{index}"),
            1,
            if before.contains("10.32.9.9") {
                21
            } else {
                host
            },
            &format!("{good}\n{line}"),
        )?;
        member
            .node
            .run(|| fs::write("/etc/heddle/nodes.toml", ""))?;
        let held = match before.strip_prefix("HOLD ") {
            Some("tcp 9946") => Some(
                member
                    .node
                    .run(|| std::net::TcpListener::bind("127.0.0.1:9946"))?
                    .into(),
            ),
            Some(_) => Some(std::os::fd::OwnedFd::from(
                member
                    .node
                    .run(|| std::net::UdpSocket::bind("0.0.0.0:7947"))?,
            )),
            None => {
                sh(member.node.space(), before)?;
                None
            }
        };
        let output = member.heddle("daemon").output()?;
        ensure!(
            output.status.code() == Some(*code),
            "{line}{before}: {output:?}"
        );
        ensure!(output.stderr.contains(words), "{line}{before}: {output:?}");
        ensure!(!output.stderr.contains("panicked"), "{output:?}");
        ensure!(
            sh(member.node.space(), "ip link")?.contains("eth0"),
            "the uplink is gone"
        );
        drop(held);
        let check = member.heddle("config check").output()?;
        ensure!(
            check.status.success() != line.contains("colour") || !line.contains("colour"),
            "{check:?}"
        );
    }
    Ok(())
}

/// Without rights, and with gossip's port taken.
pub fn not_allowed() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let member = Member::new(
        &fabric,
        "nobody",
        1,
        11,
        &crate::gossip::config(&["192.0.1.11"], ""),
    )?;
    let mut command = member.node.command("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--clear-groups",
        "/opt/cni/heddle",
        "daemon",
    ]);
    let output = command.output()?;
    ensure!(output.status.code() == Some(UNAVAILABLE), "{output:?}");
    ensure!(output.stderr.contains("run as root"), "{output:?}");
    let _held = member.node.run(|| std::net::UdpSocket::bind("[::]:7946"))?;
    let output = member.heddle("daemon").output()?;
    ensure!(output.status.code() == Some(UNAVAILABLE), "{output:?}");
    ensure!(
        output
            .stderr
            .contains("\"gossip_port\": cannot take UDP port 7946"),
        "{output:?}"
    );
    let status = member.heddle("status").output()?;
    ensure!(status.status.code() == Some(UNAVAILABLE), "{status:?}");
    ensure!(
        status.stderr.contains("does `heddle daemon` run?"),
        "{status:?}"
    );
    Ok(())
}

pub fn degraded() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let first = &cluster.members[0];
    // Two nodes with one underlay address, one with the CIDR of another: the rest keeps running.
    let twins = [
        &NODES[..],
        &[("n8", &["192.0.1.12"], 8), ("n9", &["192.0.1.99"], 1)],
    ]
    .concat();
    cluster.write_nodes(&twins)?;
    let status = first.wait_for("both conflicts by name", |status| {
        let problems = status["problems"].to_string();
        problems.contains("n8: its underlay address 192.0.1.12 is that of n2")
            && problems.contains("n9: its pod CIDR 10.32.1.0/24 overlaps this node's own")
    })?;
    ensure!(
        status["peers"]["n2"]["state"] == "established",
        "{status:#}"
    );
    ping(pods[0].pod.space(), pods[1].addresses[0])?;
    ping(pods[0].pod.space(), pods[2].addresses[0])?;
    // A damaged file: what was read before goes on.
    first
        .node
        .run(|| fs::write("/etc/heddle/nodes.toml", "[[node]]\nname = 5"))?;
    first.wait_for("the damage", |status| {
        status["problems"].to_string().contains("nodes.toml")
    })?;
    ping(pods[0].pod.space(), pods[1].addresses[0])?;
    cluster.write_nodes(&NODES)?;
    first.wait_ready(2)?;
    // VXLAN is blocked on the way: the status says so within seconds, and when it is over too.
    sh(
        cluster.fabric.space(),
        "nft 'table inet wall { chain c { type filter hook forward priority 0; udp dport 8472 drop; }; }'",
    )?;
    first.wait_for("a blocked path by its reason", |status| {
        status["peers"]["n3"]["state"] == "unreachable"
            && status["peers"]["n3"]["reason"]
                .to_string()
                .contains("UDP port 8472")
    })?;
    sh(cluster.fabric.space(), "nft delete table inet wall")?;
    first.wait_ready(2)?;
    Ok(())
}
