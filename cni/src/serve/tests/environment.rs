//! The environment at the door: what must be there, what must not, and what nobody looks at.

use super::*;

#[test]
fn missing_variables_are_told_together() {
    for (command, set, missing) in [
        ("ADD", &[][..], "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("CHECK", &[], "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("DEL", &[], "CNI_CONTAINERID,CNI_IFNAME"),
        ("ADD", &[("CONTAINERID", "a"), ("IFNAME", "b")], "CNI_NETNS"),
        (
            "DEL",
            &[("NETNS", "/x"), ("IFNAME", "")],
            "CNI_CONTAINERID,CNI_IFNAME",
        ),
    ] {
        let mut env = vec![("COMMAND", command)];
        env.extend(set);
        let msg = format!("required env variables [{missing}] missing");
        assert_eq!(error_of(&env, "not even JSON"), (4, msg));
    }
}

#[test]
fn bad_variables_are_code_4_for_del_too() {
    for command in ["ADD", "DEL", "CHECK"] {
        for (var, value, msg) in [
            ("CONTAINERID", "../etc", "invalid characters in containerID"),
            ("CONTAINERID", "-a", "invalid characters in containerID"),
            ("IFNAME", "sixteen-bytes-ab", "interface name is too long"),
            (
                "IFNAME",
                "a/b",
                "interface name contains / or : or whitespace characters",
            ),
        ] {
            assert_eq!(
                error_of(&with(command, &[(var, value)]), CONF),
                (4, msg.into())
            );
        }
    }
    assert_eq!(
        error_of(&with("add", &[]), CONF),
        (4, "unknown CNI_COMMAND: add".into())
    );
}

#[test]
fn gc_and_status_see_no_attachment() {
    for command in ["GC", "STATUS"] {
        let puppet = Puppet::default();
        let stdin = r#"{"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": []}"#;
        let env = with(command, &[("CONTAINERID", "../bad"), ("IFNAME", "a/b")]);
        assert_eq!(puppet.serve(&env, stdin), (true, Value::Null));
        let call = puppet.only_call();
        assert_eq!((call.attachment, call.netns), (Attachment::default(), None));
    }
}

#[test]
fn the_plugins_own_netns_is_refused_before_anything_is_done() {
    let own = &[("NETNS", "/proc/thread-self/ns/net")][..];
    for command in ["ADD", "DEL"] {
        let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
        assert_eq!(error_of(&with(command, own), CONF), (8, msg.into()));
        for meant in ["1", "true", "TRUE"] {
            let env = with(command, &[own[0], ("NETNS_OVERRIDE", meant)]);
            assert!(Puppet::default().serve(&env, CONF).0);
        }
    }
    assert!(Puppet::default().serve(&with("CHECK", own), CONF).0);
}

#[test]
fn version_needs_nothing() {
    let all = json!([
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
    ]);
    for (stdin, version) in [
        ("", "1.1.0"),
        ("garbage", "1.1.0"),
        ("{}", "1.1.0"),
        (r#"{"cniVersion": "0.2.0"}"#, "0.2.0"),
        (r#"{"cniVersion": "9.0.0"}"#, "1.1.0"),
    ] {
        let answer = json!({"cniVersion": version, "supportedVersions": all});
        assert_eq!(
            Puppet::default().serve(&[("COMMAND", "VERSION")], stdin),
            (true, answer)
        );
    }
}

#[test]
fn without_a_command_a_person_gets_words() {
    for env in [&[][..], &[("COMMAND", "")]] {
        let reply = serve(&Puppet::default(), &environment(env), b"");
        assert_eq!(
            reply.stderr,
            "CNI puppet\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
        );
        assert!(reply.success && reply.stdout.is_empty());
    }
}
