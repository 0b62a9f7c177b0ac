//! `sbr`: an answer leaves by the interface that was asked.
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use lab::chain::{Attached, Chain};
use lab::inspect::{ip, sh};
use lab::probe::{TcpEcho, exchange};
use lab::{Call, Case, Need, Plugins, Pod, Result, Snapshot, conf, with_prev};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    let reference = ["sbr", "bridge", "host-local"].map(Need::Reference);
    vec![
        Case::new("sbr_answers_leave_by_the_interface_that_was_asked", answers),
        Case::new("sbr_each_address_has_a_table", tables),
        Case::new("sbr_a_named_table_gets_rules_only", named_table),
        Case::new("sbr_hints_keep_the_subnet_in_the_main_table", hints),
        Case::new("sbr_a_second_add_and_a_second_interface", second),
        Case::new("sbr_bad_configurations", bad_configurations),
        Case::new("sbr_check_sees_what_is_missing", check),
        Case::new("sbr_del_in_every_condition", || {
            Chain::new()?.del_in_every_condition(&sbr(json!({})))
        }),
        Case::new("sbr_del_after_the_link_has_gone", link_gone),
        Case::new("sbr_many_at_once", || {
            Chain::new()?.many_at_once(|_| sbr(json!({})))
        }),
        Case::new("sbr_add_with_each_call_failing", || {
            Chain::new()?.add_with_each_call_failing(&sbr(json!({"addSourceHints": true})))
        })
        .needs([Need::Program("strace")]),
        Case::new("sbr_what_the_reference_does_wrong", against_the_reference).needs(reference),
        Case::new("sbr_rules_of_the_reference_are_deleted", change_over).needs(reference),
    ]
}

fn sbr(changes: Value) -> Value {
    let plain = json!({"cniVersion": "1.1.0", "name": "lab", "type": "sbr"});
    conf::with(plain, changes)
}

/// A second interface of the pod, `eth1`, on a wire of its own with the world; beyond that are 198.51.100.7 and fd51::7.
fn second_interface(chain: &Chain, pod: &Attached) -> Result<Value> {
    sh(
        chain.node.space(),
        &format!(
            "ip link add eth1 netns {} type veth peer name eth1 netns world",
            pod.pod.name()
        ),
    )?;
    sh(
        chain.world.space(),
        "ip link set eth1 up; ip address add 203.0.113.1/24 dev eth1; ip address add fd03::1/64 dev eth1 nodad\n\
         ip address add 198.51.100.7/32 dev lo; ip address add fd51::7/128 dev lo nodad",
    )?;
    sh(
        pod.pod.space(),
        "ip link set eth1 up; ip address add 203.0.113.5/24 dev eth1; ip address add fd03::5/64 dev eth1 nodad",
    )?;
    Ok(json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth1", "sandbox": pod.pod.netns()}],
        "ips": [
            {"address": "203.0.113.5/24", "gateway": "203.0.113.1", "interface": 0},
            {"address": "fd03::5/64", "gateway": "fd03::1", "interface": 0},
        ],
    }))
}

/// The pod without what the kernel adds to its own table when IPv6 is done with an address.
fn inside(pod: &Attached) -> Result<Snapshot> {
    Ok(Snapshot::of(pod.pod.space())?.without(&["\"table\":\"local\""]))
}

fn on_eth1(chain: &Chain, verb: &str, conf: &Value, result: &Value, pod: &Pod) -> Call {
    let conf = with_prev(conf, result);
    chain.plugins.call(verb, &conf).pod(pod).ifname("eth1")
}

/// From the address beyond the second wire to the pod's address on it.
fn asked(chain: &Chain, pod: &Pod) -> Result {
    for (from, to) in [("198.51.100.7", "203.0.113.5"), ("fd51::7", "fd03::5")] {
        let echo = TcpEcho::start(pod.space(), SocketAddr::new(to.parse()?, 0))?;
        let route = if from.contains(':') { "-6" } else { "-4" };
        sh(
            chain.world.space(),
            &format!("ip {route} route replace {to} dev eth1 src {from}"),
        )?;
        exchange(chain.world.space(), echo.address(), b"some bytes").context(to)?;
    }
    Ok(())
}

fn answers() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let result = second_interface(&chain, &pod)?;
    ensure!(
        asked(&chain, &pod.pod).is_err(),
        "the answer found its way without"
    );
    let before = inside(&pod)?;
    let conf = sbr(json!({}));
    let printed = on_eth1(&chain, "ADD", &conf, &result, &pod.pod)
        .send()?
        .result()?;
    assert_eq!(printed["ips"], result["ips"], "passed through");
    asked(&chain, &pod.pod)?;
    on_eth1(&chain, "CHECK", &conf, &result, &pod.pod)
        .send()?
        .done()?;
    // The first interface is as before.
    chain.check_bridge(&pod, &pod.result)?;
    on_eth1(&chain, "DEL", &conf, &result, &pod.pod)
        .send()?
        .done()?;
    inside(&pod)?.same_as(&before)?;
    // Gateways of the configuration's own.
    let mut bare = result.clone();
    for ip in bare["ips"].as_array_mut().into_iter().flatten() {
        ip["gateway"] = Value::Null;
    }
    let own = sbr(json!({"gateways": ["203.0.113.1", "fd03::1"]}));
    let on_pod = |verb: &str| on_eth1(&chain, verb, &own, &bare, &pod.pod).send()?.done();
    on_pod("ADD")?;
    asked(&chain, &pod.pod)?;
    on_pod("CHECK")?;
    on_pod("DEL")?;
    // They go before others that the interface has, and those come back.
    sh(
        pod.pod.space(),
        "ip route add default via 203.0.113.9 metric 5; ip -6 route add default via fd03::9 metric 2048",
    )?;
    let before = inside(&pod)?;
    on_pod("ADD")?;
    asked(&chain, &pod.pod)?;
    on_pod("DEL")?;
    inside(&pod)?.same_as(&before)
}

fn tables() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let conf = sbr(json!({}));
    chain.add(&conf, &pod)?;
    let of = |table: &str| ip(pod.pod.space(), &format!("-4 route show table {table}"));
    let (main, own) = (of("main")?, of("100")?);
    ensure!(main.is_empty(), "left in the main table: {main:?}");
    let shown: Vec<_> = own.iter().map(|route| route["dst"].clone()).collect();
    assert_eq!(shown, ["default", "10.88.0.0/24"]);
    let rules = ip(pod.pod.space(), "rule show table 100")?;
    assert_eq!(
        (&rules[0]["src"], &rules[0]["protocol"]),
        (&pod.address(0)?.to_string().into(), &json!("176"))
    );
    let six = ip(pod.pod.space(), "-6 route show table 101")?;
    ensure!(six.iter().any(|route| route["dst"] == "default"), "{six:?}");
    let link_local = ip(pod.pod.space(), "-6 route show table main")?;
    ensure!(
        link_local
            .iter()
            .all(|route| route["dst"].to_string().contains("fe80")),
        "{link_local:?}"
    );
    chain.check(&conf, &pod)?;
    chain.check_bridge(&pod, &pod.result)?;
    chain.del(&conf, &pod)
}

fn named_table() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    sh(
        pod.pod.space(),
        "ip route add default via 10.88.0.1 dev eth0 table 5001",
    )?;
    let before = inside(&pod)?;
    let conf = sbr(json!({"table": 5001}));
    chain.add(&conf, &pod)?;
    ensure!(ip(pod.pod.space(), "rule show table 5001")?.len() == 1);
    let routes = |snapshot: &Snapshot| -> Vec<String> {
        let lines = snapshot.lines().filter(|line| line.starts_with("route"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(routes(&inside(&pod)?), routes(&before));
    chain.check(&conf, &pod)?;
    chain.complaint(&sbr(json!({"table": 5002})), &pod)?;
    chain.del(&conf, &pod)?;
    inside(&pod)?.same_as(&before)
}

fn hints() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = inside(&pod)?;
    let conf = sbr(json!({"addSourceHints": true}));
    chain.add(&conf, &pod)?;
    let main = ip(pod.pod.space(), "-4 route show table main")?;
    assert_eq!(main.len(), 1, "{main:?}");
    assert_eq!(
        (&main[0]["dst"], &main[0]["prefsrc"]),
        (&json!("10.88.0.0/24"), &json!(pod.address(0)?.to_string()))
    );
    lab::probe::ping(pod.pod.space(), "10.88.0.1".parse()?)?;
    lab::probe::ping(pod.pod.space(), "fd88::1".parse()?)?;
    chain.check(&conf, &pod)?;
    chain.del(&conf, &pod)?;
    inside(&pod)?.same_as(&before)
}

fn second() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let result = second_interface(&chain, &pod)?;
    let (conf, before) = (sbr(json!({})), inside(&pod)?);
    let rules = || {
        Ok::<_, anyhow::Error>(
            ip(pod.pod.space(), "rule show")?.len() + ip(pod.pod.space(), "-6 rule show")?.len(),
        )
    };
    let none = rules()?;
    for _ in 0..2 {
        chain.add(&conf, &pod)?;
        assert_eq!(rules()?, none + 2);
    }
    on_eth1(&chain, "ADD", &conf, &result, &pod.pod)
        .send()?
        .done()?;
    assert_eq!(rules()?, none + 4);
    chain.check(&conf, &pod)?;
    chain.del(&conf, &pod)?;
    assert_eq!(rules()?, none + 2);
    on_eth1(&chain, "CHECK", &conf, &result, &pod.pod)
        .send()?
        .done()?;
    on_eth1(&chain, "DEL", &conf, &result, &pod.pod)
        .send()?
        .done()?;
    inside(&pod)?.same_as(&before)
}

fn bad_configurations() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (changes, part) in [
        (json!({"table": 0}), "\"table\": 0"),
        (json!({"table": -1}), "\"table\": -1"),
        (json!({"table": "main"}), "table"),
        (json!({"gateways": ["here"]}), "\"gateways\": \"here\""),
        (
            json!({"gateways": ["10.0.0.1", "10.0.0.2"]}),
            "leave one of them out",
        ),
        (json!({"gateways": "10.0.0.1"}), "gateways"),
    ] {
        let (code, message) = chain.refused(&sbr(changes), &pod)?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    let (code, message) = chain.plugins.add(&sbr(json!({})), &pod.pod)?.failure()?;
    ensure!(
        code == 7 && message.contains("chained"),
        "{code}: {message}"
    );
    let nothing = with_prev(
        &sbr(json!({})),
        &json!({"cniVersion": "1.1.0", "interfaces": []}),
    );
    let (code, message) = chain.plugins.add(&nothing, &pod.pod)?.failure()?;
    ensure!(
        code == 7 && message.contains("has no addresses"),
        "{code}: {message}"
    );
    sh(pod.pod.space(), "ip link delete eth0")?;
    let (code, message) = chain.refused(&sbr(json!({})), &pod)?;
    ensure!(
        code == 4 && message.contains("no interface eth0"),
        "{code}: {message}"
    );
    chain.plugins.status(&sbr(json!({})))?.done()?;
    chain.plugins.gc(&sbr(json!({})), &[])?.done()
}

fn check() -> Result {
    let chain = Chain::new()?;
    let conf = sbr(json!({}));
    for (number, damage) in [
        "ip rule delete table 100",
        "ip -6 rule delete table 101",
        "ip route delete default table 100",
        "ip -6 route delete default table 101",
        "ip route flush table 100",
        "ip link delete eth0",
    ]
    .into_iter()
    .enumerate()
    {
        let pod = chain.attach(&format!("pod{number}"))?;
        chain.add(&conf, &pod)?;
        chain.check(&conf, &pod)?;
        sh(pod.pod.space(), damage)?;
        let before = inside(&pod)?;
        chain.complaint(&conf, &pod).context(damage)?;
        inside(&pod)?.same_as(&before)?;
        chain.del(&conf, &pod).context(damage)?;
    }
    Ok(())
}

/// The rules are found without the interface and its addresses.
fn link_gone() -> Result {
    let chain = Chain::new()?;
    for with_result in [true, false] {
        let pod = chain.attach(&format!("pod-{with_result}"))?;
        let conf = sbr(json!({}));
        let rules = || {
            Ok::<_, anyhow::Error>((
                ip(pod.pod.space(), "rule show")?,
                ip(pod.pod.space(), "-6 rule show")?,
            ))
        };
        let before = rules()?;
        chain.add(&conf, &pod)?;
        ensure!(rules()? != before);
        sh(pod.pod.space(), "ip link delete eth0")?;
        let conf = if with_result {
            with_prev(&conf, &pod.result)
        } else {
            conf
        };
        for _ in 0..2 {
            chain.plugins.del(&conf, &pod.pod)?.done()?;
            assert_eq!(rules()?, before);
        }
    }
    Ok(())
}

fn old(changes: Value) -> Value {
    sbr(conf::with(json!({"cniVersion": "1.0.0"}), changes))
}

/// With each, in turn: a pod that it has worked on, and one DEL.
fn against_the_reference() -> Result {
    type Defect = (&'static str, fn(&Chain, &Plugins, &Attached) -> Result);
    let defects: [Defect; 4] = [
        (
            "DEL makes a file where the namespace was",
            |chain, plugins, pod| {
                let path = pod.pod.netns().to_string_lossy().into_owned();
                pod.pod.unmount(false)?;
                let _ = plugins.del(&old(json!({})), &pod.pod)?;
                ensure!(
                    !chain.node.run(|| pod.pod.netns().exists()),
                    "{path} is there"
                );
                Ok(())
            },
        ),
        ("DEL without a namespace", |_, plugins, pod| {
            let call = plugins.call("DEL", &old(json!({}))).pod(&pod.pod);
            call.netns("").send()?.done()
        }),
        ("DEL after the link has gone", |_, plugins, pod| {
            sh(pod.pod.space(), "ip link delete eth0")?;
            plugins.del(&old(json!({})), &pod.pod)?.done()?;
            let rules = ip(pod.pod.space(), "rule show")?;
            ensure!(rules.len() == 3, "left: {rules:?}");
            Ok(())
        }),
        ("CHECK sees nothing", |_, plugins, pod| {
            sh(pod.pod.space(), "ip rule delete table 100")?;
            let mut result = pod.result.clone();
            result["cniVersion"] = "1.0.0".into();
            plugins
                .check(&old(json!({})), &pod.pod, &result)?
                .failure()
                .map(drop)
        }),
    ];
    let chain = Chain::new()?;
    let theirs = Plugins::reference(&chain.node);
    for (number, (what, defect)) in defects.into_iter().enumerate() {
        for (plugins, right) in [(&chain.plugins, true), (&theirs, false)] {
            let pod = chain.attach(&format!("pod-{number}-{right}"))?;
            let mut result = pod.result.clone();
            result["cniVersion"] = "1.0.0".into();
            plugins
                .add(&with_prev(&old(json!({})), &result), &pod.pod)?
                .done()?;
            let outcome = defect(&chain, plugins, &pod);
            match right {
                true => outcome.context(what)?,
                false => ensure!(outcome.is_err(), "the reference does this right: {what}"),
            }
        }
    }
    Ok(())
}

fn change_over() -> Result {
    let chain = Chain::new()?;
    let theirs = Plugins::reference(&chain.node);
    for (adding, deleting) in [(&theirs, &chain.plugins), (&chain.plugins, &theirs)] {
        let pod = chain.attach(if std::ptr::eq(adding, &theirs) {
            "theirs"
        } else {
            "ours"
        })?;
        let none = ip(pod.pod.space(), "rule show")?;
        let mut result = pod.result.clone();
        result["cniVersion"] = "1.0.0".into();
        let conf = with_prev(&old(json!({})), &result);
        adding.add(&conf, &pod.pod)?.done()?;
        deleting.del(&conf, &pod.pod)?.done()?;
        assert_eq!(ip(pod.pod.space(), "rule show")?, none);
    }
    Ok(())
}
