//! Configurations for the tests: a plain one of a plugin, and what a test wants different.
use serde_json::{Value, json};

/// A `bridge` with `host-local` on `cbr0`, 10.88.0.0/24, cniVersion 1.1.0, with these keys changed or added; a `null`
/// takes a key away.
pub fn bridge(changes: Value) -> Value {
    let plain = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "bridge", "bridge": "cbr0",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]},
    });
    with(plain, changes)
}

/// IPAM of both families: 10.88.0.0/24 and fd88::/64.
pub fn dual_stack() -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd88::/64"}]]})
}

/// A configuration with top-level keys replaced, added or (by `null`) taken away.
pub fn with(mut conf: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => conf.as_object_mut().and_then(|conf| conf.remove(key)),
            value => conf
                .as_object_mut()
                .and_then(|conf| conf.insert(key.clone(), value.clone())),
        };
    }
    conf
}
