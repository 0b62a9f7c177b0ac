//! What this node says of itself on its Node: where it is, and whether its network works. One write for each real change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::utils::Backoff;
use netlink::Mac;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::{
    CAPABILITIES, CONDITION, ENDPOINTS, KubeNode, Patience, Trouble, VTEP_MAC, explain,
};
use super::set;
use crate::config::Config;
use crate::health::Health;
use crate::names::vtep_mac;

/// Who applies our annotations.
const MANAGER: &str = "heddle";
/// How long a write may take to come back by the watch before it is made again.
const ECHO: Duration = Duration::from_secs(60);

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
    let mut backoff = Patience::default();
    let mut own = Own::default();
    loop {
        let published = sources.published.borrow_and_update().clone();
        let annotations = annotations(config, &sources.endpoints.borrow_and_update());
        let condition = condition(&sources.health.borrow_and_update());
        let wrote = match published {
            None => Ok(false),
            Some(published) => {
                own.write(&api, &config.node_name, &published, &annotations, condition)
                    .await
            }
        };
        let failed = wrote.as_ref().err().cloned();
        let is_new =
            trouble.send_if_modified(|known| std::mem::replace(known, failed.clone()) != failed);
        if let (true, Some(failed)) = (is_new, &failed) {
            tracing::warn!("{}", failed.text);
        }
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

/// A part of the Node that was written: what it was before, what it is to be, and when.
#[derive(Debug)]
struct Written<T>(Option<(T, T, Instant)>);

impl<T> Default for Written<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone + PartialEq> Written<T> {
    /// Whether `wanted` is to be written over what the watch has last shown. It is not while a write of the same may still
    /// come back.
    fn is_due(&self, shown: &T, wanted: &T) -> bool {
        let is_coming = self.0.as_ref().is_some_and(|(before, after, at)| {
            before == shown && after == wanted && at.elapsed() < ECHO
        });
        shown != wanted && !is_coming
    }

    fn note(&mut self, shown: &T, wanted: &T) {
        self.0 = Some((shown.clone(), wanted.clone(), Instant::now()));
    }

    /// Another write than ours has been shown since: what we wrote is no longer on its way.
    fn hear(&mut self, shown: &T) {
        self.0 = self.0.take().filter(|(before, ..)| before == shown);
    }
}

/// What we have written.
#[derive(Debug, Default)]
struct Own {
    annotations: Written<BTreeMap<String, String>>,
    condition: Written<Option<(String, String)>>,
}

impl Own {
    /// Writes what differs, and says whether that was anything.
    async fn write(
        &mut self,
        api: &Api<KubeNode>,
        name: &str,
        published: &Published,
        annotations: &BTreeMap<String, String>,
        condition: Option<(&'static str, &'static str, String)>,
    ) -> Result<bool, Trouble> {
        let mut wrote = false;
        let mut shown = published.annotations.clone();
        shown.retain(|key, _| annotations.contains_key(key));
        self.annotations.hear(&shown);
        if self.annotations.is_due(&shown, annotations) {
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
            self.annotations.note(&shown, annotations);
            wrote = true;
        }
        self.condition.hear(&published.condition);
        let Some((status, reason, message)) = condition else {
            return Ok(wrote);
        };
        let wanted = Some((status.to_owned(), message.clone()));
        if self.condition.is_due(&published.condition, &wanted) {
            let mut body = json!({
                "type": CONDITION,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now(),
            });
            let before = published.condition.as_ref();
            if before.map(|(status, _)| status.as_str()) != Some(status) {
                body["lastTransitionTime"] = now();
            }
            let body = json!({"status": {"conditions": [body]}});
            api.patch_status(name, &PatchParams::default(), &Patch::Strategic(body))
                .await
                .map_err(|error| explain(&error, "patch", "nodes/status"))?;
            tracing::info!(status, reason, message, "{CONDITION}");
            self.condition.note(&published.condition, &wanted);
            wrote = true;
        }
        Ok(wrote)
    }
}

/// As Kubernetes writes times: UTC, to the second.
fn now() -> Value {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
        .into()
}
