//! What is shipped: the one file equals the base, and both name what the code uses.
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use lab::kubernetes::{CLUSTER_CIDR, Kubectl};
use lab::{Result, find, oci};
use serde_json::Value;

use crate::shared::{self, conf};

/// Every overlay, with its directories of plugins and of network configurations.
const OVERLAYS: [(&str, &str, &str); 5] = [
    ("debian", "/usr/lib/cni", "/etc/cni/net.d"),
    ("gke", "/home/kubernetes/bin", "/etc/cni/net.d"),
    (
        "k3s",
        "/var/lib/rancher/k3s/data/cni",
        "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    ),
    (
        "microk8s",
        "/var/snap/microk8s/current/opt/cni/bin",
        "/var/snap/microk8s/current/args/cni-network",
    ),
    ("openshift", "/var/lib/cni/bin", "/run/multus/cni/net.d"),
];

/// The objects of a manifest as JSON, without asking the API server to keep them.
fn objects(kubectl: &Kubectl, manifest: String) -> Result<Vec<Value>> {
    let mut create = kubectl.command("create --dry-run=client -o json -f -");
    let text = create.stdin(manifest).ok()?;
    let objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let mut objects = objects.collect::<std::result::Result<Vec<_>, _>>()?;
    if let [list] = objects.as_slice()
        && let Some(items) = list["items"].as_array()
    {
        objects = items.clone();
    }
    objects.sort_by_key(|object| format!("{}{}", object["kind"], object["metadata"]["name"]));
    Ok(objects)
}

fn kustomized(kubectl: &Kubectl, directory: &str) -> Result<Vec<Value>> {
    let directory = conf(directory);
    let text = kubectl.run(&format!("kustomize {}", directory.display()))?;
    objects(kubectl, text)
}

fn find_kind<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.with_context(|| format!("no {kind}"))
}

/// The rendered file, the base and the overlays.
pub fn agree() -> Result {
    shared::with(|lab| {
        let kubectl = lab.kubectl();
        let base = kustomized(&kubectl, "base")?;
        let rendered = objects(&kubectl, fs::read_to_string(conf("heddle.yaml"))?)?;
        ensure!(
            base == rendered,
            "conf/kubernetes/heddle.yaml is not what conf/kubernetes/base comes to:\n{rendered:#?}\n{base:#?}"
        );
        names_what_is_used(&base)?;
        for (name, bin_dir, conf_dir) in OVERLAYS {
            let overlay = kustomized(&kubectl, &format!("overlays/{name}"))?;
            let pod = &find_kind(&overlay, "DaemonSet")?["spec"]["template"]["spec"];
            ensure!(host_path(pod, "cni-bin") == bin_dir, "{name}: {pod:#}");
            ensure!(host_path(pod, "cni-conf") == conf_dir, "{name}: {pod:#}");
            let install = &pod["initContainers"][0];
            ensure!(install["args"][4] == bin_dir, "{name}: {install:#}");
            ensure!(
                install["volumeMounts"][0]["mountPath"] == bin_dir,
                "{name}: {install:#}"
            );
        }
        Ok(())
    })
}

fn host_path<'a>(pod: &'a Value, volume: &str) -> &'a str {
    let volumes = pod["volumes"].as_array().into_iter().flatten();
    let mut found = volumes.filter(|known| known["name"] == volume);
    let found = found
        .next()
        .and_then(|volume| volume["hostPath"]["path"].as_str());
    found.unwrap_or_default()
}

/// Image, configuration, directories and port.
fn names_what_is_used(base: &[Value]) -> Result {
    let pod = &find_kind(base, "DaemonSet")?["spec"]["template"]["spec"];
    let daemon = &pod["containers"][0];
    for container in [daemon, &pod["initContainers"][0]] {
        ensure!(container["image"] == oci::HEDDLE, "{}", container["image"]);
    }
    let cleanup = fs::read_to_string(conf("cleanup.yaml"))?;
    ensure!(
        cleanup.matches(oci::HEDDLE).count() == 2,
        "another image in cleanup.yaml"
    );

    let text = find_kind(base, "ConfigMap")?["data"]["heddle.toml"].clone();
    let text = text.as_str().context("no heddle.toml")?.to_owned();
    let config: toml::Table = text.parse()?;
    ensure!(
        config["cluster_cidrs"][0].as_str() == Some(CLUSTER_CIDR),
        "{config}"
    );
    let http: SocketAddr = config["http"].as_str().context("no http")?.parse()?;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &daemon[probe]["httpGet"];
        ensure!(get["port"] == http.port(), "{probe}: {get}");
        ensure!(get["host"] == http.ip().to_string(), "{probe}: {get}");
    }
    // `heddle config check` knows every key, and shows each with its value, defaults too.
    let node = lab::Node::new("config")?;
    node.run(|| fs::write("/etc/heddle.toml", &text))?;
    let mut check = node.command(find::heddle()?);
    let env = daemon["env"].as_array().into_iter().flatten();
    for variable in env {
        let name = variable["name"].as_str().unwrap_or_default();
        check.env(name, variable["value"].as_str().unwrap_or("n1"));
    }
    let shown = check
        .args(["--config", "/etc/heddle.toml", "config", "check"])
        .ok()?;
    let mounts = daemon["volumeMounts"].as_array().into_iter().flatten();
    let mounts: BTreeSet<&str> = mounts
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect();
    for key in ["state_dir", "run_dir", "cni_conf_dir"] {
        let line = shown.lines().find(|line| line.starts_with(key));
        let line = line.with_context(|| format!("no {key} in {shown}"))?;
        let is_mounted = |path: &&str| line.contains(&format!("\"{path}\""));
        ensure!(mounts.iter().any(is_mounted), "{line}: not in {mounts:?}");
    }
    let sysctl = shown.lines().find(|line| line.starts_with("sysctl_dir"));
    ensure!(
        sysctl.is_some_and(|line| line.contains("\"/host/proc/sys\""))
            && mounts.contains("/host/proc/sys/net"),
        "{sysctl:?}, {mounts:?}"
    );
    Ok(())
}
