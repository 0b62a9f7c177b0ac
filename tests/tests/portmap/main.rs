//! `portmap`: who reaches a pod by a port of the host, from where, and what is left of it afterwards.
mod care;
mod networks;
mod traffic;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use lab::chain::Attached;
use lab::probe::{TcpEcho, exchange};
use lab::{Case, Need, Result, Space, conf};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case("reached_from_everywhere", traffic::reached_from_everywhere),
        case(
            "only_the_host_address_asked_for",
            traffic::only_the_host_address_asked_for,
        ),
        case("transit_is_not_captured", traffic::transit_is_not_captured),
        case(
            "sources_are_kept_or_hidden",
            traffic::sources_are_kept_or_hidden,
        ),
        case(
            "conditions_decide_packet_by_packet",
            traffic::conditions_decide_packet_by_packet,
        ),
        case(
            "a_taken_port_is_refused_with_its_owner",
            traffic::a_taken_port_is_refused_with_its_owner,
        ),
        case(
            "two_networks_of_one_container",
            networks::two_networks_of_one_container,
        ),
        case("localhost_is_guarded", traffic::localhost_is_guarded),
        case("udp_follows_the_mapping", traffic::udp_follows_the_mapping),
        case("no_ports_no_work", care::no_ports_no_work),
        case("bad_configurations", care::bad_configurations),
        case(
            "check_sees_what_is_missing",
            care::check_sees_what_is_missing,
        ),
        case(
            "gc_removes_the_stale_and_nothing_else",
            care::gc_removes_the_stale_and_nothing_else,
        ),
        case("many_at_once", care::many_at_once),
        case("beside_masquerading", care::beside_masquerading),
        case("del_in_every_condition", care::del_in_every_condition),
        case(
            "add_with_each_call_failing",
            care::add_with_each_call_failing,
        )
        .needs([Need::Program("strace")]),
        case(
            "an_add_does_not_grow_with_the_ports",
            care::an_add_does_not_grow_with_the_ports,
        )
        .needs([Need::Program("strace")]),
    ])
}

/// The plugin with ports `[hostPort, containerPort, protocol, hostIP]` and other keys.
fn portmap(ports: &[(u16, u16, &str, &str)], changes: Value) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .map(|(host, container, protocol, ip)| {
            json!({"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": ip})
        })
        .collect();
    let plain = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "portmap", "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": ports},
    });
    conf::with(plain, changes)
}

fn at(ip: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(ip.parse()?, port))
}

/// Whom the pod sees when `from` talks to an address.
fn seen(from: &Space, to: SocketAddr) -> Result<IpAddr> {
    Ok(exchange(from, to, b"hello")?.seen.ip())
}

fn serve(pod: &Attached, port: u16) -> Result<[TcpEcho; 2]> {
    Ok([
        TcpEcho::start(pod.pod.space(), at("0.0.0.0", port)?)?,
        TcpEcho::start(pod.pod.space(), SocketAddr::new(pod.address(1)?, port))?,
    ])
}
