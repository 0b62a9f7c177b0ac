//! Pods with the annotations of bandwidth.
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::probe::throughput;
use lab::{Result, wait};

use crate::shared::{self, NODES, PATIENCE, lone_pod};

/// Both directions are as fast as annotated, within a tenth, and nothing is left of a pod that has gone.
pub fn annotated() -> Result {
    shared::with(|lab| {
        let web = lab.pods("app=web", NODES.len())?;
        let other = web
            .iter()
            .find(|pod| pod.node == "n1")
            .context("no pod on n1")?;
        let node = lab.cluster.worker("n1").node().space();
        for megabits in [10, 100, 1000] {
            let mut pod = lone_pod("shaped", "n1", serde_json::json!({}));
            pod["metadata"]["annotations"] = serde_json::json!({
                "kubernetes.io/ingress-bandwidth": format!("{megabits}M"),
                "kubernetes.io/egress-bandwidth": format!("{megabits}M"),
            });
            lab.with_objects(&[pod], || {
                let shaped = &lab.pods("app=shaped", 1)?[0];
                let at = |ip| SocketAddr::new(ip, 0);
                let inwards = throughput(&other.space, &shaped.space, at(shaped.ip))?;
                let outwards = throughput(&shaped.space, &other.space, at(other.ip))?;
                println!("annotated {megabits} Mbit/s: in {inwards:.1}, out {outwards:.1}");
                let wanted = f64::from(megabits);
                for rate in [inwards, outwards] {
                    ensure!(
                        (rate - wanted).abs() < wanted / 10.0,
                        "{rate:.1} instead of {wanted} Mbit/s"
                    );
                }
                Ok(())
            })?;
            wait::until(PATIENCE, "end of the ifb", || {
                let left = sh(node, "ip -o link show type ifb")?;
                ensure!(left.is_empty(), "{left}");
                Ok(())
            })?;
        }
        Ok(())
    })
}
