//! What happens with less than the rights that the daemon asks for: the log names verb and resource, and it goes on.
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::Result;
use lab::kubernetes::Kubectl;
use serde_json::{Value, json};

use crate::shared::{self, PATIENCE, condition};

/// Each verb of the role, once taken away.
pub fn each_verb_missing() -> Result {
    shared::with(|lab| {
        let kubectl = lab.kubectl();
        let role = kubectl.get("clusterrole heddle")?;
        let rights = rights(&role);
        ensure!(!rights.is_empty(), "no rights in {role}");
        for (resource, verb) in &rights {
            let told = without(&kubectl, &role, resource, verb);
            kubectl.apply(plain(&role).to_string())?;
            told.with_context(|| format!("without {verb} on {resource}"))?;
        }
        println!("rights asked for: {rights:?}");
        lab.wait_ready()?;
        let mut rollout =
            kubectl.command("-n heddle rollout status daemonset heddle --timeout=90s");
        rollout.deadline(PATIENCE * 2).ok().map(drop)
    })
}

/// Resource and verb of each right.
fn rights(role: &Value) -> Vec<(String, String)> {
    let rules = role["rules"].as_array().into_iter().flatten();
    let texts = |list: &Value| -> Vec<String> {
        let items = list.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    rules
        .flat_map(|rule| {
            let (resources, verbs) = (texts(&rule["resources"]), texts(&rule["verbs"]));
            let pairs = resources
                .into_iter()
                .map(move |resource| (resource, verbs.clone()));
            pairs.flat_map(|(resource, verbs)| {
                verbs.into_iter().map(move |verb| (resource.clone(), verb))
            })
        })
        .collect()
}

/// The role as one would write it.
fn plain(role: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "heddle"}, "rules": role["rules"],
    })
}

/// Takes a right away, starts the daemon of n1 anew with something to write, and waits until it says what is missing.
fn without(kubectl: &Kubectl, role: &Value, resource: &str, verb: &str) -> Result {
    let mut less = plain(role);
    for rule in less["rules"].as_array_mut().into_iter().flatten() {
        if rule["resources"] == json!([resource])
            && let Some(verbs) = rule["verbs"].as_array_mut()
        {
            verbs.retain(|kept| *kept != *verb);
        }
    }
    if let Some(rules) = less["rules"].as_array_mut() {
        rules.retain(|rule| rule["verbs"] != json!([]));
    }
    kubectl.apply(less.to_string())?;
    kubectl.run("annotate node n1 heddle.dev/vtep-mac-")?;
    forget_condition(kubectl)?;
    let pods = "-n heddle pods -l app.kubernetes.io/name=heddle --field-selector spec.nodeName=n1";
    let old = name(&kubectl.get(pods)?)?;
    kubectl.run(&format!(
        "-n heddle delete pod {old} --grace-period=1 --wait=false"
    ))?;
    Kubectl::until(PATIENCE, "a log that names verb and resource", || {
        let list = kubectl.get(pods)?;
        let name = name(&list)?;
        ensure!(
            list["items"].as_array().map_or(0, Vec::len) == 1,
            "two pods"
        );
        ensure!(name != old, "still the old pod");
        let restarts = &list["items"][0]["status"]["containerStatuses"][0]["restartCount"];
        ensure!(*restarts == 0, "the daemon ended {restarts} times");
        let log = kubectl.run(&format!("-n heddle logs {name}"))?;
        let said = log.lines().find(|line| {
            line.contains(&format!("\"{verb}\"")) && line.contains(&format!("\"{resource}\""))
        });
        said.map(drop).with_context(|| log.clone())
    })
}

fn name(list: &Value) -> Result<String> {
    let name = list["items"][0]["metadata"]["name"].as_str();
    Ok(name.context("no daemon on n1")?.to_owned())
}

/// Takes the condition off the Node, so that the daemon has it to write.
fn forget_condition(kubectl: &Kubectl) -> Result {
    Kubectl::until(
        Duration::from_secs(10),
        "Node without the condition",
        || {
            let mut node = kubectl.get("node n1")?;
            if let Some(conditions) = node["status"]["conditions"].as_array_mut() {
                conditions.retain(|condition| condition["type"] != "NetworkUnavailable");
            }
            let mut replace = kubectl.command("replace --raw /api/v1/nodes/n1/status -f -");
            let after: Value = serde_json::from_str(&replace.stdin(node.to_string()).ok()?)?;
            ensure!(
                condition(&after, "NetworkUnavailable") == "absent",
                "it is still there"
            );
            Ok(())
        },
    )
}
