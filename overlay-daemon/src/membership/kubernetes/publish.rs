//! What this node says of itself on its Node: where it is, and whether its network works. One write for each real change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use netlink::Mac;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::{CAPABILITIES, CONDITION, ENDPOINTS, KubeNode, Trouble, VTEP_MAC, explain};
use super::set;
use crate::config::Config;
use crate::health::Health;
use crate::names::vtep_mac;

/// Who applies our annotations.
const MANAGER: &str = "heddle";
/// How long a write may take to come back by the watch before the Node is looked at again.
const ECHO: Duration = Duration::from_secs(5);

/// What the Node says of us.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Published {
    annotations: BTreeMap<String, String>,
    /// Status and message of the condition.
    condition: Option<(String, String)>,
}

impl Published {
    /// As the API server has it.
    pub fn of(object: &KubeNode) -> Self {
        let condition = set::condition(object);
        Self {
            annotations: object.metadata.annotations.clone().unwrap_or_default(),
            condition: condition.map(|known| (known.status.clone(), known.message.clone())),
        }
    }
}

/// What it is told from.
#[derive(Debug)]
pub(super) struct Sources {
    pub endpoints: watch::Receiver<Vec<IpAddr>>,
    pub health: watch::Receiver<Health>,
    /// None while there is no Node.
    pub published: watch::Receiver<Option<Published>>,
}

/// Keeps the Node true, for ever; `trouble` says what is in the way.
pub(super) async fn run(
    api: Api<KubeNode>,
    config: &Config,
    mut sources: Sources,
    trouble: watch::Sender<Option<Trouble>>,
) {
    let mut backoff = DefaultBackoff::default();
    loop {
        let published = sources.published.borrow_and_update().clone();
        let annotations = annotations(config, &sources.endpoints.borrow_and_update());
        let condition = condition(&sources.health.borrow_and_update());
        let wrote = match published {
            None => Ok(false),
            Some(published) => {
                write(&api, &config.node_name, &published, &annotations, condition).await
            }
        };
        let failed = wrote.as_ref().err().cloned();
        trouble.send_if_modified(|known| std::mem::replace(known, failed.clone()) != failed);
        let pause = match wrote {
            Ok(wrote) => {
                backoff.reset();
                wrote.then_some(ECHO)
            }
            Err(_) => Some(backoff.next().unwrap_or(ECHO)),
        };
        // A refusal stays one until its time is over, whatever is new meanwhile.
        if let (Some(pause), Some(_)) = (pause, &failed) {
            tokio::time::sleep(pause).await;
            continue;
        }
        let timer = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = sources.published.changed() => {}
            Ok(()) = sources.endpoints.changed() => {}
            Ok(()) = sources.health.changed() => {}
            () = timer => {}
        }
    }
}

fn annotations(config: &Config, endpoints: &[IpAddr]) -> BTreeMap<String, String> {
    // An address that is away for a moment is no news: what was published stays.
    if endpoints.is_empty() {
        return BTreeMap::new();
    }
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    let mac = Mac::from(vtep_mac(&config.node_name));
    [
        (ENDPOINTS, endpoints.join(",")),
        (VTEP_MAC, mac.to_string()),
        (CAPABILITIES, set::capabilities(config)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Status, reason and message.
fn condition(health: &Health) -> Option<(&'static str, &'static str, String)> {
    match health {
        Health::Unknown => None,
        Health::Carries => Some((
            "False",
            "HeddleIsUp",
            "Heddle carries this node's pod traffic".into(),
        )),
        Health::Waiting(why) => Some(("True", "HeddleIsWaiting", why.clone())),
        Health::Broken(why) => Some(("True", "HeddleIsBroken", why.clone())),
    }
}

/// Writes what differs, and says whether that was anything.
async fn write(
    api: &Api<KubeNode>,
    name: &str,
    published: &Published,
    annotations: &BTreeMap<String, String>,
    condition: Option<(&'static str, &'static str, String)>,
) -> Result<bool, Trouble> {
    let mut wrote = false;
    let differs = |(key, value): (&String, &String)| published.annotations.get(key) != Some(value);
    if annotations.iter().any(differs) {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "annotations": annotations},
        });
        let apply = PatchParams::apply(MANAGER).force();
        api.patch(name, &apply, &Patch::Apply(body))
            .await
            .map_err(|error| explain(&error, "patch", "nodes"))?;
        tracing::info!(?annotations, "published on the Node");
        wrote = true;
    }
    if let Some((status, reason, message)) = condition
        && published.condition != Some((status.to_owned(), message.clone()))
    {
        let mut body = json!({
            "type": CONDITION,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now(),
        });
        let before = published
            .condition
            .as_ref()
            .map(|(status, _)| status.as_str());
        if before != Some(status) {
            body["lastTransitionTime"] = now();
        }
        let body = json!({"status": {"conditions": [body]}});
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(body))
            .await
            .map_err(|error| explain(&error, "patch", "nodes/status"))?;
        tracing::info!(status, reason, message, "{CONDITION}");
        wrote = true;
    }
    Ok(wrote)
}

/// As Kubernetes writes times: UTC, to the second.
fn now() -> Value {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
        .into()
}
