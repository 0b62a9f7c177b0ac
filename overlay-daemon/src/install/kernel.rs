//! What the plugins need of the kernel, found by trying in a network namespace that goes with the attempt.

use std::net::Ipv4Addr;
use std::thread;

use netlink::link::{Bridge, Veth, Vxlan, VxlanInfo};
use netlink::netns::Netns;
use netlink::nft::{Chain, Expr, Family, Hook, Table, Transaction};
use netlink::{Handle, Mac, nft};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::Say;

/// What may be lacking: its name, the modules that bring it, and how it is tried.
type Feature = (
    &'static str,
    &'static str,
    fn(&Netns) -> netlink::Result<()>,
);

const FEATURES: [Feature; 4] = [
    ("veth", "veth", veth),
    ("bridge", "bridge", bridge),
    ("VXLAN", "vxlan", vxlan),
    ("nftables NAT", "nft_chain_nat nft_masq", nat),
];

/// Says what the kernel lacks; a note when it cannot be tried.
pub fn check(say: Say) {
    let Some(lacking) = lacking() else {
        return say("note: the kernel was not tried, which needs root with its capabilities");
    };
    for (what, modules) in lacking {
        say(&format!(
            "the kernel has no {what}: run `modprobe -a {modules}`, or choose a kernel that has it"
        ));
    }
}

/// What the kernel lacks, and the modules that bring it; `None` without the right to try. The namespace is that of a thread
/// of its own, and goes with it.
pub(crate) fn lacking() -> Option<Vec<(&'static str, &'static str)>> {
    thread::spawn(attempt).join().ok().flatten()
}

fn attempt() -> Option<Vec<(&'static str, &'static str)>> {
    unshare(CloneFlags::CLONE_NEWNET).ok()?;
    let here = Netns::current().ok()?;
    let mut lacking = Vec::new();
    for feature in FEATURES {
        match feature.2(&here) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EPERM) => return None,
            Err(_) => lacking.push((feature.0, feature.1)),
        }
    }
    Some(lacking)
}

fn veth(here: &Netns) -> netlink::Result<()> {
    let veth = Veth {
        name: "t0",
        peer_name: "t1",
        peer_netns: here,
        mtu: None,
        mac: Mac::from([2, 0, 0, 0, 0, 1]),
        peer_mac: Mac::from([2, 0, 0, 0, 0, 2]),
        master: None,
        up: false,
    };
    Handle::new()?.execute(vec![veth.request()])
}

fn bridge(_: &Netns) -> netlink::Result<()> {
    let bridge = Bridge {
        name: "t2",
        ..Bridge::default()
    };
    Handle::new()?.execute(vec![bridge.request()])
}

fn vxlan(_: &Netns) -> netlink::Result<()> {
    let vxlan = Vxlan {
        name: "t3",
        info: VxlanInfo {
            vni: 1,
            local: Some(Ipv4Addr::LOCALHOST.into()),
            port: 4789,
            learning: false,
        },
        mac: Mac::from([2, 0, 0, 0, 0, 3]),
        mtu: 1400,
    };
    Handle::new()?.execute(vec![vxlan.request()])
}

fn nat(_: &Netns) -> netlink::Result<()> {
    let mut transaction = Transaction::new(Table {
        family: Family::Inet,
        name: "t",
    });
    transaction.add_table();
    transaction.add_chain(&Chain {
        name: "c",
        hook: Some(Hook::SNAT_POSTROUTING),
    });
    transaction.add_rule("c", Expr::masquerade(), None);
    nft::Handle::new()?.commit(&transaction)
}
