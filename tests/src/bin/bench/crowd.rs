//! ADD and DEL beside other pods on the same bridge: what a full bridge costs.
use anyhow::Context;
use lab::{Node, Result, conf};
use netlink::link::{self, Veth};
use netlink::netns::Netns;
use netlink::{Handle, Mac, sysctl};
use serde_json::json;

use crate::duel::Duel;
use crate::floor::Floor;
use crate::leases::growth;
use crate::progress;
use crate::row::{Findings, Line, Plot};
use crate::side::{Seat, Side};
use crate::times::MEDIAN;

/// Pods; a bridge takes 1,024 ports (`BR_MAX_PORTS`).
const STEPS: [u16; 3] = [0, 250, 1_000];
const ROUNDS: usize = 30;

pub fn run(sides: &[Side]) -> Result<Findings> {
    let conf = conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true}));
    let (mut findings, mut lines) = (Findings::default(), Vec::<Line>::new());
    for pods in STEPS {
        progress(&format!("crowd: {pods} pods on the bridge"));
        let seats: Vec<Seat> = sides.iter().map(Side::on_new_node).collect::<Result<_>>()?;
        let floor = Floor::new()?;
        let mut duel = Duel::default();
        for seat in &seats {
            seat.plugins.node().pod("pod")?;
            duel.seat(seat, |seat, clock| {
                for verb in ["ADD", "DEL"] {
                    clock.push(verb, seat.side.timed(verb, &conf, "pod")?);
                }
                Ok(())
            });
        }
        duel.floor(|clock| floor.round(clock));
        // The first round makes the bridge.
        duel.warm_up()?;
        for node in seats.iter().map(|seat| seat.plugins.node()) {
            fill(node, "cbr0", pods)?;
        }
        fill(floor.node(), "cbr0", pods)?;
        duel.run(ROUNDS)?;
        for verb in ["ADD", "DEL"] {
            let id = format!("crowd.{}.{pods}", verb.to_lowercase());
            let what = format!("{verb} beside {pods} pods on the bridge");
            findings.rows.extend(duel.rows(&id, &what, verb, MEDIAN));
        }
        duel.points(&mut lines, "ADD", f64::from(pods.max(1)));
    }
    let what = "ADD beside 1,000 pods ÷ ADD beside none";
    let growth = growth("crowd.growth", what, &lines, 1.0, 1_000.0);
    findings.rows.extend(growth);
    findings.plots.push(Plot {
        file: "crowd",
        title: "ADD beside other pods on the bridge",
        x: "pods on the bridge (0 stands at 1)",
        y: "ADD, median (ms)",
        lines,
    });
    Ok(findings)
}

/// Puts so many veth pairs on a bridge of the node's, whose other ends are up in one namespace; the bridge forwards to all.
pub fn fill(node: &Node, bridge: &str, pods: u16) -> Result {
    let crowd = node.pod("crowd")?;
    // A thousand ends that look for duplicates would flood each other for seconds.
    crowd.run(|| sysctl::ensure("net/ipv6/conf/default/disable_ipv6", "1"))?;
    node.run(|| {
        let netns = Netns::open(crowd.netns())?;
        let mut host = Handle::new()?;
        let bridge = host.link(bridge)?.context("the bridge")?.index;
        let mac = |end: u8, number: u16| {
            let [high, low] = number.to_be_bytes();
            Mac::from([2, 9, 0, end, high, low])
        };
        for number in 0..pods {
            let (name, peer_name) = (format!("crowd{number}"), format!("eth{number}"));
            let veth = Veth {
                name: &name,
                peer_name: &peer_name,
                peer_netns: &netns,
                mtu: None,
                mac: mac(0, number),
                peer_mac: mac(1, number),
                master: Some(bridge),
                up: true,
            };
            host.execute(vec![veth.request()])?;
        }
        let mut inside = Handle::in_netns(&netns)?;
        let ends = inside.links()?;
        let ups = ends.iter().map(|end| link::set_up(end.index));
        Ok(inside.execute(ups.collect())?)
    })
}
