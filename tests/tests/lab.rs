//! The lab itself: nodes are apart from the host and from each other, and leave nothing.
use std::path::Path;
use std::process::ExitCode;

use lab::{Case, Node, Result};

fn main() -> ExitCode {
    lab::main([Case::new(
        "files_of_a_node_are_its_own",
        files_of_a_node_are_its_own,
    )])
}

fn files_of_a_node_are_its_own() -> Result {
    let (one, two) = (Node::new("one")?, Node::new("two")?);
    for dir in ["/run", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"] {
        let file = Path::new(dir).join("lab-was-here");
        one.run(|| std::fs::write(&file, "x"))?;
        assert!(
            one.run(|| file.exists()),
            "{} is on the node that wrote it",
            file.display()
        );
        assert!(
            !two.run(|| file.exists()),
            "{} is on another node",
            file.display()
        );
        assert!(!file.exists(), "{} is on the host", file.display());
    }
    Ok(())
}
