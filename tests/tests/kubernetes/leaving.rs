//! The way out: deleting the DaemonSet cuts nothing; after the Job each node is as it was before Heddle came.
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::Result;
use lab::kubernetes::Kubectl;

use crate::shared::{self, Lab, NODES, PATIENCE, conf, snapshot};
use crate::upgrade::without_loss;

/// What a person does, in the order of `conf/kubernetes/cleanup.yaml`; and then it can all be applied again.
pub fn leaves_nothing() -> Result {
    shared::with(|lab| {
        let left = leave(lab);
        let again = lab.apply();
        left.and(again)
    })
}

fn leave(lab: &Lab) -> Result {
    let kubectl = lab.kubectl();
    let pods = lab.pods("app=web", NODES.len())?;
    without_loss(&pods[0], &[&pods[1], &pods[2]], || {
        kubectl.run("-n heddle delete daemonset heddle")?;
        Kubectl::until(PATIENCE, "end of the daemons", || {
            let left = kubectl.list("-n heddle pods")?;
            ensure!(left.is_empty(), "{} pods", left.len());
            Ok(())
        })?;
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    })?;
    kubectl.run("delete daemonset web")?;
    Kubectl::until(PATIENCE, "end of the pods", || {
        let left = kubectl.list("pods")?;
        ensure!(left.is_empty(), "{} pods", left.len());
        Ok(())
    })?;

    let start = Instant::now();
    let job = fs::read_to_string(conf("cleanup.yaml"))?;
    for (node, ..) in NODES {
        let job = job
            .replace("THIS_NODE", node)
            .replace("BIN_DIR", "/opt/cni/bin");
        let mut create = kubectl.command("create -f -");
        create
            .stdin(job.replace("CONF_DIR", "/etc/cni/net.d"))
            .ok()?;
    }
    let label = "-l app.kubernetes.io/name=heddle-cleanup";
    let mut wait = kubectl.command(&format!(
        "-n heddle wait --for=condition=complete job {label} --timeout=90s"
    ));
    let waited = wait.deadline(PATIENCE * 2).ok();
    let said = kubectl.run(&format!(
        "-n heddle logs {label} --all-containers --prefix --tail=40"
    ))?;
    waited.with_context(|| said.clone())?;
    println!(
        "all nodes cleaned in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    kubectl.run(&format!("delete -k {}", conf("base").display()))?;

    for (worker, before) in lab.cluster.workers.iter().zip(&lab.before) {
        snapshot(worker)?
            .same_as(before)
            .with_context(|| format!("{}: {said}", worker.name()))?;
        let left = worker.node().run(|| {
            let dirs = ["/var/lib/heddle", "/run/heddle"].into_iter();
            dirs.filter(|dir| fs::metadata(dir).is_ok())
                .collect::<Vec<_>>()
        });
        ensure!(left.is_empty(), "{} has {left:?}", worker.name());
    }
    Ok(())
}
