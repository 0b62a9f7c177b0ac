//! Care: what is refused, noticed, cleaned up, and left alone.
use super::*;

pub fn nothing_wanted_nothing_done() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = chain.snapshot()?;
    for conf in [
        bandwidth(json!({})),
        bandwidth(json!({"ingressRate": 0, "egressBurst": 0})),
    ] {
        assert_eq!(chain.add(&conf, &pod)?, pod.result);
        chain.check(&conf, &pod)?;
        chain.del(&conf, &pod)?;
        chain.snapshot()?.same_as(&before)?;
    }
    let (code, message) = chain
        .plugins
        .add(&bandwidth(json!({})), &pod.pod)?
        .failure()?;
    ensure!(
        code == 7 && message.contains("chained"),
        "{code}: {message}"
    );
    Ok(())
}

pub fn bad_configurations() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (changes, part) in [
        (json!({"ingressBurst": 1000}), "ingressBurst"),
        (json!({"egressRate": 7, "egressBurst": 8}), "egressRate"),
        (json!({"egressRate": -1}), "egressRate"),
        (json!({"ingressRate": M, "latency": 0}), "latency"),
        (
            json!({"runtimeConfig": {"bandwidth": {"ingressRate": "1M"}}}),
            "runtimeConfig.bandwidth.ingressRate",
        ),
    ] {
        let (code, message) = chain.refused(&bandwidth(changes), &pod)?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    sh(
        pod.pod.space(),
        "ip link add tap0 type ifb; ip link delete eth0",
    )?;
    let (code, message) = chain.refused(&everything(), &pod)?;
    ensure!(code == 7 && message.contains("eth0"), "{code}: {message}");
    chain.plugins.status(&everything())?.done()
}

pub fn everything() -> Value {
    bandwidth(json!({"ingressRate": 50 * M, "ingressBurst": M, "egressRate": 50 * M}))
}

pub fn check_sees_what_is_missing() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let conf = everything();
    let result = chain.add(&conf, &pod)?;
    let (link, ifb) = (
        pod.host_link()?,
        result["interfaces"][3]["name"].as_str().context("an ifb")?,
    );
    for damage in [
        format!("tc qdisc delete dev {link} root"),
        format!(
            "tc qdisc replace dev {link} root handle 1: tbf rate 51mbit burst 125kb latency 25ms"
        ),
        format!("tc qdisc replace dev {link} root handle 2: pfifo"),
        format!("tc qdisc delete dev {link} ingress"),
        format!("tc filter delete dev {link} ingress"),
        format!("tc qdisc delete dev {ifb} root"),
        format!("ip link set {ifb} down"),
        format!("ip link delete {ifb}"),
    ] {
        chain.check(&conf, &pod)?;
        sh(chain.node.space(), &damage)?;
        let before = chain.snapshot()?;
        chain
            .complaint(&conf, &pod)
            .with_context(|| damage.clone())?;
        chain.snapshot()?.same_as(&before)?;
        chain.add(&conf, &pod).with_context(|| damage.clone())?;
    }
    chain.del(&conf, &pod)
}

pub fn gc_removes_the_stale_and_nothing_else() -> Result {
    let chain = Chain::new()?;
    let pods = ["live", "stale", "elsewhere"];
    let pods: Vec<_> = pods
        .iter()
        .map(|name| chain.attach(name))
        .collect::<Result<_>>()?;
    let conf = bandwidth(json!({"egressRate": 50 * M}));
    chain.add(&conf, &pods[0])?;
    chain.add(
        &conf::with(conf.clone(), json!({"name": "other"})),
        &pods[2],
    )?;
    let ifbs = || -> Result<usize> {
        Ok(sh(chain.node.space(), "ip -br link show type ifb")?
            .lines()
            .count())
    };
    chain.add(&conf, &pods[1])?;
    chain.plugins.call("GC", &conf).send()?.done()?;
    assert_eq!(ifbs()?, 3);
    for _ in 0..2 {
        chain.plugins.gc(&conf, &[("live", "eth0")])?.done()?;
        assert_eq!(ifbs()?, 2);
    }
    chain.check(&conf, &pods[0])
}

pub fn del_in_every_condition() -> Result {
    Chain::new()?.del_in_every_condition(&everything())
}

pub fn add_with_each_call_failing() -> Result {
    Chain::new()?.add_with_each_call_failing(&everything())
}

pub fn many_at_once() -> Result {
    Chain::new()?.many_at_once(|_| everything())
}
