//! What Heddle reads of a Node, how the API server is reached, and what its refusals mean.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Client, Resource};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Deserializer};

use crate::config::Config;

/// Our annotations on a Node: its addresses on the underlay, separated by commas.
pub(super) const ENDPOINTS: &str = "heddle.dev/endpoints";
/// The MAC address of its VTEP.
pub(super) const VTEP_MAC: &str = "heddle.dev/vtep-mac";
/// What it needs the others to agree on, as `vni=1,vxlan-port=8472`.
pub(super) const CAPABILITIES: &str = "heddle.dev/capabilities";
/// The condition by which Kubernetes knows whether pods of a node are reached.
pub(super) const CONDITION: &str = "NetworkUnavailable";

/// An API server that takes no connection for so long is away.
const CONNECT: Duration = Duration::from_secs(5);

/// Until the next attempt at the API server: never longer than an operator would wait for it, and never at the same moment as
/// all other nodes.
#[derive(Default)]
pub(super) struct Patience(DefaultBackoff);

/// The longest of them.
const LONGEST: Duration = Duration::from_secs(10);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.0.next()?.min(LONGEST);
        let random = SysRng.try_next_u32().unwrap_or_default();
        Some(delay.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// A Node, less all that Heddle does not read: a whole one has 16 KB and more, of which this is a few hundred bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct KubeNode {
    #[serde(deserialize_with = "trimmed")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

/// `NodeSpec`, in part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

/// `NodeStatus`, in part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub conditions: Vec<Condition>,
}

/// `NodeCondition`, in part.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(default)]
    pub message: String,
}

impl Resource for KubeNode {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Node".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "nodes".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// `ObjectMeta` with nothing but what is read here.
fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        name: Option<String>,
        resource_version: Option<String>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let mut meta = Meta::deserialize(deserializer)?;
    meta.annotations
        .retain(|key, _| [ENDPOINTS, VTEP_MAC, CAPABILITIES].contains(&key.as_str()));
    Ok(ObjectMeta {
        name: meta.name,
        resource_version: meta.resource_version,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        annotations: Some(meta.annotations),
        ..ObjectMeta::default()
    })
}

/// A client by "kubeconfig", or else by the pod's service account, and the API server's URL.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) async fn connect(config: &Config) -> Result<(Client, String), String> {
    let mut found = match &config.kubeconfig {
        Some(path) => {
            let said = |error: kube::config::KubeconfigError| {
                format!("\"kubeconfig\": cannot use {}: {}", path.display(), chain(&error))
            };
            let file = Kubeconfig::read_from(path).map_err(said)?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(said)?
        }
        None => kube::Config::incluster().map_err(|error| {
            format!(
                "there is no service account to reach the API server with: {}: run in a pod that has one, or set \"kubeconfig\"",
                chain(&error)
            )
        })?,
    };
    found.connect_timeout = Some(CONNECT);
    let server = found.cluster_url.to_string();
    match Client::try_from(found) {
        Ok(client) => Ok((client, server)),
        Err(error) => Err(format!("\"kubeconfig\": {}", chain(&error))),
    }
}

/// What an error of a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// A sentence.
    pub text: String,
    /// Whether it takes a person to end it; otherwise the API server is just away.
    pub is_refusal: bool,
}

/// Explains the failure of `verb` on `resource`.
pub(super) fn explain(error: &kube::Error, verb: &str, resource: &str) -> Trouble {
    match error {
        kube::Error::Api(status) if status.code == 403 => Trouble {
            text: format!(
                "the API server does not let us {verb} {resource}: {}: grant the verb \"{verb}\" on \"{resource}\" (conf/kubernetes/base/rbac.yaml)",
                status.message
            ),
            is_refusal: true,
        },
        kube::Error::Api(status) if status.code == 401 => Trouble {
            text: format!(
                "the API server does not know us, so we cannot {verb} {resource}: {}: is the service account's token, or that of \"kubeconfig\", still valid?",
                status.message
            ),
            is_refusal: true,
        },
        other => Trouble {
            text: format!("cannot {verb} {resource}: {}", chain(other)),
            is_refusal: matches!(other, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429),
        },
    }
}

/// An error with its causes, as far as they add anything.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}
