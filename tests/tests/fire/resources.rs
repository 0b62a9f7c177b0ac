//! Disk, descriptors and connections run out.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::probe::ping;
use lab::{Result, wait};

/// After what was missing is there again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster by gossip with one elector.
pub fn gossip(more: &str) -> String {
    format!(
        "peers = [\"192.0.1.11\"]\nquarantine_seconds = 60\nkeys = [\"the secret of this laboratory\"]\n{more}"
    )
}

fn fill(member: &Member, directory: &str, full: bool) -> Result {
    let script = match full {
        // The last bytes too.
        true => format!(
            "dd if=/dev/zero of={directory}/filler bs=4k 2>/dev/null || dd if=/dev/zero of={directory}/filler2 bs=1 2>/dev/null || true"
        ),
        false => format!("rm -f {directory}/filler {directory}/filler2"),
    };
    sh(member.node.space(), &script).map(drop)
}

fn says(member: &Member, words: &str) -> Result {
    member
        .wait_for(words, |status| {
            status["problems"].to_string().contains(words)
        })
        .map(drop)
}

/// The state directory, the runtime's and the run directory, one after the other, on the elector of three nodes.
pub fn full_disk() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    for directory in ["/var/lib/heddle", "/run/heddle", "/etc/cni/net.d"] {
        sh(
            cluster.members[0].node.space(),
            &format!("mkdir -p {directory}; mount -t tmpfs -o size=64k tmpfs {directory}"),
        )?;
    }
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let share = cluster.members[0].status()?["pod_cidrs"].clone();
    fill(&cluster.members[0], "/var/lib/heddle", true)?;
    says(&cluster.members[0], "No space left on device")?;
    cluster.members[0].pid()?;
    ping(pods[0].pod.space(), pods[2].addresses[0])?;
    // The others have not lost it, and it has not lost its share; no new one is given meanwhile.
    cluster.members[2].wait_for("the elector in sight", |status| {
        status["peers"]["n1"]["state"] == "established"
    })?;
    let mut fourth = Member::new(&cluster.fabric, "n4", 2, 14, &gossip(""))?;
    fourth.start()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(
        fourth.status()?["pod_cidrs"] == serde_json::json!([]),
        "{:#}",
        fourth.status()?
    );
    // It starts with a full disk too.
    cluster.members[0].stop(true)?;
    cluster.members[0].start()?;
    says(&cluster.members[0], "No space left on device")?;
    ensure!(
        cluster.members[0].status()?["pod_cidrs"] == share,
        "the share is gone"
    );
    ping(pods[2].pod.space(), pods[0].addresses[0])?;
    fill(&cluster.members[0], "/var/lib/heddle", false)?;
    let start = Instant::now();
    cluster.members[0].wait_ready(3)?;
    fourth.wait_ready(3)?;
    println!(
        "room again: the node ready and a share given after {:.1} s",
        start.elapsed().as_secs_f64()
    );

    let first = &cluster.members[0];
    fill(first, "/etc/cni/net.d", true)?;
    sh(first.node.space(), "rm /etc/cni/net.d/10-heddle.conflist")?;
    fill(first, "/etc/cni/net.d", true)?;
    says(first, "cannot write /etc/cni/net.d/10-heddle.conflist")?;
    fill(first, "/etc/cni/net.d", false)?;
    first.wait_ready(3)?;
    sh(first.node.space(), "rm /run/heddle/cni-status")?;
    fill(first, "/run/heddle", true)?;
    sh(first.node.space(), "rm -f /run/heddle/cni-status")?;
    wait::until(PATIENCE, "the event", || {
        let events = first.heddle("events --json").ok()?;
        // It may have been written before the last bytes were taken.
        sh(
            first.node.space(),
            "rm -f /run/heddle/cni-status; dd if=/dev/zero of=/run/heddle/filler2 bs=1 2>/dev/null || true",
        )?;
        ensure!(
            events.contains("cannot write /run/heddle/cni-status"),
            "{events}"
        );
        Ok(())
    })?;
    fill(first, "/run/heddle", false)?;
    wait::until(PATIENCE, "the plugin's file", || {
        let text = sh(first.node.space(), "cat /run/heddle/cni-status")?;
        ensure!(text.trim() == "{}", "{text}");
        Ok(())
    })?;
    ping(pods[0].pod.space(), pods[1].addresses[0]).map(drop)
}

/// Half of a state file: the daemon neither ends nor makes up a state, and goes on with the whole one.
pub fn damaged() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let third = &mut cluster.members[2];
    let share = third.status()?["pod_cidrs"].clone();
    third.stop(false)?;
    sh(
        third.node.space(),
        "cd /var/lib/heddle; cp gossip.json whole; head -c 100 whole >gossip.json",
    )?;
    third.start()?;
    says(third, "gossip.json is damaged")?;
    third.pid()?;
    ping(pods[2].pod.space(), pods[0].addresses[0])?;
    sh(
        third.node.space(),
        "cd /var/lib/heddle; mv whole gossip.json",
    )?;
    let status = third.wait_ready(2)?;
    ensure!(status["pod_cidrs"] == share, "{status:#}");
    Ok(())
}

/// Not one more file can be opened; what the kernel loses is put back all the same.
pub fn no_descriptors() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let third = &cluster.members[2];
    let pid = third.pid()?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let limit = |most: usize| {
        sh(
            third.node.space(),
            &format!("prlimit --pid {pid} --nofile={most}:4096"),
        )
    };
    let before = sh(third.node.space(), "ip route show protocol 176 | sort")?;
    limit(open.saturating_sub(1))?;
    sh(
        third.node.space(),
        "ip nexthop flush protocol 176; nft flush ruleset",
    )?;
    let start = Instant::now();
    wait::until(PATIENCE, "the routes", || {
        let now = sh(third.node.space(), "ip route show protocol 176 | sort")?;
        ensure!(now == before, "{now}");
        Ok(())
    })?;
    let healed = start.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    third.pid()?;
    ping(pods[2].pod.space(), pods[0].addresses[0])?;
    limit(1024)?;
    third.wait_ready(2)?;
    println!(
        "without descriptors rows were back after {} ms",
        healed.as_millis()
    );
    ensure!(healed < Duration::from_secs(2), "{healed:?}");
    Ok(())
}

/// Many connections that say nothing or half of something, on the socket and on the port.
pub fn flooded() -> Result {
    const MANY: usize = 300;
    let cluster = Cluster::fixed("http = \"127.0.0.1:9946\"")?;
    let first = &cluster.members[0];
    let pid = first.pid()?;
    let start = Instant::now();
    let mut held: (Vec<UnixStream>, Vec<TcpStream>) = first.node.run(|| -> Result<_> {
        let (mut sockets, mut ports) = (Vec::new(), Vec::new());
        for number in 0..MANY {
            let mut socket = UnixStream::connect("/run/heddle/heddle.sock")?;
            let mut port = TcpStream::connect("127.0.0.1:9946")?;
            if number % 2 == 0 {
                // Who was too many hears so by a broken connection.
                drop(socket.write_all(b"GET /status HT"));
                drop(port.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nX: "));
            }
            sockets.push(socket);
            ports.push(port);
        }
        Ok((sockets, ports))
    })?;
    let status = first.status()?;
    ensure!(status["ready"] == true, "{status:#}");
    let answered = start.elapsed();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    ensure!(open < 200, "{open} descriptors");
    // Within the time for a request's head all of them are gone.
    wait::until(Duration::from_secs(20), "an end of the idle ones", || {
        std::thread::sleep(Duration::from_millis(500));
        let left = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        ensure!(left < 40, "{left} descriptors");
        Ok(())
    })?;
    let last = held.1.last_mut().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut rest = Vec::new();
    ensure!(
        last.read_to_end(&mut rest).is_ok(),
        "an idle connection is still open"
    );
    println!(
        "{} connections at once: {open} descriptors, status after {} ms",
        2 * MANY,
        answered.as_millis()
    );
    Ok(())
}
