//! Results on their way out: the forms of every version.

use serde_json::{Map, Value, json};

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{Code, Error, Result, Version};

impl AddResult {
    /// The document in the form of `version`.
    ///
    /// Code 999 if the result cannot be said in that form: an index into `interfaces` that is out of range (it would
    /// crash containerd), and in 0.1.0 and 0.2.0 no address at all or more than one of a family.
    pub fn to_json(&self, version: Version) -> Result<Value> {
        let mut doc = Map::new();
        doc.insert("cniVersion".into(), version.as_str().into());
        let dns = self.dns.to_json();
        if version < Version::V1_0_0 || !dns.is_empty() {
            doc.insert("dns".into(), dns.into());
        }
        if version < Version::V0_3_0 {
            self.put_families(&mut doc, version)?;
        } else {
            self.put_lists(&mut doc, version)?;
        }
        Ok(Value::Object(doc))
    }

    /// `interfaces`, `ips` and `routes` as from 0.3.0 on; empty ones are left out.
    fn put_lists(&self, doc: &mut Map<String, Value>, version: Version) -> Result<()> {
        let interfaces: Vec<_> = self.interfaces.iter().map(|i| i.to_json(version)).collect();
        let mut ips = Vec::with_capacity(self.ips.len());
        for ip in &self.ips {
            if let Some(index) = ip.interface.filter(|i| *i >= interfaces.len()) {
                return Err(Error::new(
                    Code::Internal,
                    format!(
                        "address {} refers to interface {index}, but the result has only {}",
                        ip.address,
                        interfaces.len()
                    ),
                ));
            }
            ips.push(ip.to_json(version));
        }
        let routes: Vec<_> = self.routes.iter().map(Route::to_json).collect();
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                doc.insert(key.into(), list.into());
            }
        }
        Ok(())
    }

    /// `ip4` and `ip6` as up to 0.2.0: one address a family, the routes with their family, no interfaces.
    fn put_families(&self, doc: &mut Map<String, Value>, version: Version) -> Result<()> {
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let mut ips = self.ips.iter().filter(|ip| ip.address.is_ipv4() == v4);
            let Some(ip) = ips.next() else { continue };
            if ips.next().is_some() {
                return Err(Error::new(
                    Code::Internal,
                    format!(
                        "CNI version {version} does not support more than 1 address per family"
                    ),
                ));
            }
            let mut family = Map::new();
            family.insert("ip".into(), ip.address.to_string().into());
            put(&mut family, "gateway", ip.gateway.map(|gw| gw.to_string()));
            let routes: Vec<_> = self
                .routes
                .iter()
                .filter(|r| r.dst.is_ipv4() == v4)
                .map(|r| match r.gw {
                    Some(gw) => json!({"dst": r.dst.to_string(), "gw": gw.to_string()}),
                    None => json!({"dst": r.dst.to_string()}),
                })
                .collect();
            if !routes.is_empty() {
                family.insert("routes".into(), routes.into());
            }
            doc.insert(key.into(), family.into());
        }
        if self.ips.is_empty() {
            return Err(Error::new(
                Code::Internal,
                "cannot convert: no valid IP addresses",
            )
            .details(format!(
                "a result of CNI version {version} needs one; set cniVersion to 0.3.0 or newer"
            )));
        }
        Ok(())
    }
}

impl Interface {
    fn to_json(&self, version: Version) -> Value {
        let mut doc = Map::new();
        doc.insert("name".into(), self.name.as_str().into());
        put(&mut doc, "mac", self.mac.as_deref());
        put(&mut doc, "sandbox", self.sandbox.as_deref());
        if version >= Version::V1_0_0 {
            put(&mut doc, "mtu", self.mtu);
            put(&mut doc, "socketPath", self.socket_path.as_deref());
            put(&mut doc, "pciID", self.pci_id.as_deref());
        }
        doc.into()
    }
}

impl IpConfig {
    fn to_json(&self, version: Version) -> Value {
        let mut doc = Map::new();
        if version < Version::V1_0_0 {
            let family = if self.address.is_ipv4() { "4" } else { "6" };
            doc.insert("version".into(), family.into());
        }
        doc.insert("address".into(), self.address.to_string().into());
        put(&mut doc, "gateway", self.gateway.map(|gw| gw.to_string()));
        put(&mut doc, "interface", self.interface);
        doc.into()
    }
}

impl Route {
    /// The same in every version from 0.3.0 on: the attributes came with 1.1.0, but a chain of plugins must not lose
    /// them on the way, and readers of older versions ignore them.
    fn to_json(&self) -> Value {
        let mut doc = Map::new();
        doc.insert("dst".into(), self.dst.to_string().into());
        put(&mut doc, "gw", self.gw.map(|gw| gw.to_string()));
        put(&mut doc, "mtu", self.mtu);
        put(&mut doc, "advmss", self.advmss);
        put(&mut doc, "priority", self.priority);
        put(&mut doc, "table", self.table);
        put(&mut doc, "scope", self.scope);
        doc.into()
    }
}

impl Dns {
    fn to_json(&self) -> Map<String, Value> {
        let mut doc = Map::new();
        put(&mut doc, "domain", self.domain.as_deref());
        for (key, list) in [
            ("nameservers", &self.nameservers),
            ("search", &self.search),
            ("options", &self.options),
        ] {
            put(&mut doc, key, (!list.is_empty()).then(|| list.clone()));
        }
        doc
    }
}

fn put(doc: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        doc.insert(key.into(), value.into());
    }
}
