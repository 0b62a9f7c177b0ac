//! `portmap`: reference-plugins 1.x, in both of its forms.
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use lab::chain::Attached;
use lab::inspect::{ruleset, sh};
use lab::probe::{TcpEcho, exchange};
use lab::{Case, Result, Space, conf};
use serde_json::{Value, json};

use crate::{Side, any_version, defects};

pub fn cases() -> Vec<Case> {
    defects!(
        "portmap",
        any_version,
        [
            a_port_that_cannot_be_is_named,
            a_protocol_in_capitals_is_known,
            a_port_that_is_taken_is_refused,
            a_del_without_ports_leaves_nothing,
            check_sees_that_masquerading_is_gone,
            addresses_of_localhost_are_no_wires,
            flows_of_others_go_on,
            flows_to_the_pod_end_with_it,
        ]
    )
}

pub fn cases_of_nftables() -> Vec<Case> {
    defects!(
        "portmap",
        knows_nftables,
        [
            a_del_with_another_backend_leaves_nothing,
            a_del_of_one_network_leaves_the_other,
            conditions_are_those_of_the_network,
            check_compares_more_than_the_number,
            nothing_is_started_for_no_ports,
        ]
    )
}

/// Older ones do not know the key and use iptables.
fn knows_nftables(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("probe")?;
    side.done("ADD", &tcp(1, json!({"backend": "nftables"})), &pod)?;
    side.has_rule("cni_hostport")
}

fn portmap(ports: Value, changes: Value) -> Value {
    let plain = json!({"name": "lab", "type": "portmap", "backend": "iptables", "runtimeConfig": {"portMappings": ports}});
    conf::with(plain, changes)
}

fn tcp(port: u16, changes: Value) -> Value {
    portmap(
        json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]),
        changes,
    )
}

fn reaches(from: &Space, ip: &str, port: u16) -> Result<bool> {
    Ok(exchange(from, SocketAddr::new(ip.parse()?, port), b"hello").is_ok())
}

fn serve(pod: &Attached) -> Result<TcpEcho> {
    TcpEcho::start(pod.pod.space(), "0.0.0.0:80".parse()?)
}

/// 70000 reaches iptables, whose complaint is what the user gets, with code 999.
fn a_port_that_cannot_be_is_named(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let ports = json!([{"hostPort": 70000, "containerPort": 80, "protocol": "tcp"}]);
    let (code, message) = side
        .send("ADD", &portmap(ports, json!({})), &pod)?
        .failure()?;
    Ok(code == 7 && message.contains("hostPort 70000"))
}

fn a_protocol_in_capitals_is_known(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "Xtp"}]);
    let (code, message) = side
        .send("ADD", &portmap(ports, json!({})), &pod)?
        .failure()?;
    Ok(code == 7 && message.contains("tcp, udp or sctp"))
}

/// It is accepted, and leads to the first pod although the documentation says the last.
fn a_port_that_is_taken_is_refused(side: &Side) -> Result<bool> {
    let (one, two) = (side.chain.attach("one")?, side.chain.attach("two")?);
    let conf = tcp(8080, json!({}));
    side.done("ADD", &conf, &one)?;
    let reply = side.send("ADD", &conf, &two)?;
    if reply.is_success() {
        let _server = serve(&two)?;
        return reaches(side.chain.world.space(), "192.0.2.1", 8080);
    }
    let (code, message) = reply.failure()?;
    Ok(code == 7 && message.contains("container one"))
}

fn a_del_without_ports_leaves_nothing(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &tcp(8080, json!({})), &pod)?;
    side.done("DEL", &portmap(json!([]), json!({})), &pod)?;
    Ok(!side.has_rule("10.88.0.")?)
}

/// iptables' chains that mark and masquerade are not looked at; 1.1 finds fault with whatever has one family.
fn check_sees_that_masquerading_is_gone(side: &Side) -> Result<bool> {
    let pod = side.attach_v4("pod")?;
    let conf = tcp(8080, json!({}));
    side.done("ADD", &conf, &pod)?;
    if !side.send("CHECK", &conf, &pod)?.is_success() {
        return Ok(false);
    }
    sh(
        side.chain.node.space(),
        "iptables -t nat -F CNI-HOSTPORT-MASQ 2>/dev/null || nft flush chain inet heddle_cni hostports_masquerade",
    )?;
    Ok(!side.send("CHECK", &conf, &pod)?.is_success())
}

/// `route_localnet` lets a pod reach what the host keeps to itself on 127.0.0.1, unless a rule guards it.
fn addresses_of_localhost_are_no_wires(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &tcp(8080, json!({})), &pod)?;
    let node = side.chain.node.space();
    let _secret = TcpEcho::start(node, "127.0.0.1:7777".parse()?)?;
    sh(
        pod.pod.space(),
        "ip link set lo up; ip address delete 127.0.0.1/8 dev lo\n\
         ip route add 127.0.0.1/32 via 10.88.0.1; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet\n\
         ip route delete local 127.0.0.0/8 dev lo table local 2>/dev/null || true",
    )?;
    Ok(!reaches(pod.pod.space(), "127.0.0.1", 7777)?)
}

/// UDP flows of which a rule keeps track, and a client of a server beyond the node.
struct Flows {
    socket: UdpSocket,
}

impl Flows {
    fn new(side: &Side, from: &Space, port: u16) -> Result<Flows> {
        sh(
            side.chain.node.space(),
            "nft 'add table inet x; add chain inet x c { type filter hook prerouting priority 0; }; add rule inet x c ct state new counter'",
        )?;
        let socket = from.run(|| UdpSocket::bind(("0.0.0.0", port)))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        Ok(Flows { socket })
    }

    fn send(&self, to: &str) -> Result {
        self.socket
            .send_to(b"hello", to)
            .context("sending")
            .map(drop)
    }

    fn tracked(side: &Side, part: &str) -> Result<bool> {
        let table = "/proc/thread-self/net/nf_conntrack";
        let table = side.chain.node.run(|| std::fs::read_to_string(table))?;
        Ok(table.contains(part))
    }
}

fn udp(port: u16) -> Value {
    portmap(
        json!([{"hostPort": port, "containerPort": 53, "protocol": "udp"}]),
        json!({}),
    )
}

/// A flow through the node, to the same port somewhere else.
fn flows_of_others_go_on(side: &Side) -> Result<bool> {
    let (pod, other) = (side.chain.attach("pod")?, side.chain.attach("other")?);
    let client = Flows::new(side, other.pod.space(), 5555)?;
    client.send("192.0.2.2:5353")?;
    let is_tracked = || Flows::tracked(side, "dst=192.0.2.2 sport=5555 dport=5353");
    anyhow::ensure!(is_tracked()?, "the premise");
    side.done("ADD", &udp(5353), &pod)?;
    is_tracked()
}

fn flows_to_the_pod_end_with_it(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let client = Flows::new(side, side.chain.world.space(), 5556)?;
    side.done("ADD", &udp(5353), &pod)?;
    client.send("192.0.2.1:5353")?;
    let is_tracked = || Flows::tracked(side, &format!("src={} dst=192.0.2.2", pod.address(0)?));
    anyhow::ensure!(is_tracked()?, "the premise");
    side.done("DEL", &udp(5353), &pod)?;
    Ok(!is_tracked()?)
}

fn nftables() -> Value {
    json!({"backend": "nftables"})
}

/// The rules that the other backend has made stay.
fn a_del_with_another_backend_leaves_nothing(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &tcp(8080, json!({"backend": "iptables"})), &pod)?;
    side.done("DEL", &tcp(8080, nftables()), &pod)?;
    Ok(!side.has_rule("8080")?)
}

/// Two networks of one container: their rules have one comment.
fn a_del_of_one_network_leaves_the_other(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let of = |network: &str, port| tcp(port, json!({"backend": "nftables", "name": network}));
    side.done("ADD", &of("one", 8081), &pod)?;
    side.done("ADD", &of("two", 8082), &pod)?;
    side.done("DEL", &of("two", 8082), &pod)?;
    side.has_rule("8081")
}

/// The rule with the conditions is one for all, and each ADD writes it anew.
fn conditions_are_those_of_the_network(side: &Side) -> Result<bool> {
    let (one, two) = (side.chain.attach("one")?, side.chain.attach("two")?);
    let of = |network: &str, port, conditions: Value| {
        tcp(
            port,
            json!({"backend": "nftables", "name": network, "conditionsV4": conditions}),
        )
    };
    let _server = serve(&one)?;
    side.done("ADD", &of("one", 8081, json!([])), &one)?;
    side.done(
        "ADD",
        &of("two", 8082, json!(["ip", "saddr", "10.1.1.1"])),
        &two,
    )?;
    reaches(side.chain.world.space(), "192.0.2.1", 8081)
}

/// Rules that lead elsewhere are as many.
fn check_compares_more_than_the_number(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = tcp(8080, nftables());
    side.done("ADD", &conf, &pod)?;
    side.done("CHECK", &conf, &pod)?;
    let node = side.chain.node.space();
    let changed = ruleset(node)?.replace("10.88.0.", "10.88.9.");
    let mut nft = node.command("nft");
    nft.args(["-f", "-"])
        .stdin(format!("flush ruleset\n{changed}"))
        .ok()?;
    Ok(!side.send("CHECK", &conf, &pod)?.is_success())
}

/// To find out which backend there is, programs are run that nobody needs.
fn nothing_is_started_for_no_ports(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = portmap(json!([]), json!({"backend": null}));
    let reply = side.call("ADD", &conf, &pod).traced().send()?;
    reply.done()?;
    Ok(reply.trace.programs() == 0)
}
