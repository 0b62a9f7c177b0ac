//! `heddle check`: throw-away pods through the node's real conflist, and nothing left of them.
use std::net::UdpSocket;
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::probe::TcpEcho;
use lab::{Result, Snapshot, Space};
use serde_json::Value;

fn check(member: &Member, words: &str) -> Result<(bool, Vec<Value>)> {
    let output = member.heddle(&format!("check --json {words}")).output()?;
    let rows = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((output.status.success(), rows))
}

fn snapshot(member: &Member) -> Result<Snapshot> {
    // What any pod leaves: the last address, the connections that its packets were, the places of its plugins,
    // what they write of their calls.
    Ok(Snapshot::of(member.node.space())?.without(&[
        "/var/lib/cni/",
        "/run/netns",
        "/run/heddle/cni-calls",
    ]))
}

/// Answers one question, whatever it is, with nothing.
fn name_server(space: &Space) -> Result<JoinHandle<()>> {
    let socket = space.run(|| UdpSocket::bind("192.0.2.1:53"))?;
    Ok(std::thread::spawn(move || {
        let mut bytes = [0; 512];
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            bytes[2] |= 0x80;
            socket.send_to(&bytes[..length], from).ok();
        }
    }))
}

pub fn everyone_is_reached() -> Result {
    let cluster = Cluster::fixed("")?;
    let member = &cluster.members[0];
    // The first pod makes the bridge.
    let first = member.add_pod("first")?;
    let before = snapshot(member)?;
    let beyond = TcpEcho::start(cluster.fabric.space(), "192.0.2.1:7".parse()?)?;
    member.node.run(|| {
        std::fs::write(
            "/etc/resolv.conf",
            "nameserver 127.0.0.53\nnameserver 192.0.2.1\n",
        )
    })?;
    let names = name_server(cluster.fabric.space())?;
    let (good, rows) = check(member, "--to 192.0.2.1:7")?;
    member
        .node
        .run(|| std::fs::remove_file("/etc/resolv.conf"))?;
    ensure!(names.is_finished(), "the name server was not asked");
    let ways: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {}",
                row["from"].as_str().unwrap_or_default(),
                row["to"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let wanted = [
        "pod pod",
        "node pod",
        "pod pod",
        "node pod",
        "pod node",
        "pod node",
        "pod n2",
        "pod n2",
        "pod n3",
        "pod n3",
        "pod DNS",
        "pod 192.0.2.1:7",
    ];
    ensure!(good && ways == wanted, "{rows:#?}");
    snapshot(member)?.same_as(&before)?;
    drop(beyond);

    // What is lost is followed to the place where it is lost.
    let filter = "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'";
    sh(member.node.space(), filter)?;
    let (good, rows) = check(member, "")?;
    let lost: Vec<_> = rows.iter().filter(|row| row["rtt_us"].is_null()).collect();
    // To both peers, and to the pod next door: bridge-nf-call-iptables is on.
    ensure!(!good && lost.len() == 3, "{rows:#?}");
    for row in lost {
        let reason = row["reason"].as_str().unwrap_or_default();
        ensure!(
            row["address"]
                .as_str()
                .unwrap_or_default()
                .starts_with("10.32."),
            "{row:#}"
        );
        ensure!(reason.contains("its policy is DROP"), "{row:#}");
    }
    sh(member.node.space(), "nft delete table ip filter")?;

    // A check that was killed is cleaned up by the next.
    let _left = member.node.pod("heddle-check-1")?;
    let screen = member.heddle("check").ok()?;
    ensure!(
        screen.lines().all(|line| line.starts_with("ok ")),
        "{screen}"
    );
    snapshot(member)?.same_as(&before)?;
    member.delete_pod(&first.pod)
}
