//! `heddle doctor`: nothing to say of a healthy node, and the true cause of each fault.
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, wait};
use serde_json::Value;

/// A fault on the first node, made and mended by a shell on it.
struct Fault {
    name: &'static str,
    inject: &'static str,
    mend: &'static str,
    /// In the text of the first finding that is bad.
    said: &'static str,
    /// In its remedy.
    remedy: &'static str,
}

const fn fault(
    name: &'static str,
    inject: &'static str,
    mend: &'static str,
    said: &'static str,
    remedy: &'static str,
) -> Fault {
    Fault {
        name,
        inject,
        mend,
        said,
        remedy,
    }
}

const FAULTS: [Fault; 13] = [
    fault(
        "IPv4 is not forwarded",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.ip_forward=1",
        "net/ipv4/ip_forward is 0",
        "sysctl -w net.ipv4.ip_forward=1",
    ),
    fault(
        "strict reverse path filter",
        "sysctl -qw net/ipv4/conf/vxlan.heddle/rp_filter=1",
        "sysctl -qw net/ipv4/conf/vxlan.heddle/rp_filter=2",
        "rp_filter is strict",
        "sysctl -w net.ipv4.conf.vxlan/heddle.rp_filter=2",
    ),
    fault(
        "router advertisements ignored",
        "sysctl -qw net.ipv6.conf.eth0.accept_ra=1",
        "sysctl -qw net.ipv6.conf.eth0.accept_ra=2",
        "router advertisements are ignored",
        "sysctl -w net.ipv6.conf.eth0.accept_ra=2",
    ),
    fault(
        "proxy_arp",
        "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=1",
        "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=0",
        "proxy_arp is 1",
        "sysctl -w net.ipv4.conf.cbr0.proxy_arp=0",
    ),
    fault(
        "Services of the same node",
        "nft 'table ip nat { chain KUBE-SERVICES { }; }'; sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "nft delete table ip nat; sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        "bridge-nf-call-iptables is 0",
        "sysctl -w net.bridge.bridge-nf-call-iptables=1",
    ),
    fault(
        "Docker's policy",
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
        "nft delete table ip filter",
        "FORWARD chain has the policy DROP",
        "iptables -P FORWARD ACCEPT",
    ),
    fault(
        "another conflist first",
        "echo '{}' >/etc/cni/net.d/05-other.conflist",
        "rm /etc/cni/net.d/05-other.conflist",
        "the runtime uses /etc/cni/net.d/05-other.conflist",
        "mv /etc/cni/net.d/05-other.conflist",
    ),
    fault(
        "a lease that nobody holds",
        "cd /var/lib/cni/networks/heddle && printf 'gone\\r\\neth0' >10.32.1.77 && touch -d '2 minutes ago' 10.32.1.77",
        "rm /var/lib/cni/networks/heddle/10.32.1.77",
        "belong to no pod of this node: 10.32.1.77",
        "heddle gc --dry-run",
    ),
    fault(
        "a pod without a lease",
        "mkdir /tmp/kept; mv /var/lib/cni/networks/heddle/10.32.1.* /var/lib/cni/networks/heddle/fd32:* /tmp/kept",
        "mv /tmp/kept/* /var/lib/cni/networks/heddle; rmdir /tmp/kept",
        "have no lease",
        "delete these pods",
    ),
    fault(
        "an isolated port",
        "bridge link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) isolated on",
        "bridge link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) isolated off",
        "is an isolated port of cbr0",
        "isolated off",
    ),
    fault(
        "a port that is down",
        "ip link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) down",
        "ip link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) up",
        "its pod is cut off",
        "up",
    ),
    fault(
        "another's route",
        "ip route add 10.32.2.0/25 via 192.0.1.1",
        "ip route delete 10.32.2.0/25",
        "a route to 10.32.2.0/25 that is not ours",
        "ip route show 10.32.2.0/25",
    ),
    fault(
        "the bridge is down",
        "ip link set dev cbr0 down",
        "ip link set dev cbr0 up",
        "cbr0 is down",
        "ip link set dev cbr0 up",
    ),
];

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

/// Whether the first thing that is wrong is what was injected.
fn names(member: &Member, fault: &Fault) -> Result {
    let (good, findings) = examine(member, "")?;
    let bad = first_bad(&findings).with_context(|| format!("{findings:#?}"))?;
    let has = |key: &str, wanted: &str| bad[key].as_str().is_some_and(|text| text.contains(wanted));
    ensure!(
        !good && has("text", fault.said) && has("remedy", fault.remedy),
        "{bad:#}"
    );
    Ok(())
}

pub fn faults() -> Result {
    let cluster = Cluster::fixed("")?;
    cluster.pods()?;
    cluster.members.iter().try_for_each(healthy)?;
    let member = &cluster.members[0];
    for fault in &FAULTS {
        // The daemon puts some of these right by itself, and now and then is first: then there was nothing to see.
        let seen = wait::until(Duration::from_secs(5), fault.name, || {
            sh(member.node.space(), fault.inject)?;
            let seen = names(member, fault);
            sh(member.node.space(), fault.mend)?;
            seen
        });
        seen.context(fault.name)?;
        wait::until(Duration::from_secs(10), fault.name, || healthy(member))?;
    }
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
