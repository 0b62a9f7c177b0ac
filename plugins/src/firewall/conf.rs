//! What firewall reads.

use cni::{Call, Code, Error, Result};
use serde::Deserialize;

/// The zone that lets everything through.
const DEFAULT_ZONE: &str = "trusted";

/// The keys, checked.
#[derive(Debug)]
pub struct FirewallConf {
    /// Who is kept away from the pod; `None` for nobody.
    pub policy: Option<Policy>,
    /// Who lets the pod's packets through.
    pub backend: Backend,
    /// firewalld's zone for pods.
    pub zone: String,
}

/// `backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// firewalld too, where it runs.
    Any,
    /// Nobody but the kernel's own tables.
    Nftables,
    /// firewalld too, which has to run.
    Firewalld,
}

/// `ingressPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Pods of other bridges that have a policy are kept out.
    SameBridge,
    /// So are those of its own bridge.
    Isolated,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    backend: String,
    firewalld_zone: String,
    ingress_policy: String,
}

impl FirewallConf {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// Code 7 for what does not exist.
    pub fn of(call: &Call) -> Result<Self> {
        let keys: Keys = call.conf.parse()?;
        let backend = match keys.backend.as_str() {
            "" => Backend::Any,
            "nftables" | "iptables" => Backend::Nftables,
            "firewalld" => Backend::Firewalld,
            other => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    format!(
                        "invalid value {other:?} for key \"backend\": use \"nftables\" or \"firewalld\", or leave it out"
                    ),
                ));
            }
        };
        let policy = match keys.ingress_policy.as_str() {
            "" | "open" => None,
            "same-bridge" => Some(Policy::SameBridge),
            "isolated" => Some(Policy::Isolated),
            other => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    format!(
                        "invalid value {other:?} for key \"ingressPolicy\": use \"open\", \"same-bridge\" or \"isolated\""
                    ),
                ));
            }
        };
        let zone = match keys.firewalld_zone.as_str() {
            "" => DEFAULT_ZONE.to_owned(),
            zone => zone.to_owned(),
        };
        Ok(Self {
            policy,
            backend,
            zone,
        })
    }
}
