//! `heddle install` on a machine, by way of `install.sh`: what it puts there, what it leaves alone, and that nothing of it stays.
mod broken;
mod busy;
mod container;
mod detect;
mod machine;
mod others;
mod upgrade;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::ExitCode;

use anyhow::ensure;
use lab::{Case, Need, Plugins, Result, conf, find};
use serde_json::json;

use machine::*;

fn main() -> ExitCode {
    let case = |name, body| Case::new(name, body).needs([Need::Heddle, Need::HeddleCni]);
    lab::main([
        case("installs_once_and_then_changes_nothing", installs_once),
        case("installed_plugins_attach_a_pod", attaches_a_pod),
        case("a_dry_run_does_nothing", dry_run),
        case(
            "another_program_keeps_its_name",
            others::leaves_others_alone,
        ),
        case(
            "a_replaced_program_comes_back",
            others::replaces_and_puts_back,
        ),
        case(
            "a_link_of_another_s_is_not_followed",
            others::follows_no_link,
        ),
        case(
            "no_copy_of_another_program_is_lost",
            others::keeps_every_copy,
        ),
        case(
            "what_was_changed_is_not_overwritten",
            others::leaves_changes_alone,
        ),
        case("a_new_version_takes_the_old_ones_place", upgrade::upgrades),
        case("a_running_plugin_is_not_disturbed", busy::running_plugin),
        case("every_runtime_says_where", detect::detects),
        case("podman_alone_says_where", detect::podman_alone).needs([Need::Reference("bridge")]),
        case("any_shell_will_do", any_shell).needs([Need::Program("busybox")]),
        case("an_archive_that_is_not_built", not_built),
        case("a_failed_installation_leaves_nothing", broken::full_disk),
        case("each_rename_failing", broken::each_rename_failing).needs([Need::Program("strace")]),
        case("killed_at_each_rename", broken::killed_at_each_rename)
            .needs([Need::Program("strace")]),
        case(
            "terminated_at_each_rename",
            broken::terminated_at_each_rename,
        )
        .needs([Need::Program("strace")]),
        case("two_at_a_time_do_not_meet", busy::two_at_a_time).needs([Need::Program("strace")]),
        case("two_containers_install_at_once", container::two_at_once)
            .needs([Need::Program("unshare")]),
        case("what_is_in_place_may_be_read_only", busy::read_only),
        case("anyone_may_install_for_himself", without_root),
        case("a_missing_kernel_feature_has_a_remedy", kernel_features)
            .needs([Need::Program("strace")]),
        case("wrong_usage", wrong_usage),
    ])
}

fn installs_once() -> Result {
    let node = node()?;
    let empty = files(&node, false)?;
    done(&node, "--with-conf")?;
    ensure!(is_whole(&node)?, "{:#?}", files(&node, false)?);
    let names = node
        .command(format!("{BIN}/heddle-cni"))
        .arg("--list")
        .ok()?;
    for name in names.lines() {
        ensure!(
            links_to_us(&node, name) && links_to_us(&node, &format!("heddle-{name}")),
            "{name}"
        );
    }
    let shipped = fs::read_to_string(find::workspace().join("conf/10-heddle.conflist"))?;
    ensure!(
        read(&node, CONF)? == shipped && node.run(|| fs::metadata(CONF))?.mode() & 0o7777 == 0o644
    );

    let first = files(&node, true)?;
    let said = done(&node, "--with-conf")?;
    ensure!(
        said.starts_with("unchanged: /opt/cni/bin, /etc/cni/net.d\n"),
        "{said}"
    );
    ensure!(
        files(&node, true)? == first,
        "{first:#?}\n{:#?}",
        files(&node, true)?
    );

    done(&node, "--uninstall")?;
    same(&node, &empty)?;
    ensure!(done(&node, "--uninstall")?.starts_with("nothing to remove: "));

    done(&node, "--bin-dir /opt/new/a/bin")?;
    done(&node, "--bin-dir /opt/new/a/bin --uninstall")?;
    same(&node, &empty)
}

fn attaches_a_pod() -> Result {
    let node = node()?;
    done(&node, "--with-conf")?;
    let plugins = Plugins::reference(&node).with_path(BIN);
    for (prefix, id) in [("", "plain"), ("heddle-", "prefixed")] {
        let conf = conf::bridge(json!({
            "type": format!("{prefix}bridge"),
            "ipam": {"type": format!("{prefix}host-local"), "subnet": "10.88.0.0/24"},
        }));
        plugins.add(&conf, &node.pod(id)?)?.result()?;
    }
    let pod = node.pod("shipped")?;
    let mut cnitool = node.command(format!("{BIN}/heddle-cni"));
    cnitool
        .args(["cnitool", "add", "heddle"])
        .arg(pod.netns())
        .env("CNI_PATH", BIN)
        .ok()?;
    Ok(())
}

fn dry_run() -> Result {
    let node = node()?;
    write(&node, &format!("{BIN}/bridge"), "another")?;
    let empty = files(&node, true)?;
    let said = done(&node, "--dry-run --with-conf --replace")?;
    for line in [
        "would have installed /opt/cni/bin/heddle-cni\n",
        "would have kept /opt/cni/bin/bridge as /opt/cni/bin/bridge.before-heddle\n",
        "would have linked /opt/cni/bin/bridge\n",
        "would have installed /etc/cni/net.d/10-heddle.conflist\n",
    ] {
        ensure!(said.contains(line), "no {line:?} in {said}");
    }
    done(
        &node,
        "--dry-run --bin-dir /opt/new/bin --conf-dir /opt/new/conf --with-conf",
    )?;
    ensure!(files(&node, true)? == empty, "{:#?}", files(&node, true)?);

    done(&node, "--with-conf --replace")?;
    let installed = files(&node, true)?;
    let said = done(&node, "--dry-run --uninstall")?;
    ensure!(
        said.contains("would have put back /opt/cni/bin/bridge\n"),
        "{said}"
    );
    ensure!(
        said.contains("would have removed /opt/cni/bin/heddle-cni\n"),
        "{said}"
    );
    ensure!(
        files(&node, true)? == installed,
        "{:#?}",
        files(&node, true)?
    );
    Ok(())
}

/// The script is nothing but a way to the program.
fn any_shell() -> Result {
    for shell in ["dash", "bash", "busybox sh"] {
        let node = node()?;
        let empty = files(&node, false)?;
        let line = format!("{shell} {ARCHIVE}/install.sh --with-conf");
        for command in [&line, &format!("{line} --uninstall")] {
            let mut words = command.split(' ');
            node.command(words.next().unwrap_or_default())
                .args(words)
                .ok()?;
            ensure!(
                is_whole(&node).is_ok() != command.ends_with("--uninstall"),
                "{command}"
            );
        }
        same(&node, &empty)?;
    }
    Ok(())
}

fn not_built() -> Result {
    let node = node()?;
    node.run(|| fs::remove_dir_all(format!("{ARCHIVE}/dist")))?;
    let output = run(&node, "--with-conf")?;
    let words = "install.sh: /opt/archive/dist/heddle is not there: run `make build` first\n";
    ensure!(
        output.status.code() == Some(1) && output.stderr == words,
        "{output:?}"
    );
    Ok(())
}

fn without_root() -> Result {
    const HOME: &str = "/opt/home of nobody";
    let node = node()?;
    node.run(|| {
        fs::create_dir(HOME)?;
        chown(HOME, Some(65534), Some(65534))
    })?;
    let run = |options: &[&str]| {
        let mut command = node.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(format!("{ARCHIVE}/install.sh"))
            .args(options)
            .output()
    };
    let (bin, conf) = (format!("{HOME}/bin"), format!("{HOME}/net.d"));
    let output = run(&["--bin-dir", &bin, "--conf-dir", &conf, "--with-conf"])?;
    ensure!(
        output.status.success() && output.stdout.contains("the kernel was not tried"),
        "{output:?}"
    );
    ensure!(
        node.run(|| fs::exists(format!("{bin}/bridge")))?
            && node.run(|| fs::exists(format!("{conf}/10-heddle.conflist")))?
    );
    ensure!(run(&["--bin-dir", &bin, "--uninstall"])?.status.success());
    ensure!(
        !node.run(|| fs::exists(&bin))?,
        "the directory that it made is left"
    );
    let output = run(&[])?;
    ensure!(
        output.status.code() == Some(1) && output.stderr.contains("Permission denied"),
        "{output:?}"
    );
    Ok(())
}

/// The second attempt, which is for a bridge, fails as it does where the kernel has none.
fn kernel_features() -> Result {
    let node = node()?;
    ensure!(!done(&node, "")?.contains("the kernel has no"));
    let without_bridge = "inject=sendto,sendmsg:error=EOPNOTSUPP:when=2";
    let said = traced(&node, without_bridge, "")?.stdout;
    ensure!(
        said.contains("the kernel has no bridge: run `modprobe -a bridge`"),
        "{said}"
    );
    ensure!(said.matches("the kernel has no").count() == 1, "{said}");
    Ok(())
}

fn wrong_usage() -> Result {
    let node = node()?;
    let before = files(&node, true)?;
    for (options, words) in [
        ("--nonsense", "unexpected argument '--nonsense'"),
        ("somewhere", "unexpected argument 'somewhere'"),
        ("--bin-dir", "a value is required for '--bin-dir <DIR>'"),
    ] {
        let output = run(&node, options)?;
        ensure!(
            output.status.code() == Some(2) && output.stderr.contains(words),
            "{output:?}"
        );
    }
    refused(
        &node,
        "--from /nowhere",
        1,
        "/nowhere is not there: run `make build`",
    )?;
    refused(
        &node,
        "--from /etc/passwd",
        1,
        "/etc/passwd does not run here (Permission denied",
    )?;
    refused(
        &node,
        "--from /usr/bin/true",
        1,
        "/true does not run here (--list: exit status: 0, no plugins): is it heddle-cni",
    )?;
    ensure!(done(&node, "--help")?.contains("--uninstall"));
    ensure!(files(&node, true)? == before);
    Ok(())
}
