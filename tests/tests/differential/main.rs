//! The same calls to Debian's reference plugins and to Heddle's: same results, same errors, same kernel state.
mod bridge;
mod door;
mod host_local;
mod loopback;
mod normal;
mod static_addresses;
mod twins;

use std::process::ExitCode;

use lab::{Case, Need};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let references = ["bridge", "host-local", "static", "loopback"].map(Need::Reference);
    let case = |name, body| Case::new(name, body).needs(needs).needs(references);
    lab::main([
        case("bridge_gateway", || bridge::same("gateway")),
        case("bridge_masquerade", || bridge::same("masquerade")).needs([Need::Program("iptables")]),
        case("bridge_default_gateway", || bridge::same("default_gateway")),
        case("bridge_dual_stack", || bridge::same("dual_stack")),
        case("bridge_static", || bridge::same("static")),
        case("bridge_layer_2", || bridge::same("layer_2")),
        case("bridge_mtu", || bridge::same("mtu")),
        case("bridge_hairpin", || bridge::same("hairpin")),
        case("bridge_that_is_there", bridge::existing_bridges),
        case(
            "bridge_masquerade_from_outside",
            bridge::masquerade_seen_by_the_world,
        )
        .needs([Need::Program("iptables")]),
        case("bridge_damage_is_seen", bridge::damage_is_seen),
        case("bridge_refusals", bridge::refusals),
        case("host_local_lives", host_local::lives),
        case("host_local_requests", host_local::requests),
        case("host_local_refusals", host_local::refusals),
        case("host_local_exhaustion", host_local::exhaustion),
        case("static_addresses", static_addresses::same),
        case("static_refusals", static_addresses::refusals),
        case("loopback", loopback::same),
        case("loopback_passes_on", loopback::passes_on),
        case("version", door::version),
        case("the_calls_outer_form", door::outer_form),
    ])
}
