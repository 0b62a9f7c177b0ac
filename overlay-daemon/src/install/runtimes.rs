//! Where this machine's container runtimes look for plugins and for configurations.

mod conf;

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf, absolute};

use conf::Found;

use super::Options;
use super::error::{Error, Result};

const BIN: &str = "/opt/cni/bin";
const CONF: &str = "/etc/cni/net.d";
const CONTAINERD: &str = "/etc/containerd/config.toml";
const CRIO: &str = "/etc/crio";
const K3S: &str = "/var/lib/rancher/k3s";
const MICROK8S: &str = "/var/snap/microk8s/current";
/// Where podman searches before [`BIN`].
const PODMAN: [&str; 4] = [
    "/usr/local/libexec/cni",
    "/usr/libexec/cni",
    "/usr/local/lib/cni",
    "/usr/lib/cni",
];

/// Where to install for one runtime; both are absolute, one line of text, and without symbolic links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where plugins go.
    pub bin: PathBuf,
    /// Where the configuration goes, if it is wanted.
    pub conf: Option<PathBuf>,
}

/// The places to install in; what the command line names outweighs what is found, and is not looked for.
///
/// # Errors
/// When a runtime's configuration cannot be read.
pub fn places(options: &Options) -> Result<Vec<Place>> {
    let all_named = options.bin_dir.is_some() && (options.conf_dir.is_some() || !options.with_conf);
    let found = match all_named {
        true => vec![Found::default()],
        false => search()?,
    };
    let mut places = Vec::new();
    for found in found {
        let bin = options.bin_dir.clone().or(found.bin);
        let conf = options.conf_dir.clone().or(found.conf);
        let conf = options
            .with_conf
            .then(|| real(&conf.unwrap_or_else(|| CONF.into())));
        let place = Place {
            bin: real(&bin.unwrap_or_else(|| BIN.into()))?,
            conf: conf.transpose()?,
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

/// The directory that is named, or all where plugins may have been installed.
///
/// # Errors
/// As above.
pub fn bin_dirs(options: &Options) -> Result<BTreeSet<PathBuf>> {
    if let Some(dir) = &options.bin_dir {
        return Ok([real(dir)?].into());
    }
    let found = search()?.into_iter().filter_map(|found| found.bin);
    let known = [BIN].iter().chain(&PODMAN).map(PathBuf::from);
    found.chain(known).map(|dir| real(&dir)).collect()
}

/// One for each runtime that is here.
fn search() -> Result<Vec<Found>> {
    let mut all = Vec::new();
    if Path::new(CONTAINERD).is_file() {
        all.push(conf::containerd(Path::new(CONTAINERD))?);
    }
    if Path::new(CRIO).is_dir() {
        all.push(conf::crio(Path::new(CRIO))?);
    }
    let agent = Path::new(K3S).join("agent");
    if agent.is_dir() {
        let said = conf::containerd(&agent.join("etc/containerd/config.toml"))?;
        let data = Path::new(K3S).join("data");
        // Since October 2024, and before.
        let usual = match data.join("cni") {
            cni if cni.is_dir() => cni,
            _ => data.join("current/bin"),
        };
        all.push(Found {
            bin: said.bin.or(Some(usual)),
            conf: Some(agent.join("etc/cni/net.d")),
        });
    }
    let snap = Path::new(MICROK8S);
    if snap.is_dir() {
        all.push(Found {
            bin: Some(snap.join("opt/cni/bin")),
            conf: Some(snap.join("args/cni-network")),
        });
    }
    if all.is_empty() {
        let podman_alone = is_program("podman") && !is_program("containerd");
        let dirs = PODMAN.iter().map(PathBuf::from);
        all.push(Found {
            bin: dirs.filter(|_| podman_alone).find(|dir| dir.is_dir()),
            conf: None,
        });
    }
    Ok(all)
}

fn is_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// A directory by its one absolute name, as far as it is there.
fn real(dir: &Path) -> Result<PathBuf> {
    let bad = || Error::BadName(dir.to_owned());
    let named = absolute(dir).map_err(|_| bad())?;
    let real = named.ancestors().find_map(|there| {
        let rest = named.strip_prefix(there).ok()?;
        let real = there.canonicalize().ok()?.join(rest);
        // Without a slash at its end.
        Some(real.components().collect::<PathBuf>())
    });
    let real = real.unwrap_or(named);
    let text = real.to_str().ok_or_else(bad)?;
    match text.contains('\n') {
        true => Err(bad()),
        false => Ok(real),
    }
}
