//! `portmap` in both of the Go plugin's forms.
use std::net::SocketAddr;

use anyhow::ensure;
use lab::chain::{Attached, Chain};
use lab::inspect::{ruleset, sh};
use lab::probe::{TcpEcho, exchange};
use lab::{Result, conf};
use serde_json::{Value, json};

use crate::{del, reference};

fn portmap(port: u16, changes: Value) -> Value {
    let ports = json!([
        {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": port, "containerPort": 53, "protocol": "udp"},
    ]);
    let plain = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "portmap", "runtimeConfig": {"portMappings": ports},
    });
    conf::with(plain, changes)
}

fn reached(chain: &Chain, port: u16) -> bool {
    let to = SocketAddr::from(([192, 0, 2, 1], port));
    exchange(chain.world.space(), to, b"hello").is_ok()
}

fn serve(pod: &Attached) -> Result<TcpEcho> {
    TcpEcho::start(pod.pod.space(), "0.0.0.0:80".parse()?)
}

pub fn by_iptables() -> Result {
    let chain = Chain::new()?;
    let (stays, goes) = (chain.attach("stays")?, chain.attach("goes")?);
    let _servers = (serve(&stays)?, serve(&goes)?);
    let form = json!({"backend": "iptables"});
    reference(&chain, "ADD", &portmap(8081, form.clone()), &stays)?;
    let conf = portmap(8082, form);
    let before = chain.snapshot()?;
    for with_all in [true, false] {
        reference(&chain, "ADD", &conf, &goes)?;
        ensure!(reached(&chain, 8082), "the premise");
        for _ in 0..2 {
            del(&chain, &conf, &goes, with_all)?;
            chain.snapshot()?.same_as(&before)?;
        }
        ensure!(reached(&chain, 8081) && !reached(&chain, 8082));
    }
    // GC: another network's pods are not this one's matter, nor is anything where nobody is listed.
    let other = portmap(8083, json!({"backend": "iptables", "name": "other"}));
    let elsewhere = chain.attach("elsewhere")?;
    reference(&chain, "ADD", &other, &elsewhere)?;
    let before = chain.snapshot()?;
    reference(&chain, "ADD", &conf, &goes)?;
    let full = chain.snapshot()?;
    chain.plugins.call("GC", &conf).send()?.done()?;
    let both = [("stays", "eth0"), ("goes", "eth0")];
    chain.plugins.gc(&conf, &both)?.done()?;
    chain.snapshot()?.same_as(&full)?;
    for _ in 0..2 {
        chain.plugins.gc(&conf, &both[..1])?.done()?;
        chain.snapshot()?.same_as(&before)?;
    }
    ensure!(reached(&chain, 8081) && !reached(&chain, 8082));
    // Ours and the Go plugin's side by side.
    chain.add(&conf, &goes)?;
    ensure!(reached(&chain, 8081) && reached(&chain, 8082));
    chain.del(&conf, &goes)?;
    chain.del(&portmap(8081, json!({})), &stays)?;
    chain.del(&other, &elsewhere)?;
    let left = ruleset(chain.node.space())?;
    ensure!(!left.contains("CNI-DN-"), "{left}");
    Ok(())
}

/// What the Go plugin 1.6 to 1.9 writes for a container, for machines that have an older one.
fn by_hand(chain: &Chain, pod: &Attached, port: u16) -> Result {
    for (index, family) in [(0, "ip"), (1, "ip6")] {
        let address = pod.address(index)?;
        let to = SocketAddr::new(address, 80);
        let id = pod.pod.name();
        let script = format!(
            "table {family} cni_hostport {{
               chain hostports {{ tcp dport {port} dnat to {to} comment \"{id}\"; }};
               chain hostip_hostports {{ }};
               chain hostports_all {{ }};
               chain prerouting {{ type nat hook prerouting priority dstnat; }};
               chain masquerading {{
                 type nat hook postrouting priority srcnat;
                 {family} saddr {address} {family} daddr {address} masquerade comment \"{id}\"; }};
             }}
             flush chain {family} cni_hostport hostports_all
             add rule {family} cni_hostport hostports_all jump hostip_hostports
             add rule {family} cni_hostport hostports_all jump hostports
             flush chain {family} cni_hostport prerouting
             add rule {family} cni_hostport prerouting fib daddr type local jump hostports_all"
        );
        let mut nft = chain.node.command("nft");
        nft.args(["-f", "-"]).stdin(script).ok()?;
    }
    Ok(())
}

pub fn by_nftables() -> Result {
    let chain = Chain::new()?;
    let form = json!({"backend": "nftables"});
    let probe = chain.attach("probe")?;
    reference(&chain, "ADD", &portmap(1, form.clone()), &probe)?;
    let knows = ruleset(chain.node.space())?.contains("cni_hostport");
    reference(&chain, "DEL", &portmap(1, form.clone()), &probe)?;
    sh(chain.node.space(), "nft flush ruleset")?;
    let add = |port, pod: &Attached| match knows {
        true => reference(&chain, "ADD", &portmap(port, form.clone()), pod),
        false => by_hand(&chain, pod, port),
    };
    let (stays, goes) = (chain.attach("stays")?, chain.attach("goes")?);
    let _servers = (serve(&stays)?, serve(&goes)?);
    add(8081, &stays)?;
    let before = chain.snapshot()?;
    let conf = portmap(8082, json!({}));
    for with_all in [true, false] {
        add(8082, &goes)?;
        ensure!(reached(&chain, 8082), "the premise");
        for _ in 0..2 {
            del(&chain, &conf, &goes, with_all)?;
            chain.snapshot()?.same_as(&before)?;
        }
        ensure!(reached(&chain, 8081) && !reached(&chain, 8082));
    }
    // The comment is the container's on all networks; the address says which network it was.
    add(8082, &goes)?;
    let full = chain.snapshot()?;
    let mut elsewhere = goes.result.clone();
    elsewhere["ips"] = json!([{"address": "10.99.0.2/24", "interface": 2}]);
    let second = Attached {
        pod: goes.pod.clone(),
        result: elsewhere,
    };
    chain.del(&portmap(8082, json!({"name": "other"})), &second)?;
    chain.snapshot()?.same_as(&full)?;
    chain.del(&conf, &goes)?;
    chain.snapshot()?.same_as(&before)
}
