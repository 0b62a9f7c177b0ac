//! The runtime's side of CNI, for commands that act as one on this node.

use std::env;

use cni::runtime::Runtime;

/// Where runtimes keep their results.
const CACHE_DIR: &str = "/var/lib/cni";
/// Where plugins are, unless `CNI_PATH` says it.
const PLUGIN_DIRS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";

/// A runtime with the plugins and the results of this node.
pub fn local() -> Runtime {
    let dirs = env::var_os("CNI_PATH").unwrap_or_else(|| PLUGIN_DIRS.into());
    Runtime {
        path: env::split_paths(&dirs).collect(),
        cache_dir: CACHE_DIR.into(),
    }
}
