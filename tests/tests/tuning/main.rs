//! `tuning`: each setting reaches the kernel, both ends of the link where it has to, and goes back on DEL.
mod care;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::chain::{Attached, Chain};
use lab::inspect::{ip_one, sh};
use lab::probe::{TcpEcho, exchange};
use lab::{Case, Need, Result, conf, with_prev};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case(
            "settings_reach_the_kernel_and_go_back",
            settings_reach_the_kernel_and_go_back,
        ),
        case("both_ends_have_the_mtu", both_ends_have_the_mtu),
        case("the_strongest_source_wins", the_strongest_source_wins),
        case("sysctls_are_those_of_the_pod", sysctls_are_those_of_the_pod),
        case(
            "only_allowed_sysctls_are_changed",
            care::only_allowed_sysctls_are_changed,
        ),
        case("bad_configurations", care::bad_configurations),
        case(
            "check_sees_what_has_changed",
            care::check_sees_what_has_changed,
        ),
        case(
            "gc_removes_the_stale_and_nothing_else",
            care::gc_removes_the_stale_and_nothing_else,
        ),
        case(
            "a_backup_of_the_reference_is_put_back",
            care::a_backup_of_the_reference_is_put_back,
        ),
        case(
            "a_pod_out_of_reach_is_put_right_later",
            care::a_pod_out_of_reach_is_put_right_later,
        ),
        case("many_at_once", care::many_at_once),
        case("del_in_every_condition", care::del_in_every_condition),
        case(
            "add_with_each_call_failing",
            care::add_with_each_call_failing,
        )
        .needs([Need::Program("strace")]),
    ])
}

fn tuning(changes: Value) -> Value {
    conf::with(
        json!({"cniVersion": "1.1.0", "name": "lab", "type": "tuning"}),
        changes,
    )
}

fn everything() -> Value {
    tuning(json!({
        "sysctl": {"net.ipv4.conf.IFNAME.proxy_arp": "1", "net.ipv4.ip_local_port_range": "20000 30000"},
        "mac": "02:00:00:00:00:77", "mtu": 1300, "promisc": true, "allmulti": true, "txQLen": 77,
    }))
}

fn sysctl(pod: &Attached, key: &str) -> Result<String> {
    let path = format!("/proc/sys/net/{key}");
    Ok(pod.pod.run(|| fs::read_to_string(path))?.trim().to_owned())
}

fn settings_reach_the_kernel_and_go_back() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let show = || ip_one(pod.pod.space(), "link show dev eth0");
    let before = show()?;
    let conf = everything();
    let printed = chain.add(&conf, &pod)?;
    let mut expected = pod.result.clone();
    expected["interfaces"][2]["mac"] = "02:00:00:00:00:77".into();
    for index in [1, 2] {
        expected["interfaces"][index]["mtu"] = 1300.into();
    }
    assert_eq!(printed, expected, "nothing else of the result is changed");
    let shown = show()?;
    assert_eq!(
        (&shown["address"], &shown["mtu"], &shown["txqlen"]),
        (&json!("02:00:00:00:00:77"), &json!(1300), &json!(77))
    );
    for flag in ["PROMISC", "ALLMULTI"] {
        ensure!(shown["flags"].to_string().contains(flag), "{flag}: {shown}");
    }
    assert_eq!(sysctl(&pod, "ipv4/conf/eth0/proxy_arp")?, "1");
    assert_eq!(sysctl(&pod, "ipv4/ip_local_port_range")?, "20000\t30000");
    chain.check(&conf, &pod)?;
    chain.check_bridge(&pod, &printed)?;
    // However often ADD comes, what was there at first is put back.
    chain.add(&conf, &pod)?;
    chain.add(&tuning(json!({"mtu": 1200})), &pod)?;
    chain.del(&tuning(json!({})), &pod)?;
    assert_eq!(show()?, before);
    assert_eq!(sysctl(&pod, "ipv4/conf/eth0/proxy_arp")?, "0");
    Ok(())
}

fn both_ends_have_the_mtu() -> Result {
    let chain = Chain::new()?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let conf = tuning(json!({"mtu": 1300}));
    chain.add(&conf, &pod)?;
    let host_end = || {
        ip_one(
            chain.node.space(),
            &format!("link show dev {}", pod.host_link()?),
        )
    };
    assert_eq!(host_end()?["mtu"], 1300);
    assert_eq!(
        ip_one(chain.node.space(), "link show dev cbr0")?["mtu"],
        1500,
        "the other pods' MTU"
    );
    let server = TcpEcho::start(pod.pod.space(), (pod.address(0)?, 80).into())?;
    exchange(other.pod.space(), server.address(), &[1; 200_000])?;
    chain.check(&conf, &pod)?;
    chain.del(&conf, &pod)?;
    assert_eq!(host_end()?["mtu"], 1500);
    Ok(())
}

fn the_strongest_source_wins() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let mac = |digit: u8| format!("02:00:00:00:00:0{digit}");
    let sources = [
        json!({"mac": mac(1)}),
        json!({}),
        json!({"runtimeConfig": {"mac": mac(3)}}),
        json!({"args": {"cni": {"mac": mac(4), "mtu": 1234, "sysctl": {"net.ipv4.conf.IFNAME.proxy_arp": "1"}}}}),
    ];
    let mut conf = tuning(json!({}));
    for (index, source) in sources.into_iter().enumerate() {
        conf = conf::with(conf, source);
        let mut call = chain
            .plugins
            .call("ADD", &with_prev(&conf, &pod.result))
            .pod(&pod.pod);
        if index > 0 {
            call = call.args(&format!("IgnoreUnknown=1;K8S_POD_NAME=x;MAC={}", mac(2)));
        }
        let result = call.send()?.result()?;
        assert_eq!(
            result["interfaces"][2]["mac"],
            mac(u8::try_from(index)? + 1),
            "{conf}"
        );
    }
    assert_eq!(ip_one(pod.pod.space(), "link show dev eth0")?["mtu"], 1234);
    assert_eq!(sysctl(&pod, "ipv4/conf/eth0/proxy_arp")?, "1");
    chain.del(&conf, &pod)
}

fn sysctls_are_those_of_the_pod() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let host = || {
        chain
            .node
            .run(|| fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies"))
    };
    let (before, conf) = (
        host()?,
        tuning(json!({"sysctl": {"net.ipv4.tcp_syncookies": "0"}})),
    );
    chain.add(&conf, &pod)?;
    assert_eq!(sysctl(&pod, "ipv4/tcp_syncookies")?, "0");
    assert_eq!(host()?, before, "the host's own is left alone");
    chain.del(&conf, &pod)?;
    assert_eq!(sysctl(&pod, "ipv4/tcp_syncookies")?, "1");
    Ok(())
}
