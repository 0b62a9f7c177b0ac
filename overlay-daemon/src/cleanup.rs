//! `heddle cleanup`: takes away all that the daemon made on this node, and nothing else.

use netlink::nft::Transaction;
use netlink::{Handle, link, nft};

use crate::config::Config;
use crate::conflist::Conflist;
use crate::firewall;
use crate::names::{BRIDGE_ALIAS, TABLE};
use crate::observe::Observed;
use crate::system;

/// Removes conflist, routes, nexthops, device, nftables table and the daemon's files; says what was removed. The claim goes
/// with the files: it returns to the cluster when its quarantine is over, or by `heddle forget`.
///
/// # Errors
/// Pods that are still there: a runtime cannot take them down without the conflist, so nothing is removed. Otherwise what
/// could not be removed; everything else is.
pub fn cleanup(config: &Config) -> Result<Vec<String>, String> {
    let said = |error: netlink::Error| error.to_string();
    let mut removed = Vec::new();
    let mut failures = Vec::new();
    let mut handle = Handle::new().map_err(said)?;
    let bridge = own_bridge(&mut handle, config)?;
    let conflist = Conflist::new(config);
    match conflist.remove() {
        Ok(true) => removed.push(conflist.path().display().to_string()),
        Ok(false) => {}
        Err(why) => failures.push(why),
    }
    let observed = Observed::read(&mut handle).map_err(said)?;
    let routes: Vec<_> = observed.routes.into_values().flatten().collect();
    let mut requests: Vec<_> = routes.iter().map(netlink::Route::delete).collect();
    requests.extend(observed.nexthops.values().map(netlink::Nexthop::delete));
    requests.extend(
        observed
            .device
            .as_ref()
            .map(|device| link::delete(device.index)),
    );
    let count = requests.len();
    match handle.execute(requests) {
        Err(error) if !error.is_not_found() => failures.push(error.to_string()),
        _ if count > 0 => removed.push(format!(
            "{} routes, {} nexthops, {}",
            routes.len(),
            observed.nexthops.len(),
            crate::names::DEVICE
        )),
        _ => {}
    }
    let mut rules = nft::Handle::new().map_err(said)?;
    if firewall::find(&mut rules).map_err(said)? != firewall::Found::default() {
        let mut transaction = Transaction::new(TABLE);
        transaction.delete_table();
        match rules.commit(&transaction) {
            Ok(()) => removed.push(format!("nftables table inet {}", TABLE.name)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if let Some(index) = bridge {
        match handle.execute(vec![link::delete(index)]) {
            Err(error) if !error.is_not_found() => failures.push(error.to_string()),
            _ => removed.push(config.bridge.clone()),
        }
    }
    match system::restore(config) {
        Ok(restored) => removed.extend(restored),
        Err(why) => failures.push(why),
    }
    for directory in [&config.state_dir, &config.run_dir] {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => removed.push(directory.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => failures.push(format!("cannot remove {}: {error}", directory.display())),
        }
    }
    match failures.is_empty() {
        true => Ok(removed),
        false => Err(failures.join("; ")),
    }
}

/// The index of the bridge that was made for the conflist's pods: with the last of them gone it has no purpose.
fn own_bridge(handle: &mut Handle, config: &Config) -> Result<Option<u32>, String> {
    let said = |error: netlink::Error| error.to_string();
    let Some(bridge) = handle.link(&config.bridge).map_err(said)? else {
        return Ok(None);
    };
    if bridge.alias.as_deref() != Some(BRIDGE_ALIAS) {
        return Ok(None);
    }
    let links = handle.links().map_err(said)?;
    if links.iter().any(|link| link.master == Some(bridge.index)) {
        return Err(format!(
            "{} still has pods on it, which cannot be taken down without the network: drain the node, then run `heddle cleanup` again",
            config.bridge
        ));
    }
    Ok(Some(bridge.index))
}
