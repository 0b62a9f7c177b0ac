//! What the daemon says of itself, and where it can be asked.
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::overlay::{Cluster, Member};
use lab::{Fabric, Result};
use serde_json::Value;

/// The answer to one GET: status line, headers and body.
fn get(mut stream: impl Read + Write, path: &str) -> Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: heddle\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn over_http() -> Result {
    let cluster = Cluster::fixed("http = \"127.0.0.1:9946\"")?;
    let member = &cluster.members[0];
    let ask = |path: &str| -> Result<[String; 2]> {
        member.node.run(|| {
            let socket = std::os::unix::net::UnixStream::connect("/run/heddle/heddle.sock")?;
            Ok([
                get(socket, path)?,
                get(TcpStream::connect("127.0.0.1:9946")?, path)?,
            ])
        })
    };
    for answer in ask("/healthz")?.iter().chain(&ask("/readyz")?) {
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let pod = member.add_pod("pod")?;
    let refused = member.plugins.call(
        "ADD",
        &serde_json::json!({"cniVersion": "1.0.0", "name": "x", "type": "bridge"}),
    );
    refused.pod(&pod.pod).ifname("eth0").send()?.failure()?;
    // The plugins' calls are read every few seconds.
    lab::wait::until(Duration::from_secs(20), "the plugins' calls", || {
        let [first, _] = ask("/metrics")?;
        ensure!(first.contains("plugin=\"bandwidth\""), "{first}");
        Ok(())
    })?;
    for answer in ask("/metrics")? {
        for line in [
            "heddle_cni_call_seconds_count{plugin=\"bridge\",command=\"ADD\",result=\"ok\"} 1",
            "heddle_cni_call_seconds_count{plugin=\"bridge\",command=\"ADD\",result=\"error\"} 1",
            "heddle_kernel_writes_total{kind=\"route\"} 4",
            "heddle_kernel_writes_total{kind=\"nftables\"} 1",
            "heddle_leases{family=\"ipv4\"} 1",
            "heddle_leases{family=\"ipv6\"} 1",
            "heddle_events_total{kind=\"peer_appeared\"} 2",
            "heddle_leases_v4_limit 253",
            "heddle_probes_sent_total",
            "heddle_probe_round_trip_seconds_bucket",
            "heddle_ready 1",
            "heddle_peers{state=\"established\",path=\"vxlan\"} 1",
            "# EOF",
        ] {
            ensure!(answer.contains(line), "no {line} in {answer}");
        }
    }
    for answer in ask("/events")? {
        ensure!(answer.contains("\"object\":\"n2\""), "{answer}");
    }
    for answer in ask("/status")? {
        ensure!(answer.contains("\"node\":\"n1\""), "{answer}");
    }
    // A browser says where its POST comes from: no page of others' may use a socket that is forwarded to a port.
    let mut socket = member
        .node
        .run(|| std::os::unix::net::UnixStream::connect("/run/heddle/heddle.sock"))?;
    write!(
        socket,
        "POST /forget/n3 HTTP/1.1\r\nhost: heddle\r\norigin: http://example.net\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    // What changes something goes over the socket only.
    let mut stream = member.node.run(|| TcpStream::connect("127.0.0.1:9946"))?;
    write!(
        stream,
        "POST /forget/n3 HTTP/1.1\r\nhost: heddle\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    // A node that is cut off is not ready any more, and says why with its exit code.
    cluster.fabric.plugged(&member.node, false)?;
    lab::inspect::sh(member.node.space(), "ip address flush dev eth0")?;
    member.wait_for("the loss of its address", |status| status["ready"] == false)?;
    let ready = &ask("/readyz")?[0];
    ensure!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let status = member.heddle("status").output()?;
    ensure!(status.status.code() == Some(1), "{status:?}");
    ensure!(
        status.stdout.contains("state: not ready") && status.stdout.contains("problem:"),
        "{}",
        status.stdout
    );
    Ok(())
}

pub fn configuration() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let member = Member::new(&fabric, "n1", 1, 11, "membership = \"static\"\nvni = 5")?;
    let shown = |words: &str, variables: &[(&str, &str)]| -> Result<toml::Table> {
        let mut command = member.heddle(words);
        for (name, value) in variables {
            command.env(name, value);
        }
        command.ok()?.parse().context("what it shows is TOML")
    };
    let plain = shown("config check", &[])?;
    ensure!(
        plain["vni"].as_integer() == Some(5) && plain["bridge"].as_str() == Some("cbr0"),
        "{plain}"
    );
    let over = [
        ("HEDDLE_VNI", "7"),
        ("HEDDLE_PEERS", "[\"192.0.2.1\"]"),
        ("HEDDLE_NODE_NAME", "n7"),
    ];
    let from_environment = shown("config check", &over)?;
    ensure!(
        from_environment["vni"].as_integer() == Some(7),
        "{from_environment}"
    );
    ensure!(
        from_environment["peers"][0].as_str() == Some("192.0.2.1"),
        "{from_environment}"
    );
    let from_flag = shown("config check --node-name n9", &over)?;
    ensure!(from_flag["node_name"].as_str() == Some("n9"), "{from_flag}");
    Ok(())
}

/// STATUS as a runtime asks for it: before the daemon, with it, without it, when pods are hurt, and after a reboot.
pub fn through_the_plugin() -> Result {
    let mut cluster = Cluster::new("membership = \"static\"")?;
    cluster.write_nodes(&lab::overlay::NODES)?;
    cluster.start()?;
    cluster.ready()?;
    let member = &mut cluster.members[0];
    let read = || fs::read_to_string("/etc/cni/net.d/10-heddle.conflist");
    let conflist: Value = serde_json::from_str(&member.node.run(read)?)?;
    let types = conflist["plugins"].as_array().into_iter().flatten();
    let types: Vec<_> = types.filter_map(|plugin| plugin["type"].as_str()).collect();
    ensure!(
        types == ["heddle-bridge", "heddle-portmap", "heddle-bandwidth"],
        "{types:?}"
    );
    let mut conf = conflist["plugins"][0].clone();
    conf["cniVersion"] = "1.1.0".into();
    conf["name"] = "heddle".into();
    let plugins = member.plugins.clone();
    let status = || -> Result<(u64, String)> {
        let began = Instant::now();
        let reply = plugins.status(&conf)?;
        ensure!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        let said = reply.document()?.unwrap_or_default();
        Ok((
            said["code"].as_u64().unwrap_or_default(),
            said["msg"].as_str().unwrap_or_default().to_owned(),
        ))
    };
    ensure!(status()? == (0, String::new()), "{:?}", status()?);
    member.stop(true)?;
    ensure!(
        status()?.0 == 0,
        "a daemon that is away hurts nobody: {:?}",
        status()?
    );
    member.start()?;
    member.wait_ready(2)?;

    lab::inspect::sh(member.node.space(), "ip address flush dev eth0")?;
    let code = |wanted: u64| {
        lab::wait::until(Duration::from_secs(20), &format!("code {wanted}"), || {
            let found = status()?;
            ensure!(found.0 == wanted, "{found:?}");
            Ok(found.1)
        })
    };
    let why = code(51)?;
    ensure!(why.contains("no address"), "{why}");
    lab::inspect::sh(
        member.node.space(),
        "ip address add 192.0.1.11/24 dev eth0 && ip route add default via 192.0.1.1",
    )?;
    code(0)?;

    // Pods wait for the file, so it comes back when somebody has removed it.
    member
        .node
        .run(|| fs::remove_file("/run/heddle/cni-status"))?;
    code(0)?;

    member.stop(false)?;
    // A boot begins with an empty /run.
    member.node.run(|| fs::remove_dir_all("/run/heddle"))?;
    let (code, why) = status()?;
    ensure!(code == 50 && why.contains("since boot"), "{code}: {why}");
    // And what comes too early is to come again.
    let pod = member.node.pod("early")?;
    let (code, why) = member.plugins.add(&conf, &pod)?.failure()?;
    ensure!(code == 11 && why.contains("since boot"), "{code}: {why}");
    member.start()?;
    member.wait_ready(2)?;
    member.plugins.add(&conf, &pod)?.done()?;
    Ok(())
}

/// What shells and man(1) are given knows every command.
pub fn completions_and_manual() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let member = Member::new(&fabric, "n1", 1, 11, "membership = \"static\"")?;
    member
        .node
        .run(|| fs::remove_file("/etc/heddle/heddle.toml"))?;
    for shell in ["bash", "zsh", "fish"] {
        let text = member.heddle(&format!("completion {shell}")).ok()?;
        ensure!(
            text.contains("trace") && text.contains("doctor"),
            "{shell}: {text}"
        );
    }
    let pages = "/run/man1";
    let refused = member.heddle(&format!("man {pages}")).output()?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("make the directory first"),
        "{refused:?}"
    );
    member.node.run(|| fs::create_dir(pages))?;
    member.heddle(&format!("man {pages}")).ok()?;
    let page = member
        .node
        .run(|| fs::read_to_string("/run/man1/heddle-trace.1"))?;
    ensure!(page.contains("Follow a packet hop by hop"), "{page}");
    Ok(())
}

/// The archive has what it should, and no secret, wherever that may have got to.
pub fn report_without_secrets() -> Result {
    let secret = "a secret that nobody may see";
    let config = format!("membership = \"static\"\nkeys = [\"{secret}\"]");
    let mut cluster = Cluster::new(&config)?;
    cluster.write_nodes(&lab::overlay::NODES)?;
    cluster.start()?;
    cluster.ready()?;
    let member = &cluster.members[0];
    lab::inspect::sh(
        member.node.space(),
        &format!("ip link set eth0 alias '{secret}'"),
    )?;
    let path = member.heddle("report /run").ok()?;
    let bytes = member.node.run(|| fs::read(path.trim()))?;
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry
            .path()?
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        files.insert(name, text);
    }
    for (file, wanted) in [
        ("status.json", "\"ready\": true"),
        ("events.json", "\"kind\": \"conflist\""),
        ("doctor.json", "\"verdict\": \"good\""),
        ("leftovers.json", "[]"),
        ("config.toml", "(redacted)"),
        ("conflist.json", "heddle-host-local"),
        ("conf-dir.txt", "10-heddle.conflist"),
        ("links.txt", "vxlan.heddle"),
        ("nftables.txt", "table inet heddle"),
        ("routes4.txt", "10.32.3.0/24"),
    ] {
        let text = files
            .get(file)
            .with_context(|| format!("{file} of {:?}", files.keys()))?;
        ensure!(text.contains(wanted), "no {wanted} in {file}: {text}");
    }
    ensure!(
        files["links.txt"].contains("alias (redacted)"),
        "{}",
        files["links.txt"]
    );
    for (file, text) in &files {
        ensure!(!text.contains(secret), "{file}: {text}");
    }
    let refused = member.heddle("report /nowhere").output()?;
    ensure!(
        refused
            .stderr
            .contains("cannot write /nowhere/heddle-report-n1-"),
        "{refused:?}"
    );
    Ok(())
}
