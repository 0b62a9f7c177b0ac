//! The probes: each says yes where packets pass, and no where they do not.
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use lab::probe::{Capture, LossMeter, TcpEcho, UdpEcho, exchange, ping, ping_within};
use lab::{Case, Need, Pod, Result};

fn main() -> ExitCode {
    let ip = [Need::Program("ip")];
    lab::main([
        Case::new(
            "tcp_and_icmp_pass_and_are_refused",
            tcp_and_icmp_pass_and_are_refused,
        )
        .needs(ip),
        Case::new("the_loss_meter_counts_a_cut", the_loss_meter_counts_a_cut).needs(ip),
        Case::new("a_capture_reads_vxlan", a_capture_reads_vxlan)
            .needs(ip)
            .needs([Need::Link("vxlan")]),
    ])
}

/// Two pods on a veth: 10.9.0.1 and fd09::1, 10.9.0.2 and fd09::2.
fn joined() -> Result<(Pod, Pod)> {
    let node = lab::Node::new("probes")?;
    let (one, two) = (node.pod("one")?, node.pod("two")?);
    let veth = "link add v1 netns one type veth peer name v2 netns two";
    node.command("ip").args(veth.split(' ')).ok()?;
    for (pod, number) in [(&one, 1), (&two, 2)] {
        let script = format!(
            "ip address add 10.9.0.{number}/24 dev v{number}
            ip address add fd09::{number}/64 dev v{number} nodad
            ip link set v{number} up"
        );
        pod.command("sh").args(["-ec", &script]).ok()?;
    }
    Ok((one, two))
}

fn tcp_and_icmp_pass_and_are_refused() -> Result {
    let (one, two) = joined()?;
    for (to, from) in [("10.9.0.2", "10.9.0.1"), ("fd09::2", "fd09::1")] {
        let (to, from): (IpAddr, IpAddr) = (to.parse()?, from.parse()?);
        ping(one.space(), to)?;
        let server = TcpEcho::start(two.space(), (to, 0).into())?;
        let exchanged = exchange(one.space(), server.address(), &vec![7; 300_000])?;
        assert_eq!(
            (exchanged.seen, exchanged.seen.ip()),
            (exchanged.local, from)
        );
        let address = server.address();
        drop(server);
        assert!(
            exchange(one.space(), address, b"x").is_err(),
            "the server has stopped"
        );
    }
    assert!(
        ping_within(one.space(), "10.9.0.3".parse()?, Duration::from_millis(300)).is_err(),
        "nobody is there"
    );
    assert!(
        ping(one.space(), "192.0.2.1".parse()?).is_err(),
        "there is no route"
    );
    Ok(())
}

fn the_loss_meter_counts_a_cut() -> Result {
    let (one, two) = joined()?;
    let server = UdpEcho::start(two.space(), "10.9.0.2:0".parse()?)?;
    let measure = |cut: bool| {
        let meter = LossMeter::start(one.space(), server.address())?;
        sleep(Duration::from_millis(200));
        if cut {
            one.command("ip").args(["link", "set", "v1", "down"]).ok()?;
            sleep(Duration::from_millis(100));
            one.command("ip").args(["link", "set", "v1", "up"]).ok()?;
            sleep(Duration::from_millis(200));
        }
        meter.stop()
    };
    let whole = measure(false)?;
    assert!(whole.lost.is_empty() && whole.sent > 150, "{whole:?}");
    let cut = measure(true)?;
    assert!(
        cut.lost.len() >= 80 && cut.lost.len() < cut.sent - 300,
        "{cut:?}"
    );
    assert!(cut.longest_gap >= Duration::from_millis(80), "{cut:?}");
    Ok(())
}

fn a_capture_reads_vxlan() -> Result {
    let (one, two) = joined()?;
    for (pod, number, other) in [(&one, 1, 2), (&two, 2, 1)] {
        let script = format!(
            "ip link add x up type vxlan id 77 dstport 4789 local 10.9.0.{number} remote 10.9.0.{other}
            ip address add 10.77.0.{number}/24 dev x"
        );
        pod.command("sh").args(["-ec", &script]).ok()?;
    }
    let outer = Capture::start(two.space(), Some("v2"))?;
    ping(one.space(), "10.77.0.2".parse()?)?;
    let packets = outer.stop()?;
    let (from, to): (IpAddr, IpAddr) = ("10.77.0.1".parse()?, "10.77.0.2".parse()?);
    let carried = packets.iter().filter_map(|packet| packet.vxlan.as_ref());
    let requests = carried.filter(|vxlan| vxlan.vni == 77 && vxlan.inner.is_between(from, to));
    assert!(
        requests.clone().any(|vxlan| vxlan.inner.protocol == "icmp"),
        "{packets:?}"
    );
    assert!(
        !packets.iter().any(|packet| packet.is_between(from, to)),
        "nothing goes bare"
    );
    Ok(())
}
