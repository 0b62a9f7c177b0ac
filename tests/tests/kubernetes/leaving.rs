//! The way out: deleting the DaemonSet cuts nothing; after the Job each node is as it was before Heddle came.
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::kubernetes::Kubectl;
use lab::{Result, Snapshot, inspect};

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
    // The API server forgets a pod without a grace period before its node has.
    kubectl.run("delete daemonset web")?;
    Kubectl::until(PATIENCE, "end of the pods", || {
        for worker in &lab.cluster.workers {
            let veths = inspect::ip(worker.node().space(), "link show type veth master cbr0")?;
            ensure!(veths.is_empty(), "{} on {}", veths.len(), worker.name());
        }
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
    let done = kubectl.wait(PATIENCE, &format!("-n heddle jobs {label}"), |jobs| {
        let jobs = jobs["items"].as_array().into_iter().flatten();
        jobs.filter(|job| job["status"]["succeeded"] == 1).count() == NODES.len()
    });
    let said = kubectl.attempt(&format!(
        "-n heddle logs {label} --all-containers --prefix --tail=-1"
    ))?;
    let said = format!("{}{}", said.stdout, said.stderr);
    done.with_context(|| said.clone())?;
    println!(
        "all nodes cleaned in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    kubectl.run(&format!("delete -k {}", conf("base").display()))?;

    for (worker, before) in lab.cluster.workers.iter().zip(&lab.before) {
        let what = || format!("{}: {said}", worker.name());
        let now = snapshot(worker)?;
        let lease = now
            .lines()
            .find(|line| line.contains("networks/heddle/10."));
        ensure!(lease.is_none(), "{lease:?} is left on {}", what());
        // The runtime's cache and the allocator's directory, empty, are no part of the node's network.
        let own = |snapshot: Snapshot| snapshot.without(&["/var/lib/cni/"]);
        own(now).same_as(&own(before.clone())).with_context(what)?;
        let left = worker.node().run(|| {
            let dirs = ["/var/lib/heddle", "/run/heddle"].into_iter();
            dirs.filter(|dir| fs::metadata(dir).is_ok())
                .collect::<Vec<_>>()
        });
        ensure!(left.is_empty(), "{} has {left:?}", worker.name());
    }
    Ok(())
}
