//! What VXLAN costs: TCP between two hosts, between pods over Heddle, and between pods over a VXLAN made by hand; and what
//! masquerading adds to either, because NAT makes the kernel track every connection.
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::inspect::sh;
use lab::overlay::{Cluster, Placed};
use lab::report::Table;
use lab::{Fabric, Node, Pod, Result, Space};

use crate::progress;
use crate::row::Findings;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(1500);
/// What both sides write and read at once, in bytes.
const CHUNK: usize = 128 << 10;

/// The far pod of the VXLAN by hand.
const BY_HAND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 2, 2));

/// A way between two places.
struct Way {
    name: &'static str,
    from: Space,
    to: Space,
    address: IpAddr,
}

/// Figures of one round.
#[derive(Clone, Copy)]
struct Figures {
    gigabits: f64,
    /// Seconds of all cores for each Gbit.
    cpu: f64,
    transactions: f64,
}

/// The one that the others are held against.
const UNIT: usize = 1;

/// Prints its table; it has no rows yet.
pub fn run() -> Result<Findings> {
    progress("packet: throughput and round trips");
    println!("{}", table()?);
    Ok(Findings::default())
}

fn table() -> Result<Table> {
    let mut plain = Cluster::fixed("masquerade = false")?;
    let mut masquerading = Cluster::fixed("")?;
    let (plain_pods, masquerading_pods) = (plain.pods()?, masquerading.pods()?);
    let by_hand_plain = by_hand(&plain.fabric)?;
    let by_hand_masquerading = by_hand(&masquerading.fabric)?;
    for (node, _) in &by_hand_masquerading {
        let rules = "table inet nat { chain c { type nat hook postrouting priority srcnat; ip daddr 10.99.0.0/16 return; ip saddr 10.99.0.0/16 masquerade; }; }";
        node.command("nft").arg(rules).ok()?;
    }
    let pods = |name, pods: &[Placed]| Way {
        name,
        from: pods[0].pod.space().clone(),
        to: pods[2].pod.space().clone(),
        address: pods[2].addresses[0],
    };
    let hand = |name, pair: &[(Node, Pod); 2]| Way {
        name,
        from: pair[0].1.space().clone(),
        to: pair[1].1.space().clone(),
        address: BY_HAND,
    };
    let ways = [
        Way {
            name: "host to host",
            from: plain.members[0].node.space().clone(),
            to: plain.members[2].node.space().clone(),
            address: "192.0.2.13".parse()?,
        },
        hand("pods, VXLAN by hand", &by_hand_plain),
        pods("pods, Heddle, masquerade = false", &plain_pods),
        hand("pods, VXLAN by hand, masquerading", &by_hand_masquerading),
        pods("pods, Heddle", &masquerading_pods),
    ];
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); ways.len()];
    // In turn, so that what else the machine does hits all of them.
    for _ in 0..ROUNDS {
        for (way, rounds) in ways.iter().zip(&mut rounds) {
            rounds.push(measure(way)?);
        }
    }
    let mut table = Table::new(&[
        "TCP, median of 5",
        "Gbit/s",
        "÷ by hand",
        "CPU s per Gbit",
        "÷ by hand",
        "round trips/s",
        "÷ by hand",
    ]);
    let medians: Vec<Figures> = rounds.iter().map(|rounds| median(rounds)).collect();
    let unit = medians[UNIT];
    for (way, figures) in ways.iter().zip(&medians) {
        table.row([
            way.name.to_owned(),
            format!("{:.2}", figures.gigabits),
            format!("{:.3}", figures.gigabits / unit.gigabits),
            format!("{:.3}", figures.cpu),
            format!("{:.3}", figures.cpu / unit.cpu),
            format!("{:.0}", figures.transactions),
            format!("{:.3}", figures.transactions / unit.transactions),
        ]);
    }
    for member in plain.members.iter_mut().chain(&mut masquerading.members) {
        member.stop(false)?;
    }
    Ok(table)
}

/// Two nodes with a bridge, a pod and a VXLAN device each, joined as `ip` would do it.
fn by_hand(fabric: &Fabric) -> Result<[(Node, Pod); 2]> {
    let place = |name: &str,
                 switch: u8,
                 host: u8,
                 own: u8,
                 other: u8,
                 peer: &str|
     -> Result<(Node, Pod)> {
        let node = Node::new(name)?;
        fabric.join(&node, switch, host)?;
        let pod = node.pod("pod")?;
        let netns = pod.netns().display();
        let script = format!(
            "sysctl -qw net.ipv4.ip_forward=1\n\
             ip link add vx0 up mtu 1450 address 02:00:00:00:99:0{own} type vxlan id 99 local 192.0.{switch}.{host} dstport 4789 nolearning\n\
             ip address add 10.99.{own}.0/32 dev vx0\n\
             bridge fdb append 02:00:00:00:99:0{other} dev vx0 dst {peer} self permanent\n\
             ip neighbour add 10.99.{other}.0 lladdr 02:00:00:00:99:0{other} dev vx0 nud permanent\n\
             ip route add 10.99.{other}.0/24 via 10.99.{other}.0 dev vx0 onlink\n\
             ip link add br0 type bridge\n\
             ip address add 10.99.{own}.1/24 dev br0\n\
             ip link set br0 up\n\
             ip link add p0 mtu 1450 type veth peer name eth0 mtu 1450 netns {netns}\n\
             ip link set p0 master br0 up"
        );
        sh(node.space(), &script)?;
        let script = format!(
            "ip link set lo up\nip address add 10.99.{own}.2/24 dev eth0\nip link set eth0 up\nip route add default via 10.99.{own}.1"
        );
        sh(pod.space(), &script)?;
        Ok((node, pod))
    };
    Ok([
        place("h1", 1, 31, 1, 2, "192.0.2.33")?,
        place("h2", 2, 33, 2, 1, "192.0.1.31")?,
    ])
}

fn measure(way: &Way) -> Result<Figures> {
    let busy = cpu_time()?;
    let (bits, took) = stream(way)?;
    let cpu = cpu_time()? - busy;
    let gigabits = bits / 1e9;
    Ok(Figures {
        gigabits: gigabits / took.as_secs_f64(),
        cpu: cpu / gigabits,
        transactions: round_trips(way)?,
    })
}

fn listen(way: &Way) -> Result<(TcpListener, SocketAddr)> {
    let listener = way.to.run(|| TcpListener::bind((way.address, 0)))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Bits that arrived, and the time they took.
fn stream(way: &Way) -> Result<(f64, Duration)> {
    let (listener, address) = listen(way)?;
    let received = thread::spawn(move || -> std::io::Result<(usize, Duration)> {
        let (mut stream, _) = listener.accept()?;
        let (mut bytes, mut total, start) = (vec![0; CHUNK], 0, Instant::now());
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok((total, start.elapsed())),
                read => total += read,
            }
        }
    });
    let mut stream = way.from.run(|| TcpStream::connect(address))?;
    let (bytes, start) = (vec![0; CHUNK], Instant::now());
    while start.elapsed() < TIME {
        stream.write_all(&bytes)?;
    }
    drop(stream);
    let (total, took) = received
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok((total as f64 * 8.0, took))
}

/// One byte there and one back, as often as it goes in a second.
fn round_trips(way: &Way) -> Result<f64> {
    let (listener, address) = listen(way)?;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = way.from.run(|| TcpStream::connect(address))?;
    stream.set_nodelay(true)?;
    let (mut byte, mut count, start) = ([0], 0_u32, Instant::now());
    while start.elapsed() < TIME {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    drop(stream);
    echo.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(rate)
}

/// Seconds that all cores have been busy since the boot (proc_stat(5): everything but idle and iowait).
fn cpu_time() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let busy = ticks
        .iter()
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .map(|(_, tick)| tick);
    // USER_HZ is 100 on every architecture that Linux has today.
    Ok(busy.take(6).sum::<f64>() / 100.0)
}

fn median(rounds: &[Figures]) -> Figures {
    let middle = |figure: fn(&Figures) -> f64| {
        let mut sorted: Vec<f64> = rounds.iter().map(figure).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    Figures {
        gigabits: middle(|figures| figures.gigabits),
        cpu: middle(|figures| figures.cpu),
        transactions: middle(|figures| figures.transactions),
    }
}
