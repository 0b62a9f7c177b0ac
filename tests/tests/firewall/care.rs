//! Care: what is refused, noticed, cleaned up, and left alone.
use super::*;

pub fn open_changes_nothing_without_iptables() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = chain.snapshot()?;
    for conf in [
        firewall(json!({})),
        firewall(json!({"ingressPolicy": "open", "backend": "iptables"})),
    ] {
        chain.add(&conf, &pod)?;
        chain.snapshot()?.same_as(&before)?;
        chain.check(&conf, &pod)?;
        chain.del(&conf, &pod)?;
    }
    // A layer 2 pod has no addresses to let through.
    let mut bare = pod.result.clone();
    bare["ips"] = json!([]);
    let conf = with_prev(&firewall(json!({"ingressPolicy": "same-bridge"})), &bare);
    assert_eq!(
        chain.plugins.add(&conf, &pod.pod)?.result()?["interfaces"],
        bare["interfaces"]
    );
    chain.snapshot()?.same_as(&before)
}

pub fn bad_configurations() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (changes, expected, part) in [
        (json!({"backend": "ipfw"}), 7, "ipfw"),
        (json!({"ingressPolicy": "closed"}), 7, "closed"),
        (json!({"ingressPolicy": 5}), 7, "ingressPolicy"),
    ] {
        let (code, message) = chain.refused(&firewall(changes), &pod)?;
        ensure!(
            code == expected && message.contains(part),
            "{code}: {message}"
        );
    }
    let mut routed = pod.result.clone();
    routed["interfaces"][0]["name"] = "up0".into();
    let conf = with_prev(&firewall(json!({"ingressPolicy": "isolated"})), &routed);
    let (code, message) = chain.plugins.add(&conf, &pod.pod)?.failure()?;
    ensure!(code == 7 && message.contains("bridge"), "{code}: {message}");
    let (code, message) = chain
        .plugins
        .add(&firewall(json!({})), &pod.pod)?
        .failure()?;
    ensure!(
        code == 7 && message.contains("chained"),
        "{code}: {message}"
    );
    chain.plugins.status(&firewall(json!({})))?.done()
}

pub fn check_sees_what_is_missing() -> Result {
    for damage in [
        "iptables -D FORWARD -m comment --comment heddle -j HEDDLE-FORWARD",
        "iptables -F HEDDLE-FORWARD",
        "ip6tables -D HEDDLE-FORWARD 1",
        "nft flush map inet heddle_cni firewall4",
        "nft flush set inet heddle_cni firewall_bridges",
        "nft flush chain inet heddle_cni firewall",
        "nft flush chain inet heddle_cni firewall-isolated-cbr0",
    ] {
        let chain = dropping()?;
        let pod = chain.attach("pod")?;
        let conf = firewall(json!({"ingressPolicy": "isolated"}));
        chain.add(&conf, &pod)?;
        chain.check(&conf, &pod)?;
        sh(chain.node.space(), damage)?;
        let before = chain.snapshot()?;
        chain.complaint(&conf, &pod).with_context(|| damage)?;
        chain.snapshot()?.same_as(&before)?;
        chain.del(&conf, &pod).with_context(|| damage)?;
        let left = ruleset(chain.node.space())?;
        ensure!(!left.to_lowercase().contains("heddle"), "{damage}: {left}");
    }
    // A chain that drops and came later.
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    chain.add(&firewall(json!({})), &pod)?;
    sh(chain.node.space(), "iptables -P FORWARD DROP")?;
    let message = chain.complaint(&firewall(json!({})), &pod)?;
    ensure!(message.contains("FORWARD"), "{message}");
    Ok(())
}

pub fn gc_removes_the_stale_and_nothing_else() -> Result {
    let chain = dropping()?;
    let pods = ["live", "stale1", "stale2", "elsewhere"];
    let pods: Vec<_> = pods
        .iter()
        .map(|name| chain.attach(name))
        .collect::<Result<_>>()?;
    let conf = firewall(json!({"ingressPolicy": "same-bridge"}));
    let other = conf::with(conf.clone(), json!({"name": "other"}));
    chain.add(&conf, &pods[0])?;
    chain.add(&other, &pods[3])?;
    let before = chain.snapshot()?;
    chain.add(&firewall(json!({"ingressPolicy": "isolated"})), &pods[1])?;
    chain.add(&firewall(json!({})), &pods[2])?;
    let full = chain.snapshot()?;
    chain.plugins.call("GC", &conf).send()?.done()?;
    chain.snapshot()?.same_as(&full)?;
    for _ in 0..2 {
        chain.plugins.gc(&conf, &[("live", "eth0")])?.done()?;
        chain.snapshot()?.same_as(&before)?;
    }
    Ok(())
}

pub fn del_in_every_condition() -> Result {
    let conf = firewall(json!({"ingressPolicy": "isolated"}));
    dropping()?.del_in_every_condition(&conf)?;
    // Beside a pod that stays, and is deleted with another configuration than it was added with.
    let chain = dropping()?;
    chain.add(
        &firewall(json!({"ingressPolicy": "same-bridge"})),
        &chain.attach("stays")?,
    )?;
    chain.del_in_every_condition(&conf)
}

pub fn add_with_each_call_failing() -> Result {
    dropping()?.add_with_each_call_failing(&firewall(json!({"ingressPolicy": "same-bridge"})))
}

pub fn many_at_once() -> Result {
    let policies = ["open", "same-bridge", "isolated"];
    dropping()?.many_at_once(|number| {
        firewall(json!({"ingressPolicy": policies[usize::from(number) % 3]}))
    })
}
