//! What firewall reads.

use cni::{Call, Code, Error, Result};
use serde::Deserialize;

/// The keys, checked.
#[derive(Debug)]
pub struct FirewallConf {
    /// Who is kept away from the pod; `None` for nobody.
    pub policy: Option<Policy>,
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
    ingress_policy: String,
}

impl FirewallConf {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// Code 2 for `firewalld`, code 7 for what does not exist.
    pub fn of(call: &Call) -> Result<Self> {
        let keys: Keys = call.conf.parse()?;
        match keys.backend.as_str() {
            "" | "nftables" | "iptables" => {}
            "firewalld" => {
                return Err(Error::new(
                    Code::UnsupportedField,
                    "unsupported value \"firewalld\" for key \"backend\": leave it out, and put the pods' bridge into firewalld's zone \"trusted\"",
                ));
            }
            other => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    format!(
                        "invalid value {other:?} for key \"backend\": use \"nftables\", or leave it out"
                    ),
                ));
            }
        }
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
        Ok(Self { policy })
    }
}
