//! A machine to install on, and how it is seen.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
use lab::{Command, Node, Output, Result, find};

/// Where plugins belong as long as no runtime says otherwise.
pub const BIN: &str = "/opt/cni/bin";
/// The configuration that is shipped, once it is installed.
pub const CONF: &str = "/etc/cni/net.d/10-heddle.conflist";
/// The archive as someone unpacked it, so that a case can change what is shipped.
pub const ARCHIVE: &str = "/opt/archive";

/// A machine on which no runtime has told where plugins belong, with the archive unpacked. The directories of the host
/// that the installer knows of are hidden.
pub fn node() -> Result<Node> {
    let node = Node::new("install")?;
    for dir in [
        "/usr/local/libexec/cni",
        "/usr/libexec/cni",
        "/usr/local/lib/cni",
        "/usr/lib/cni",
    ] {
        if Path::new(dir).is_dir() {
            tmpfs(&node, dir, "mode=755")?;
        }
    }
    let shipped = [
        ("install.sh", find::workspace().join("install.sh")),
        ("dist/heddle", find::heddle()?),
        ("dist/heddle-cni", find::heddle_cni()?),
    ];
    tmpfs(&node, "/opt", "mode=755")?;
    node.run(|| -> Result {
        for dir in ["/etc/containerd", "/etc/crio"] {
            fs::remove_dir_all(dir).ok();
        }
        fs::create_dir_all(BIN)?;
        Ok(())
    })?;
    for (name, file) in shipped {
        write(&node, &format!("{ARCHIVE}/{name}"), fs::read(file)?)?;
    }
    Ok(node)
}

pub fn tmpfs(node: &Node, dir: &str, options: &str) -> Result {
    let mut mount = node.command("mount");
    mount
        .args(["-t", "tmpfs", "-o", options, "lab", dir])
        .ok()
        .map(drop)
}

/// `install.sh` with these options.
pub fn installer(node: &Node, options: &str) -> Command {
    let mut command = node.command(format!("{ARCHIVE}/install.sh"));
    command.args(options.split_whitespace());
    command
}

pub fn run(node: &Node, options: &str) -> Result<Output> {
    installer(node, options).output()
}

/// The program itself, with something happening to its system calls.
pub fn traced(node: &Node, inject: &str, options: &str) -> Result<Output> {
    let mut strace = node.command("strace");
    strace.args(["-f", "-qq", "-o", "/run/trace", "-e", inject]);
    strace.args([&format!("{ARCHIVE}/dist/heddle"), "install"]);
    strace.args(options.split_whitespace()).output()
}

pub fn done(node: &Node, options: &str) -> Result<String> {
    let output = run(node, options)?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "install.sh {options}: {output:?}"
    );
    Ok(output.stdout)
}

/// Fails unless it ended with this code and one sentence that has these words.
pub fn refused(node: &Node, options: &str, code: i32, words: &str) -> Result {
    let output = run(node, options)?;
    ensure!(
        output.status.code() == Some(code),
        "install.sh {options}: {output:?}"
    );
    ensure!(output.stderr.contains(words), "no {words:?} in {output:?}");
    ensure!(
        output.stderr.starts_with("heddle: ") && output.stderr.lines().count() == 1,
        "{output:?}"
    );
    Ok(())
}

/// Every file below the directories of CNI with its content and what would show that it was touched. Of a directory
/// the times are told only on demand, as something that came and went changes them.
pub fn files(node: &Node, times: bool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    node.run(|| {
        walk(Path::new("/opt"), times, &mut lines)
            .and_then(|()| walk(Path::new("/etc/cni"), times, &mut lines))
    })?;
    lines.sort();
    Ok(lines)
}

fn walk(dir: &Path, times: bool, lines: &mut Vec<String>) -> Result {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = path.symlink_metadata()?;
        let mut line = format!("{} {:o} {}", path.display(), meta.mode(), meta.ino());
        if times || !meta.is_dir() {
            line += &format!(" {}.{}", meta.mtime(), meta.mtime_nsec());
        }
        if meta.is_symlink() {
            line += &format!(" -> {}", fs::read_link(&path)?.display());
        } else if meta.is_file() && meta.len() < 4096 {
            line += &format!(" {:?}", fs::read_to_string(&path)?);
        } else if meta.is_dir() && path != Path::new(ARCHIVE) {
            walk(&path, times, lines)?;
        }
        lines.push(line);
    }
    Ok(())
}

/// Temporary files beside the plugins.
pub fn leftovers(node: &Node) -> Result<Vec<String>> {
    let all = files(node, false)?;
    Ok(all
        .into_iter()
        .filter(|line| line.contains(".heddle-"))
        .collect())
}

/// Makes another version of what the archive has: bytes after the end of an executable mean nothing to it.
pub fn newer(node: &Node) -> Result {
    let file = format!("{ARCHIVE}/dist/heddle-cni");
    let mut bytes = node.run(|| fs::read(&file))?;
    bytes.push(0);
    write(node, &file, bytes)
}

pub fn same(node: &Node, before: &[String]) -> Result {
    let now = files(node, false)?;
    let gone: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
    ensure!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}, new: {new:#?}"
    );
    Ok(())
}

pub fn write(node: &Node, file: &str, content: impl AsRef<[u8]> + Send) -> Result {
    node.run(|| -> Result {
        fs::create_dir_all(Path::new(file).parent().context("a directory")?)?;
        fs::remove_file(file).ok();
        fs::write(file, content)?;
        Ok(fs::set_permissions(
            file,
            fs::Permissions::from_mode(0o755),
        )?)
    })
}

pub fn read(node: &Node, file: &str) -> Result<String> {
    node.run(|| fs::read_to_string(file))
        .with_context(|| file.to_owned())
}

pub fn links_to_us(node: &Node, name: &str) -> bool {
    node.run(|| fs::read_link(format!("{BIN}/{name}")))
        .is_ok_and(|target| target.as_os_str() == "heddle-cni")
}

/// Whether the executable is there, as it is in the archive and ready to run.
pub fn is_whole(node: &Node) -> Result<bool> {
    let (ours, shipped) = (
        format!("{BIN}/heddle-cni"),
        format!("{ARCHIVE}/dist/heddle-cni"),
    );
    node.run(|| {
        Ok(fs::read(&ours)? == fs::read(shipped)? && fs::metadata(ours)?.mode() & 0o7777 == 0o755)
    })
}
