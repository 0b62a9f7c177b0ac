//! Services: what kube-proxy's rules lead to, in each of their forms, and what is missing in them.
use std::fs;

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, wait};

use super::{PATIENCE, kinds, only_mark, trace};

/// The rules of kube-proxy 1.20 for `default/kubernetes`, for `shop/web` with two backends, and for one without.
const SAVED: &str = r#"*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SVC-WEB - [0:0]
:KUBE-SEP-APISERVER - [0:0]
:KUBE-SEP-FIRST - [0:0]
:KUBE-SEP-SECOND - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SERVICES ! -s 10.32.0.0/16 -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-APISERVER
-A KUBE-SVC-WEB -m comment --comment "shop/web:http" -m statistic --mode random --probability 0.5 -j KUBE-SEP-FIRST
-A KUBE-SVC-WEB -m comment --comment "shop/web:http" -j KUBE-SEP-SECOND
-A KUBE-SEP-APISERVER -p tcp -m tcp -j DNAT --to-destination 192.0.2.1:6443
-A KUBE-SEP-FIRST -s ONE/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-FIRST -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination ONE:8080
-A KUBE-SEP-SECOND -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination TWO:8080
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/empty:http has no endpoints" -m tcp --dport 80 -j REJECT
COMMIT
"#;

/// The same as kube-proxy's mode `nftables` has it.
const TABLE: &str = r#"table ip kube-proxy {
  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . tcp . 80 : goto service-ULMVA6XW-shop/web/tcp/http }
  }
  map no-endpoint-services {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.20 . tcp . 80 comment "shop/empty:http" : drop }
  }
  chain endpoint-1-shop/web/tcp/http__ONE/8080 { meta l4proto tcp dnat to ONE:8080; }
  chain endpoint-2-shop/web/tcp/http__TWO/8080 { meta l4proto tcp dnat to TWO:8080; }
  chain service-ULMVA6XW-shop/web/tcp/http {
    numgen random mod 2 vmap {
      0 : goto endpoint-1-shop/web/tcp/http__ONE/8080,
      1 : goto endpoint-2-shop/web/tcp/http__TWO/8080
    }
  }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr . meta l4proto . th dport vmap @service-ips
  }
}
"#;

/// Loads rules in a node, with two backends.
fn load(member: &Member, program: &str, rules: &str, backends: [&str; 2]) -> Result {
    let text = rules
        .replace("ONE", backends[0])
        .replace("TWO", backends[1]);
    member.node.run(|| fs::write("/run/rules", text))?;
    sh(member.node.space(), &format!("{program} /run/rules")).map(drop)
}

struct Asker<'a> {
    member: &'a Member,
    from: String,
}

impl Asker<'_> {
    fn leads_to(&self, form: &str, to: &str, backends: &[(&str, bool)]) -> Result {
        wait::until(PATIENCE, form, || {
            let (good, trace) = trace(self.member, &self.from, to)?;
            let service = &trace["service"];
            let seen: Vec<(String, bool)> = service["backends"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|backend| {
                    let address = backend["address"].as_str().unwrap_or_default();
                    (address.to_owned(), backend["arrives"] == true)
                })
                .collect();
            let wanted: Vec<(String, bool)> = backends
                .iter()
                .map(|(address, arrives)| (format!("{address}:8080"), *arrives))
                .collect();
            ensure!(
                good == backends.iter().all(|(_, arrives)| *arrives)
                    && service["form"] == form
                    && service["name"] == "shop/web:http"
                    && seen == wanted
                    && kinds(&trace).contains(&"backend".to_owned()),
                "{trace:#}"
            );
            Ok(())
        })
    }

    fn ends(&self, to: &str, reason: &str) -> Result {
        let (good, trace) = trace(self.member, &self.from, to)?;
        let only = only_mark(&trace)?;
        let why = only["problem"]["reason"].as_str().unwrap_or_default();
        ensure!(!good && why.contains(reason), "{reason}: {trace:#}");
        Ok(())
    }
}

pub fn every_form() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let member = &cluster.members[0];
    let space = member.node.space();
    let beside = member.add_pod("beside")?.addresses[0].to_string();
    let [own, near, far] = [0, 1, 2].map(|index: usize| pods[index].addresses[0].to_string());
    let asker = Asker { member, from: own };
    let both = [(near.as_str(), true), (far.as_str(), true)];

    let forms = [
        ("iptables", "iptables-nft-restore", SAVED, "iptables-nft"),
        (
            "legacy iptables",
            "iptables-legacy-restore",
            SAVED,
            "iptables-legacy",
        ),
        ("nftables", "nft -f", TABLE, ""),
    ];
    for (form, restore, rules, program) in forms {
        load(member, restore, rules, [&near, &far])?;
        asker.leads_to(form, "10.96.0.10", &both)?;
        asker.leads_to(form, "10.96.0.10 --port 80 --proto tcp", &both)?;
        asker.ends("10.96.0.10 --port 81", "has no such port, but 80/tcp")?;
        asker.ends("10.96.0.20", "shop/empty:http has no endpoints")?;
        // What is no Service goes its own way.
        let (good, other) = trace(member, &asker.from, "198.51.100.1")?;
        ensure!(good && other["service"].is_null(), "{other:#}");
        if program.is_empty() {
            sh(space, "nft delete table ip kube-proxy")?;
            continue;
        }
        asker.ends("10.96.0.30", "kube-proxy's rule is missing")?;
        let rule = "KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment 'shop/web:http cluster IP' -m tcp --dport 80 -j KUBE-SVC-WEB";
        sh(space, &format!("{program} -t nat -D {rule}"))?;
        asker.ends("10.96.0.10", "kube-proxy's rule is missing")?;
        sh(space, &format!("{program} -t nat -A {rule}"))?;
        let jump = "PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES";
        sh(space, &format!("{program} -t nat -D {jump}"))?;
        asker.ends("10.96.0.10", "the jump to them is missing")?;
        sh(space, &format!("{program} -t nat -A {jump}"))?;
        if form == "iptables" {
            sh(space, "nft flush ruleset")?;
        }
    }

    // One backend has gone, and the other is beside: its answers need br_netfilter.
    let clear = "iptables-legacy -t nat -F; iptables-legacy -t nat -X; iptables-legacy -F; iptables-legacy -X";
    sh(space, clear)?;
    let gone = "10.32.3.99";
    load(member, "iptables-nft-restore", SAVED, [&beside, gone])?;
    let halves = [(beside.as_str(), true), (gone, false)];
    asker.leads_to("iptables", "10.96.0.10", &halves)?;
    asker.ends("10.96.0.10", "it is not leased")?;
    load(member, "iptables-nft-restore", SAVED, [&beside, &near])?;
    let key = "net.bridge.bridge-nf-call-iptables";
    sh(space, &format!("sysctl -qw {key}=0"))?;
    asker.ends("10.96.0.10", "past kube-proxy's rules")?;
    sh(space, &format!("sysctl -qw {key}=1"))?;
    let both = [(beside.as_str(), true), (near.as_str(), true)];
    asker.leads_to("iptables", "10.96.0.10", &both)
}
