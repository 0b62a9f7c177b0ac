//! Symbolic links that another user has planted where root writes: nothing outside is made, changed or removed, whatever
//! comes of the call. In a directory that all may write, without the sticky bit, where the kernel's own `protected_symlinks`
//! would hide what is missing here.
mod daemon;
mod plugins;

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::ExitCode;

use anyhow::ensure;
use lab::overlay::NEEDS;
use lab::{Case, Need, Node, Result};

/// Who plants them.
const SOMEBODY: u32 = 1000;
/// Where all may write.
const SHARED: &str = "/run/shared";
/// A file, and a directory, of the host's.
const FILE: &str = "/run/victim";
const DIRECTORY: &str = "/run/victims";
const CONTENT: &str = "what root has written";

fn main() -> ExitCode {
    let case = |name, body| Case::new(name, body).needs([Need::HeddleCni]);
    lab::main([
        case("leases_in_a_shared_directory", plugins::leases),
        case("backups_in_a_shared_directory", plugins::backups),
        case("results_in_a_shared_directory", plugins::results),
        case("a_daemon_in_shared_directories", daemon::files).needs(NEEDS),
        case("a_daemon_by_way_of_a_link", daemon::directories).needs(NEEDS),
    ])
}

/// Makes what nobody may touch, and a directory for everybody. To be run in the node.
fn scene() -> Result {
    fs::write(FILE, CONTENT)?;
    fs::create_dir_all(DIRECTORY)?;
    fs::create_dir_all(SHARED)?;
    Ok(fs::set_permissions(
        SHARED,
        fs::Permissions::from_mode(0o777),
    )?)
}

/// Plants a link, with the directories that lead there.
fn plant(path: &Path, target: &str) -> Result {
    for parent in path.ancestors().skip(1) {
        if parent.starts_with(SHARED) && parent != Path::new(SHARED) && !parent.exists() {
            fs::create_dir_all(parent)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o777))?;
            lchown(parent, Some(SOMEBODY), Some(SOMEBODY))?;
        }
    }
    symlink(target, path)?;
    Ok(lchown(path, Some(SOMEBODY), Some(SOMEBODY))?)
}

/// Fails if anything outside is not as it was.
fn untouched(node: &Node, what: &str) -> Result {
    node.run(|| {
        let text = fs::read_to_string(FILE).unwrap_or_default();
        ensure!(text == CONTENT, "{what}: {FILE} says {text:?} now");
        let mode = fs::metadata(FILE)?.permissions().mode() & 0o777;
        ensure!(
            mode & 0o022 == 0 && mode & 0o400 != 0,
            "{what}: mode {mode:o}"
        );
        let made: Vec<_> = fs::read_dir(DIRECTORY)?.flatten().collect();
        ensure!(made.is_empty(), "{what}: made {made:?}");
        Ok(())
    })
}
