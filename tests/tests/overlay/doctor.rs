//! `heddle doctor --fix`, faults that are elsewhere, and `heddle gc`.
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, wait};
use serde_json::Value;

fn examine(member: &Member, words: &str) -> Result<(bool, Vec<Value>)> {
    let output = member.heddle(&format!("doctor --json {words}")).output()?;
    let findings = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((output.status.success(), findings))
}

fn first_bad(findings: &[Value]) -> Option<&Value> {
    findings.iter().find(|finding| finding["verdict"] == "bad")
}

fn healthy(member: &Member) -> Result {
    let (good, findings) = examine(member, "")?;
    ensure!(good && first_bad(&findings).is_none(), "{findings:#?}");
    Ok(())
}

/// What the safe remedies are, and that they are all that --fix does.
pub fn fixes() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let member = &cluster.members[0];
    sh(
        member.node.space(),
        "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=1; echo '{}' >/etc/cni/net.d/05-other.conflist",
    )?;
    let (good, findings) = examine(member, "--fix")?;
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| finding["verdict"] == "bad")
        .collect();
    ensure!(!good && bad.len() == 1, "{findings:#?}");
    ensure!(bad[0]["check"] == "conflist", "{bad:#?}");
    let arp = member
        .node
        .run(|| fs::read_to_string("/proc/sys/net/ipv4/conf/cbr0/proxy_arp"))?;
    ensure!(arp.trim() == "0", "{arp}");
    drop(pods);
    Ok(())
}

/// Faults elsewhere, as they look from here: a daemon that is away, and VXLAN that is blocked on the way.
pub fn elsewhere() -> Result {
    let mut cluster = Cluster::fixed("")?;
    sh(
        cluster.fabric.space(),
        "nft 'table inet block { chain c { type filter hook forward priority 0; udp dport 8472 drop; }; }'",
    )?;
    let says = |member: &Member, wanted: &str| {
        wait::until(Duration::from_secs(60), wanted, || {
            let (_, findings) = examine(member, "")?;
            let bad = first_bad(&findings).with_context(|| format!("{findings:#?}"))?;
            let text = bad["text"].as_str().unwrap_or_default();
            ensure!(text.contains(wanted), "{findings:#?}");
            Ok(())
        })
    };
    says(
        &cluster.members[0],
        "n3 is unreachable: no probe through the overlay is answered: is UDP port 8472 open",
    )?;
    sh(cluster.fabric.space(), "nft delete table inet block")?;
    wait::until(Duration::from_secs(60), "the way to n3", || {
        healthy(&cluster.members[0])
    })?;
    let member = &mut cluster.members[0];
    member.stop(true)?;
    says(member, "no daemon answers at /run/heddle/heddle.sock")
}

/// What pods that have gone have left, by what is there of them; and nothing of those that live or are being made.
pub fn leftovers() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let member = &cluster.members[0];
    let node = member.node.space();
    let none = member.heddle("gc").ok()?;
    ensure!(none.trim() == "no lease and no link is left over", "{none}");
    sh(
        node,
        "cd /var/lib/cni/networks/heddle
        printf 'gone\\r\\neth0' >10.32.1.77 && touch -d '2 minutes ago' 10.32.1.77
        printf 'coming\\r\\neth0' >10.32.1.78
        ip link add left type ifb && ip link set left alias heddle/heddle/gone/eth0",
    )?;
    let wanted = "lease 10.32.1.77 of container gone\nleft over: link left of container gone";
    let said = member.heddle("gc --dry-run").ok()?;
    ensure!(said.trim() == format!("left over: {wanted}"), "{said}");
    let said = member.heddle("gc").env("CNI_PATH", "/opt/cni/bin").ok()?;
    ensure!(said.contains("removed: lease 10.32.1.77"), "{said}");
    let leases = sh(node, "ls /var/lib/cni/networks/heddle")?;
    ensure!(
        !leases.contains("10.32.1.77") && leases.contains("10.32.1.78"),
        "{leases}"
    );
    for address in &pods[0].addresses {
        ensure!(leases.contains(&address.to_string()), "{address}: {leases}");
    }
    let links = sh(node, "ip -o link show")?;
    ensure!(!links.contains("left:"), "{links}");
    // The host's name servers are not to be reached from here.
    member.node.run(|| fs::remove_file("/etc/resolv.conf")).ok();
    let (good, rows) = (
        member.heddle("check").output()?,
        member.heddle("gc --json").ok()?,
    );
    ensure!(
        good.status.success() && rows.trim() == "[]",
        "{good:?} {rows}"
    );
    Ok(())
}
