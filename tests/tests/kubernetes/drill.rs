//! The faults of the drill that take a cluster, and a cluster on which nothing happens.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::drill::{Asked, Mark, mark_in, names};
use lab::inspect::sh;
use lab::kubernetes::{Kubectl, Worker};
use lab::{Result, find};

use crate::shared::{self, Lab, PATIENCE};

/// How long nothing is written.
const QUIET: Duration = Duration::from_secs(10);

/// The first mark of `heddle doctor`, run on the node itself: through the API server nobody can ask when that is away.
fn mark(worker: &Worker) -> Result<Option<Mark>> {
    let mut doctor = worker.node().command("/opt/heddle/heddle");
    let output = doctor.args(["doctor", "--json"]).output()?;
    mark_in(&output.stdout).with_context(|| format!("{output:?}"))
}

fn healthy(worker: &Worker) -> Result {
    Kubectl::until(PATIENCE, "healthy node", || {
        let mark = mark(worker)?;
        ensure!(mark.is_none(), "{mark:#?}");
        Ok(())
    })
}

fn says(worker: &Worker, fault: &str, said: &str, remedy: &str) -> Result {
    Kubectl::until(PATIENCE, fault, || {
        names(fault, Asked::Doctor, mark(worker)?, said, remedy)
    })
}

fn install(worker: &Worker) -> Result {
    let program = fs::read(find::heddle()?)?;
    let config =
        "membership = \"kubernetes\"\ncluster_cidrs = [\"10.244.0.0/16\"]\nnode_name = \"n1\"\n";
    worker.node().run(|| -> Result {
        fs::create_dir_all("/etc/heddle")?;
        fs::create_dir_all("/opt/heddle")?;
        fs::write("/etc/heddle/heddle.toml", config)?;
        fs::write("/opt/heddle/heddle", program)?;
        Ok(fs::set_permissions(
            "/opt/heddle/heddle",
            PermissionsExt::from_mode(0o755),
        )?)
    })
}

/// kube-proxy's rules are gone; the API server is away.
pub fn faults() -> Result {
    shared::with(|lab| {
        install(lab.cluster.worker("n1"))?;
        healthy(lab.cluster.worker("n1"))?;
        let n1 = lab.cluster.worker("n1");
        let node = n1.node().space();
        sh(
            node,
            "iptables-save -t nat >/run/nat; iptables -t nat -F KUBE-SERVICES",
        )?;
        let said = says(
            n1,
            "kube-proxy's rules are missing",
            "no Service is reached from this node",
            "kubectl -n kube-system logs -l k8s-app=kube-proxy",
        );
        sh(node, "iptables-restore -T nat </run/nat")?;
        said?;
        healthy(n1)?;
        lab.cluster.control.kill_api();
        let said = says(
            lab.cluster.worker("n1"),
            "the API server is away",
            "the API server https://10.96.0.1/ is away since",
            "curl -k https://10.96.0.1/readyz",
        );
        lab.cluster.control.start_api()?;
        said?;
        healthy(lab.cluster.worker("n1"))
    })
}

/// Where nothing changes nobody writes: a write to a Node is heard by every other node.
pub fn quiet() -> Result {
    shared::with(|lab| {
        lab.wait_ready()?;
        Kubectl::until(PATIENCE, "quiet", || {
            let before = writes(lab)?;
            std::thread::sleep(QUIET);
            let after = writes(lab)?;
            ensure!(
                before == after,
                "{before} writes to the Nodes, then {after}"
            );
            Ok(())
        })
    })
}

/// The PATCHes of Nodes that are not of their status, which kubelet writes too, as the API server counts them.
fn writes(lab: &Lab) -> Result<u64> {
    let metrics = lab.kubectl().run("get --raw /metrics")?;
    let counts = metrics.lines().filter(|line| {
        let wanted = ["verb=\"PATCH\"", "resource=\"nodes\"", "subresource=\"\""];
        line.starts_with("apiserver_request_total{")
            && wanted.iter().all(|label| line.contains(label))
    });
    let mut sum = 0;
    for line in counts {
        let value = line.rsplit(' ').next().context("a value")?;
        sum += value.parse::<u64>().with_context(|| line.to_owned())?;
    }
    ensure!(sum > 0, "the API server counts no write to any Node");
    Ok(sum)
}
