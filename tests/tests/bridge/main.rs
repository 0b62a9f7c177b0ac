//! `bridge`: what each key does to a real kernel, and that CHECK, GC and STATUS see what they should.
mod networks;
mod settings;

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context;
use lab::{Case, Need, Node, Plugins, Pod, Result};
use serde_json::Value;

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case(
            "pods_reach_each_other_and_the_gateway",
            networks::pods_reach_each_other_and_the_gateway,
        ),
        case(
            "a_bridge_that_is_there_is_used_as_it_is",
            networks::a_bridge_that_is_there_is_used_as_it_is,
        ),
        case("layer_2_needs_no_ipam", networks::layer_2_needs_no_ipam),
        case(
            "several_gateways_live_on_one_bridge",
            networks::several_gateways_live_on_one_bridge,
        ),
        case(
            "a_default_route_is_not_added_twice",
            networks::a_default_route_is_not_added_twice,
        ),
        case(
            "a_conflicting_gateway_is_refused_or_replaced",
            networks::a_conflicting_gateway_is_refused_or_replaced,
        ),
        case(
            "port_settings_reach_the_kernel",
            settings::port_settings_reach_the_kernel,
        ),
        case(
            "a_spoofed_mac_is_dropped",
            settings::a_spoofed_mac_is_dropped,
        ),
        case(
            "the_mtu_is_that_of_the_conf_or_of_the_default_route",
            settings::the_mtu_is_that_of_the_conf_or_of_the_default_route,
        ),
        case(
            "routes_keep_their_attributes",
            networks::routes_keep_their_attributes,
        ),
        case(
            "only_what_leaves_the_subnet_is_masqueraded",
            networks::only_what_leaves_the_subnet_is_masqueraded,
        ),
        case(
            "gc_of_many_waits_for_few",
            networks::gc_of_many_waits_for_few,
        ),
        case(
            "ipv6_is_usable_when_add_returns",
            networks::ipv6_is_usable_when_add_returns,
        ),
        case(
            "the_mac_comes_from_the_strongest_source",
            settings::the_mac_comes_from_the_strongest_source,
        ),
        case(
            "a_disabled_interface_stays_down",
            settings::a_disabled_interface_stays_down,
        ),
        case(
            "dns_of_the_conf_replaces_that_of_ipam",
            settings::dns_of_the_conf_replaces_that_of_ipam,
        ),
        case(
            "a_second_add_is_refused_and_harms_nothing",
            settings::a_second_add_is_refused_and_harms_nothing,
        ),
        case(
            "vlans_are_refused_clearly_or_set",
            settings::vlans_are_refused_clearly_or_set,
        ),
    ])
}

/// A node with Heddle's plugins and pods on it.
struct Lab {
    node: Node,
    plugins: Plugins,
}

impl Lab {
    fn new() -> Result<Lab> {
        let node = Node::new("node")?;
        Ok(Lab {
            plugins: Plugins::heddle(&node)?,
            node,
        })
    }

    fn add(&self, conf: &Value, name: &str) -> Result<(Pod, Value)> {
        let pod = self.node.pod(name)?;
        let result = self.plugins.add(conf, &pod)?.result()?;
        Ok((pod, result))
    }
}

fn address(result: &Value, index: usize) -> Result<IpAddr> {
    let text = result["ips"][index]["address"]
        .as_str()
        .context("no address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}
