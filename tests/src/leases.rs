//! A node on which many pods live already, as far as an allocator can tell.
use std::fs;

use crate::{Node, Result};

/// Gives the first `count` addresses of 10.88.0.0/16 in the network `lab` away, byte for byte as the reference writes
/// it: container and interface on two lines that end in CR LF, and the last reserved address.
pub fn fill(node: &Node, count: u16) -> Result {
    node.run(|| {
        let dir = "/var/lib/cni/networks/lab";
        fs::create_dir_all(dir)?;
        let address = |n: u16| format!("10.88.{}.{}", n >> 8, n & 0xff);
        for n in 2..count + 2 {
            fs::write(format!("{dir}/{}", address(n)), format!("held{n}\r\neth0"))?;
        }
        fs::write(format!("{dir}/last_reserved_ip.0"), address(count + 1))?;
        Ok(())
    })
}
