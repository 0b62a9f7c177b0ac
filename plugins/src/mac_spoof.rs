//! `macspoofchk`: frames that come from a pod must carry the pod's own MAC.
//!
//! The table is `bridge heddle_cni`. Its base chain looks the port up in `ports`; a guarded port jumps
//! to a chain of its own name, which lets frames with the right source go on, and drops the rest.

use cni::{Call, Code, Error, Result, identity};
use netlink::Mac;
use netlink::nft::{Expr, Family, Handle, Hook, Key, Table, Type};

use crate::rules::{self, Entry, Map, Rules};

const PORTS: &str = "ports";

const RULES: Rules = Rules {
    table: Table {
        family: Family::Bridge,
        name: "heddle_cni",
    },
    base: "prerouting",
    hook: Hook::BRIDGE_PREROUTING,
    prelude: &[],
    sets: &[],
    maps: &[Map {
        name: PORTS,
        key: Type::InterfaceName,
        rule: Expr::input_interface_verdict,
    }],
    prefix: "veth",
    rules_per_chain: 2,
};

/// Lets the attachment's port take frames from `mac` only.
///
/// # Errors
/// What the kernel said.
pub fn add(call: &Call, mac: Mac) -> Result<()> {
    let port = identity::host_link_name(&call.attachment);
    let entry = Entry {
        map: PORTS,
        key: Key::interface(&port),
        rules: vec![Expr::ether_source(mac).then(Expr::return_()), Expr::drop_()],
        chain: port,
    };
    RULES.add(&mut rules::open()?, call, &[entry])
}

/// Stops looking at the attachment's port.
///
/// # Errors
/// What the kernel said.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let key = Key::interface(&identity::host_link_name(&call.attachment));
    RULES.remove(nft, call, Some(&[(PORTS, key)]))
}

/// Stops looking at the ports of the network's attachments that are not valid.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut Handle, call: &Call) -> Result<()> {
    RULES.collect(nft, call)
}

/// Whether the attachment's port is looked at.
///
/// # Errors
/// Code 999 when it is not.
pub fn check(call: &Call) -> Result<()> {
    let port = identity::host_link_name(&call.attachment);
    match RULES.has(&mut rules::open()?, call, PORTS, Key::interface(&port))? {
        true => Ok(()),
        false => Err(Error::new(
            Code::Internal,
            format!(
                "frames from {port} are not checked any more: it is missing in `nft list map bridge heddle_cni {PORTS}`"
            ),
        )),
    }
}
