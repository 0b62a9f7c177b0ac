//! Care: what is refused, noticed, cleaned up, and put back.
use super::*;

pub fn only_allowed_sysctls_are_changed() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let list = |text: &str| {
        chain.node.run(|| -> Result {
            fs::create_dir_all("/etc/cni/tuning")?;
            Ok(fs::write("/etc/cni/tuning/allowlist.conf", text)?)
        })
    };
    let conf = tuning(json!({"sysctl": {"net.ipv4.conf.IFNAME.proxy_arp": "1"}}));
    list("^net\\.core\\..*$\n\n")?;
    let (code, message) = chain.refused(&conf, &pod)?;
    for part in [
        "net.ipv4.conf.IFNAME.proxy_arp",
        "/etc/cni/tuning/allowlist.conf",
    ] {
        ensure!(code == 7 && message.contains(part), "{code}: {message}");
    }
    ensure!(!chain.plugins.status(&conf)?.is_success());
    list("[")?;
    let (_, message) = chain.refused(&conf, &pod)?;
    ensure!(message.contains("regular expression"), "{message}");
    list("^net\\.core\\..*$\n  ^net.ipv4.conf.IFNAME.[a-z_]*$  \n")?;
    chain.add(&conf, &pod)?;
    chain.plugins.status(&conf)?.done()?;
    chain.del(&conf, &pod)
}

/// A namespace that cannot be opened for a moment is not one that has gone.
pub fn a_pod_out_of_reach_is_put_right_later() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let conf = tuning(json!({"sysctl": {"net.ipv4.conf.IFNAME.proxy_arp": "1"}}));
    chain.add(&conf, &pod)?;
    chain
        .node
        .run(|| std::os::unix::fs::symlink("/run/loop", "/run/loop"))?;
    let conf_of_del = with_prev(&conf, &pod.result);
    let out_of_reach = chain
        .plugins
        .call("DEL", &conf_of_del)
        .pod(&pod.pod)
        .netns("/run/loop")
        .send()?;
    let (_, message) = out_of_reach.failure()?;
    ensure!(message.contains("/run/loop"), "{message}");
    chain.del(&conf, &pod)?;
    assert_eq!(sysctl(&pod, "ipv4/conf/eth0/proxy_arp")?, "0");
    Ok(())
}

pub fn bad_configurations() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (changes, part) in [
        (json!({"sysctl": {"kernel.panic": "1"}}), "kernel.panic"),
        (json!({"sysctl": {"net/../kernel/panic": "1"}}), "below net"),
        (
            json!({"sysctl": {"net.ipv4.nothing": "1"}}),
            "net.ipv4.nothing",
        ),
        (
            json!({"sysctl": {"net.ipv4.ip_forward": 1}}),
            "sysctl.net.ipv4.ip_forward",
        ),
        (json!({"mac": "nonsense"}), "nonsense"),
        (json!({"mac": "01:00:00:00:00:01"}), "01:00:00:00:00:01"),
        (json!({"mtu": -1}), "mtu"),
        (json!({"txQLen": "x"}), "txQLen"),
    ] {
        let (code, message) = chain.refused(&tuning(changes), &pod)?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    // What the kernel refuses half-way is taken back.
    let dirs = ["/run/cni"];
    let before = chain.snapshot()?.without(&dirs);
    let conf = tuning(json!({"sysctl": {"net.ipv4.conf.IFNAME.proxy_arp": "1"}, "mtu": 10}));
    let reply = chain
        .plugins
        .add(&with_prev(&conf, &pod.result), &pod.pod)?;
    let (_, message) = reply.failure()?;
    ensure!(message.contains("MTU"), "{message}");
    chain.snapshot()?.without(&dirs).same_as(&before)?;
    assert_eq!(sysctl(&pod, "ipv4/conf/eth0/proxy_arp")?, "0");
    let (code, message) = chain.plugins.add(&everything(), &pod.pod)?.failure()?;
    ensure!(
        code == 7 && message.contains("chained"),
        "{code}: {message}"
    );
    // Nothing wanted: nothing done, without a namespace as well.
    let nothing = with_prev(&tuning(json!({})), &pod.result);
    assert_eq!(chain.plugins.add(&nothing, &pod.pod)?.result()?, pod.result);
    Ok(())
}

pub fn check_sees_what_has_changed() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let conf = everything();
    chain.add(&conf, &pod)?;
    let host_end = format!("ip link set {} mtu 1400", pod.host_link()?);
    for (place, damage, part) in [
        (
            pod.pod.space(),
            "ip link set eth0 address 02:00:00:00:00:78",
            "MAC",
        ),
        (pod.pod.space(), "ip link set eth0 mtu 1299", "MTU"),
        (chain.node.space(), &host_end, "host's end"),
        (
            pod.pod.space(),
            "ip link set eth0 promisc off",
            "promiscuous",
        ),
        (
            pod.pod.space(),
            "ip link set eth0 allmulticast off",
            "allmulticast",
        ),
        (
            pod.pod.space(),
            "ip link set eth0 txqueuelen 5",
            "queue length",
        ),
        (
            pod.pod.space(),
            "echo 0 > /proc/sys/net/ipv4/conf/eth0/proxy_arp",
            "proxy_arp",
        ),
    ] {
        chain
            .check(&conf, &pod)
            .with_context(|| damage.to_owned())?;
        sh(place, damage)?;
        let message = chain
            .complaint(&conf, &pod)
            .with_context(|| damage.to_owned())?;
        ensure!(message.contains(part), "{damage}: {message}");
        chain.add(&conf, &pod)?;
    }
    // Somebody who listens makes no difference.
    chain.del(&conf, &pod)
}

pub fn gc_removes_the_stale_and_nothing_else() -> Result {
    let chain = Chain::new()?;
    let (live, stale, other) = (
        chain.attach("live")?,
        chain.attach("stale")?,
        chain.attach("other")?,
    );
    let conf = tuning(json!({"mtu": 1300}));
    chain.add(&conf, &live)?;
    chain.add(&tuning(json!({"mtu": 1300, "name": "other"})), &other)?;
    let files = || -> Result<Vec<String>> {
        let listed = chain.node.run(|| fs::read_dir("/run/cni/tuning"))?;
        let mut names: Vec<_> = listed
            .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    chain.add(&conf, &stale)?;
    chain
        .node
        .run(|| fs::write("/run/cni/tuning/theirs_eth0.json", "{\"mtu\":1500}"))?;
    chain.plugins.call("GC", &conf).send()?.done()?;
    assert_eq!(files()?.len(), 4);
    for _ in 0..2 {
        chain.plugins.gc(&conf, &[("live", "eth0")])?.done()?;
        assert_eq!(
            files()?,
            ["live_eth0.json", "other_eth0.json", "theirs_eth0.json"]
        );
    }
    Ok(())
}

/// A node that changes over with pods running.
pub fn a_backup_of_the_reference_is_put_back() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = ip_one(pod.pod.space(), "link show dev eth0")?;
    sh(
        pod.pod.space(),
        "ip link set eth0 mtu 1300 address 02:00:00:00:00:77 allmulticast on",
    )?;
    let backup = json!({"mac": before["address"], "promisc": false, "mtu": 1500, "allmulti": false, "txQLen": 1000});
    chain.node.run(|| -> Result {
        fs::create_dir_all("/run/cni/tuning")?;
        Ok(fs::write(
            "/run/cni/tuning/pod_eth0.json",
            backup.to_string(),
        )?)
    })?;
    chain.del(&tuning(json!({})), &pod)?;
    assert_eq!(ip_one(pod.pod.space(), "link show dev eth0")?, before);
    ensure!(
        !chain
            .node
            .run(|| fs::exists("/run/cni/tuning/pod_eth0.json"))?
    );
    Ok(())
}

/// A chain on which tuning has been used before, so that its directory is there.
pub fn warm() -> Result<Chain> {
    let chain = Chain::new()?;
    let pod = chain.attach("warm")?;
    chain.add(&everything(), &pod)?;
    chain.del(&everything(), &pod)?;
    chain.detach(&pod)?;
    Ok(chain)
}

pub fn del_in_every_condition() -> Result {
    warm()?.del_in_every_condition(&everything())
}

pub fn add_with_each_call_failing() -> Result {
    warm()?.add_with_each_call_failing(&everything())
}

pub fn many_at_once() -> Result {
    warm()?.many_at_once(|_| everything())
}
