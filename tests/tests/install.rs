//! `install.sh` on a machine: what it puts there, what it leaves alone, and that nothing of it stays.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::{Case, Need, Node, Output, Plugins, Result, conf, find};
use serde_json::json;

const BIN: &str = "/opt/cni/bin";

fn main() -> ExitCode {
    let case = |name, body| Case::new(name, body).needs([Need::HeddleCni, Need::Program("ip")]);
    lab::main([
        case("installs_once_and_then_changes_nothing", installs_once),
        case("installed_plugins_attach_a_pod", attaches_a_pod),
        case("a_dry_run_does_nothing", dry_run),
        case("another_program_keeps_its_name", leaves_others_alone),
        case("a_replaced_program_comes_back", replaces_and_puts_back),
        case(
            "a_changed_configuration_is_not_overwritten",
            changed_configuration,
        ),
        case("the_runtime_says_where", detects),
        case("a_full_disk_leaves_no_half_file", full_disk),
        case("wrong_usage", wrong_usage),
    ])
}

/// A node on which no runtime has told where plugins belong.
fn node() -> Result<Node> {
    let node = Node::new("install")?;
    node.run(|| {
        for file in ["/etc/containerd", "/etc/crio"] {
            fs::remove_dir_all(file).ok();
        }
    });
    Ok(node)
}

fn run(node: &Node, options: &str) -> Result<Output> {
    let mut command = node.command(find::workspace().join("install.sh"));
    command.args(options.split_whitespace()).output()
}

fn done(node: &Node, options: &str) -> Result<String> {
    let output = run(node, options)?;
    ensure!(output.status.success(), "install.sh {options}: {output:?}");
    Ok(output.stdout)
}

/// Every file below the two directories with what would show that it was touched.
fn files(node: &Node) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    node.run(|| -> Result {
        for dir in [BIN, "/etc/cni/net.d"] {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                let meta = path.symlink_metadata()?;
                let target = fs::read_link(&path).unwrap_or_default();
                lines.push(format!(
                    "{} {:o} {} {} {:?}",
                    path.display(),
                    meta.mode(),
                    meta.mtime_nsec(),
                    meta.ino(),
                    target
                ));
            }
        }
        Ok(())
    })?;
    lines.sort();
    Ok(lines)
}

fn write_program(node: &Node, name: &str, text: &str) -> Result {
    let file = format!("{BIN}/{name}");
    node.run(|| {
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        Ok(())
    })
}

fn read(node: &Node, file: &str) -> Result<String> {
    node.run(|| fs::read_to_string(file))
        .with_context(|| file.to_owned())
}

fn installs_once() -> Result {
    let node = node()?;
    let empty = files(&node)?;
    done(&node, "--with-conf")?;
    let mode = node
        .run(|| fs::metadata(format!("{BIN}/heddle-cni")))?
        .mode();
    ensure!(mode & 0o7777 == 0o755, "mode {mode:o}");
    let shipped = fs::read_to_string(find::workspace().join("conf/10-heddle.conflist"))?;
    ensure!(read(&node, "/etc/cni/net.d/10-heddle.conflist")? == shipped);
    let first = files(&node)?;
    let said = done(&node, "--with-conf")?;
    ensure!(said.contains("unchanged: "), "{said}");
    ensure!(
        !said.contains("installed") && !said.contains("linked"),
        "{said}"
    );
    ensure!(files(&node)? == first, "{first:#?}\n{:#?}", files(&node)?);
    done(&node, "--uninstall")?;
    ensure!(files(&node)? == empty, "left: {:#?}", files(&node)?);
    done(&node, "--uninstall")?;
    Ok(())
}

fn attaches_a_pod() -> Result {
    let node = node()?;
    done(&node, "")?;
    let plugins = Plugins::reference(&node).with_path(BIN);
    for (prefix, id) in [("", "plain"), ("heddle-", "prefixed")] {
        let conf = conf::bridge(json!({
            "type": format!("{prefix}bridge"),
            "ipam": {"type": format!("{prefix}host-local"), "subnet": "10.88.0.0/24"},
        }));
        plugins.add(&conf, &node.pod(id)?)?.result()?;
    }
    Ok(())
}

fn dry_run() -> Result {
    let node = node()?;
    let empty = files(&node)?;
    let said = done(&node, "--dry-run --with-conf")?;
    ensure!(
        said.contains("would have installed /opt/cni/bin/heddle-cni"),
        "{said}"
    );
    ensure!(files(&node)? == empty, "{:#?}", files(&node)?);
    done(&node, "")?;
    let installed = files(&node)?;
    let said = done(&node, "--dry-run --uninstall")?;
    ensure!(
        said.contains("would have removed /opt/cni/bin/bridge"),
        "{said}"
    );
    ensure!(files(&node)? == installed, "{:#?}", files(&node)?);
    Ok(())
}

fn leaves_others_alone() -> Result {
    let node = node()?;
    write_program(&node, "bridge", "another")?;
    let before = files(&node)?;
    let said = done(&node, "")?;
    ensure!(
        said.contains("left alone: /opt/cni/bin/bridge is another program"),
        "{said}"
    );
    ensure!(read(&node, "/opt/cni/bin/bridge")? == "another");
    node.run(|| fs::read_link(format!("{BIN}/heddle-bridge")))?;
    done(&node, "--uninstall")?;
    ensure!(files(&node)? == before, "{:#?}", files(&node)?);
    Ok(())
}

fn replaces_and_puts_back() -> Result {
    let node = node()?;
    write_program(&node, "bridge", "another")?;
    let before = files(&node)?;
    for _ in 0..2 {
        done(&node, "--replace")?;
        ensure!(read(&node, "/opt/cni/bin/bridge.before-heddle")? == "another");
        let target = node.run(|| fs::read_link(format!("{BIN}/bridge")))?;
        ensure!(target.as_os_str() == "heddle-cni", "{target:?}");
    }
    done(&node, "--uninstall")?;
    ensure!(files(&node)? == before, "{before:#?}\n{:#?}", files(&node)?);
    Ok(())
}

fn changed_configuration() -> Result {
    const FILE: &str = "/etc/cni/net.d/10-heddle.conflist";
    let node = node()?;
    done(&node, "--with-conf")?;
    node.run(|| fs::write(FILE, "changed"))?;
    let said = done(&node, "--with-conf")?;
    ensure!(said.contains(&format!("left alone: {FILE}")), "{said}");
    let said = done(&node, "--uninstall")?;
    ensure!(
        said.contains(&format!("left alone: {FILE} was changed")),
        "{said}"
    );
    ensure!(read(&node, FILE)? == "changed");
    Ok(())
}

fn detects() -> Result {
    let cases = [
        (
            "/etc/containerd/config.toml",
            "[plugins.x.cni]\n  bin_dir = \"/opt/there\"\n  conf_dir = \"/opt/conf\"\n",
        ),
        (
            "/etc/containerd/config.toml",
            "  bin_dirs = [\"/opt/there\", \"/opt/second\"]\nconf_dir = \"/opt/conf\"\n",
        ),
        (
            "/etc/crio/crio.conf.d/10.conf",
            "network_dir = \"/opt/conf\"\nplugin_dirs = [\n\"/opt/there\",\n]\n",
        ),
        (
            "/etc/crio/crio.conf",
            "network_dir = \"/opt/conf\"\nplugin_dirs = [\"/opt/there/\"]\n",
        ),
    ];
    for (file, text) in cases {
        let node = node()?;
        node.run(|| -> Result {
            fs::create_dir_all(std::path::Path::new(file).parent().context("a directory")?)?;
            Ok(fs::write(file, text)?)
        })?;
        done(&node, "--with-conf")?;
        for made in ["/opt/there/heddle-cni", "/opt/conf/10-heddle.conflist"] {
            ensure!(node.run(|| fs::exists(made))?, "{file}: no {made}");
        }
    }
    Ok(())
}

fn full_disk() -> Result {
    let node = node()?;
    node.command("mount")
        .args(["-t", "tmpfs", "-o", "size=512k", "lab", BIN])
        .ok()?;
    let output = run(&node, "")?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(output.stderr.contains("is the disk full?"), "{output:?}");
    let left = node.run(|| -> Result<Vec<_>> {
        fs::read_dir(BIN)?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    })?;
    ensure!(left == [".heddle.manifest"], "left: {left:?}");
    done(&node, "--uninstall")?;
    Ok(())
}

fn wrong_usage() -> Result {
    let node = node()?;
    for (options, words) in [
        ("--nonsense", "unknown option --nonsense"),
        ("--bin-dir", "--bin-dir needs a directory"),
        ("--bin-dir relative", "absolute path"),
    ] {
        let output = run(&node, options)?;
        ensure!(output.status.code() == Some(2), "{options}: {output:?}");
        ensure!(output.stderr.contains(words), "{options}: {output:?}");
    }
    Ok(())
}
