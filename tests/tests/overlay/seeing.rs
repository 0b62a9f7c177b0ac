//! What the daemon says of itself, and where it can be asked.
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};
use lab::overlay::{Cluster, Member};
use lab::{Fabric, Result};

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
    for answer in ask("/metrics")? {
        for line in [
            "heddle_ready 1",
            "heddle_peers{state=\"established\",path=\"vxlan\"} 1",
            "# EOF",
        ] {
            ensure!(answer.contains(line), "no {line} in {answer}");
        }
    }
    for answer in ask("/status")? {
        ensure!(answer.contains("\"node\":\"n1\""), "{answer}");
    }
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
