//! Delegation to executables that behave, and to some that do not.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::testing::Workshop;
use crate::{Attachment, CniArgs, Code, Error, NetConf, Version};

fn call(shop: &Workshop, command: Command) -> Call {
    let doc = json!({"cniVersion": "0.4.0", "name": "net", "type": "bridge", "ipam": {"type": "pool", "Odd": null}});
    Call {
        command,
        attachment: Attachment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
        },
        netns: Some("/run/netns/a".into()),
        args: CniArgs::new("IP=10.0.0.9"),
        path: vec!["/nonexistent".into(), shop.bin()],
        netns_override: false,
        conf: NetConf::new(doc, Version::ALL, command).unwrap(),
    }
}

fn add_error(script: &str) -> Error {
    let shop = Workshop::new();
    shop.plugin("pool", script);
    add(&call(&shop, Command::Add), "pool").unwrap_err()
}

#[test]
fn the_delegate_gets_the_whole_call_with_another_command() {
    let shop = Workshop::new();
    shop.plugin(
        "pool",
        r#"echo '{"ips": [{"version": "4", "address": "10.0.0.9/24"}]}'"#,
    );
    let call = call(&shop, Command::Del);
    // Rolling back a failed ADD is a DEL within an ADD, so the command is the delegate's own.
    let result = add(&call, "pool").unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.9/24");
    del(&call, "pool").unwrap();
    check(&call, "pool").unwrap();
    gc(&call, "pool").unwrap();
    status(&call, "pool").unwrap();
    assert_eq!(
        shop.order(),
        [
            "ADD pool",
            "DEL pool",
            "CHECK pool",
            "GC pool",
            "STATUS pool"
        ]
    );
    assert_eq!(shop.stdin("ADD", "pool"), *call.conf.raw());
    assert_eq!(
        shop.env("CHECK", "pool"),
        [
            "CNI_ARGS=IP=10.0.0.9".to_owned(),
            "CNI_COMMAND=CHECK".into(),
            "CNI_CONTAINERID=c1".into(),
            "CNI_IFNAME=eth0".into(),
            "CNI_NETNS=/run/netns/a".into(),
            format!("CNI_PATH=/nonexistent:{}", shop.bin().display()),
        ]
    );
}

#[test]
fn the_delegates_error_comes_back_code_and_all() {
    let error =
        add_error(r#"echo '{"code": 11, "msg": "pool locked", "details": "by 42"}'; exit 3"#);
    assert_eq!(
        error,
        Error::new(Code::TryAgainLater, "pool locked").details("by 42")
    );
    let error = add_error(r#"echo '{"cniVersion": "1.0.0", "Code": 117, "Msg": "own"}'; exit 1"#);
    assert_eq!(error, Error::new(Code::Other(117), "own"));
    let error = add_error(r#"echo '{"msg": "no code"}'; exit 1"#);
    assert_eq!(error, Error::new(Code::Internal, "no code"));
}

#[test]
fn a_delegate_that_fails_without_a_proper_error() {
    for (script, msg) in [
        (
            "exit 1",
            "netplugin failed with no error message: exit status: 1",
        ),
        (
            "kill -9 $$",
            "netplugin failed with no error message: signal: 9 (SIGKILL)",
        ),
        ("echo broken >&2; exit 1", r#"netplugin failed: "broken""#),
        (
            "echo 'panic: oh'; exit 2",
            r#"netplugin failed but error parsing its diagnostic message "panic: oh": expected value at line 1 column 1"#,
        ),
        (
            "echo '[]'; exit 2",
            r#"netplugin failed but error parsing its diagnostic message "[]": expected an object"#,
        ),
    ] {
        let error = add_error(script);
        assert_eq!((error.code, error.msg.as_str()), (Code::Internal, msg));
        assert!(error.details.ends_with("/bin/pool"), "{}", error.details);
    }
}

#[test]
fn a_delegate_that_succeeds_without_a_proper_result() {
    for (script, msg) in [
        (
            "exit 0",
            r#"plugin "pool" gave no usable result: it printed nothing"#,
        ),
        (
            "echo",
            r#"plugin "pool" gave no usable result: it printed nothing"#,
        ),
        (
            "echo hello",
            r#"plugin "pool" gave no usable result: it printed "hello": expected value at line 1 column 1"#,
        ),
        (
            r#"echo '{"cniVersion": "3.0.0"}'"#,
            r#"plugin "pool" gave no usable result: unsupported CNI result version "3.0.0""#,
        ),
        (
            r#"echo '{"ips": [{"address": "10.0.0.9"}]}'"#,
            r#"plugin "pool" gave no usable result: invalid value "10.0.0.9" for key "ips[0].address": invalid CIDR address: 10.0.0.9"#,
        ),
    ] {
        let error = add_error(script);
        assert_eq!((error.code, error.msg.as_str()), (Code::Decode, msg));
    }
    // libcni takes `null` for an empty result, and so do the commands that have none for anything at all.
    let shop = Workshop::new();
    shop.plugin("pool", "echo null");
    assert_eq!(
        add(&call(&shop, Command::Add), "pool"),
        Ok(AddResult::default())
    );
    shop.plugin("pool", "echo rubbish");
    assert_eq!(del(&call(&shop, Command::Del), "pool"), Ok(()));
}

#[test]
fn finding_the_executable() {
    let shop = Workshop::new();
    let file = shop.plugin("pool", "");
    shop.file("bin/dir/x", "");
    let mut call = call(&shop, Command::Add);
    assert_eq!(find(&call, "pool"), Ok(file));
    let dirs = format!("[/nonexistent {}]", shop.bin().display());
    for (name, msg) in [
        ("", "no plugin name provided".to_owned()),
        ("../pool", "invalid plugin name: ../pool".into()),
        ("/bin/true", "invalid plugin name: /bin/true".into()),
        (
            "absent",
            format!("failed to find plugin \"absent\" in path {dirs}"),
        ),
        (
            "dir",
            format!("failed to find plugin \"dir\" in path {dirs}"),
        ),
    ] {
        assert_eq!(
            find(&call, name).map_err(|e| (e.code, e.msg)),
            Err((Code::InvalidConfig, msg))
        );
    }
    call.path.clear();
    let error = find(&call, "pool").unwrap_err();
    assert_eq!(
        (error.code, error.msg.as_str()),
        (Code::InvalidEnvironment, "no paths provided")
    );
}

#[test]
fn an_executable_that_is_being_replaced_is_waited_for() {
    let shop = Workshop::new();
    let file = shop.plugin("pool", "echo '{}'");
    let writer = OpenOptions::new().append(true).open(&file).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(writer);
    });
    assert_eq!(
        add(&call(&shop, Command::Add), "pool"),
        Ok(AddResult::default())
    );
    closer.join().unwrap();
}

#[test]
fn neither_side_blocks_on_a_full_pipe() {
    let shop = Workshop::new();
    shop.file(
        "bin/talker",
        "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' ' '\necho '{}'\ncat >/dev/null\n",
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(shop.bin().join("talker"), PermissionsExt::from_mode(0o755)).unwrap();
    let mut call = call(&shop, Command::Add);
    let doc = json!({"name": "net", "cniVersion": "1.0.0", "padding": "x".repeat(300_000)});
    call.conf = NetConf::new(doc, Version::ALL, Command::Add).unwrap();
    assert_eq!(add(&call, "talker"), Ok(AddResult::default()));
    // Nor does one that never reads: its closed stdin is no failure.
    shop.file("bin/deaf", "#!/bin/sh\necho '{}'\n");
    std::fs::set_permissions(shop.bin().join("deaf"), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(add(&call, "deaf"), Ok(AddResult::default()));
}
