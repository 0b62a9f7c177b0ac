//! A node on which many pods live already, as far as an allocator can tell.
use std::fs;
use std::net::Ipv4Addr;

use crate::{Node, Result};

/// 10.88.0.0.
const FIRST: u32 = (10 << 24) | (88 << 16);

/// Gives the first `count` addresses from 10.88.0.2 on in the network `lab` away, byte for byte as the reference writes
/// it: container and interface on two lines that end in CR LF, and the last reserved address.
pub fn fill(node: &Node, count: u32) -> Result {
    node.run(|| {
        let dir = "/var/lib/cni/networks/lab";
        fs::create_dir_all(dir)?;
        let address = |n: u32| Ipv4Addr::from_bits(FIRST + n).to_string();
        for n in 2..count + 2 {
            fs::write(format!("{dir}/{}", address(n)), format!("held{n}\r\neth0"))?;
        }
        fs::write(format!("{dir}/last_reserved_ip.0"), address(count + 1))?;
        Ok(())
    })
}
