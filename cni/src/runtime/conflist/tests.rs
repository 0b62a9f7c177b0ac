//! Configuration lists as files and as text.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::Workshop;

#[test]
fn the_newest_known_version_is_taken() {
    for (keys, version) in [
        (r#""x": 1"#, Ok("0.1.0")),
        (r#""cniVersion": """#, Ok("0.1.0")),
        (r#""cniVersion": "0.4.0""#, Ok("0.4.0")),
        (
            r#""cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "0.3.1"]"#,
            Ok("1.1.0"),
        ),
        (
            r#""cniVersion": "1.1.0", "cniVersions": ["0.4.0"]"#,
            Ok("1.1.0"),
        ),
        (r#""cniVersions": ["0.4.0", "1.2.0"]"#, Ok("0.4.0")),
        (
            r#""cniVersion": "2.0.0", "cniVersions": ["1.0.0"]"#,
            Ok("1.0.0"),
        ),
        (r#""cniVersion": "2.0.0""#, Err(Code::IncompatibleVersion)),
        (
            r#""cniVersion": "1.0.0", "cniVersions": "1.1.0""#,
            Err(Code::InvalidConfig),
        ),
    ] {
        let text = format!(r#"{{"name": "n", {keys}, "plugins": [{{"type": "a"}}]}}"#);
        let found = Conflist::parse(text.as_bytes())
            .map(|list| list.version.as_str())
            .map_err(|e| e.code);
        assert_eq!(found, version, "{keys}");
    }
}

#[test]
fn lists_come_first_then_single_configurations_by_network_name() {
    let shop = Workshop::new();
    let dir = shop.path().join("net.d");
    let error = |name| Conflist::load_dir(&dir, name).unwrap_err().to_string();
    assert_eq!(
        error("n"),
        format!("no net configurations found in {}", dir.display())
    );
    for (file, name, plugin) in [
        ("20-b.conflist", "n", "second"),
        ("10-a.conflist", "m", "other"),
        ("30-c.conflist", "n", "third"),
        ("00-d.txt", "n", "not-looked-at"),
    ] {
        let text = format!(
            r#"{{"name": "{name}", "cniVersion": "1.0.0", "plugins": [{{"type": "{plugin}"}}]}}"#
        );
        shop.file(&format!("net.d/{file}"), &text);
    }
    shop.file("net.d/00-a.conf", r#"{"name": "n", "type": "single"}"#);
    shop.file(
        "net.d/00-b.json",
        r#"{"name": "s", "type": "single", "cniVersion": "0.4.0", "ipam": {}}"#,
    );
    assert_eq!(
        Conflist::load_dir(&dir, "n").unwrap().plugins[0].plugin_type,
        "second"
    );
    let single = Conflist::load_dir(&dir, "s").unwrap();
    assert_eq!((single.version, single.plugins.len()), (Version::V0_4_0, 1));
    assert_eq!(
        error("zz"),
        format!("no net configuration with name \"zz\" in {}", dir.display())
    );

    shop.file("net.d/05-bad.conflist", "{");
    assert!(error("n").starts_with(&format!(
        "error parsing configuration list {}/05-bad.conflist: EOF",
        dir.display()
    )));
}

#[test]
fn plugins_may_have_files_of_their_own() {
    let shop = Workshop::new();
    let types = |text: &str| {
        shop.file("net.d/n.conflist", text);
        Conflist::load_dir(&shop.path().join("net.d"), "n")
            .map(|list| {
                list.plugins
                    .into_iter()
                    .map(|p| p.plugin_type)
                    .collect::<Vec<_>>()
                    .join(",")
            })
            .map_err(|e| e.msg)
    };
    shop.file("net.d/n/2.conf", r#"{"type": "c"}"#);
    shop.file("net.d/n/1.conf", r#"{"type": "b"}"#);
    shop.file("net.d/n/3.json", r#"{"type": "not-looked-at"}"#);
    assert_eq!(
        types(r#"{"name": "n", "plugins": [{"type": "a"}]}"#),
        Ok("a,b,c".into())
    );
    assert_eq!(types(r#"{"name": "n"}"#), Ok("b,c".into()));
    let inlined = r#"{"name": "n", "loadOnlyInlinedPlugins": true, "plugins": [{"type": "a"}]}"#;
    assert_eq!(types(inlined), Ok("a".into()));
    fs::remove_dir_all(shop.path().join("net.d/n")).unwrap();
    assert!(
        types(r#"{"name": "n"}"#)
            .unwrap_err()
            .ends_with("no plugin configs found")
    );
}

#[test]
fn bad_lists() {
    for (text, msg) in [
        ("[]", "expected an object"),
        (r#"{"plugins": []}"#, "no name"),
        (
            r#"{"name": 1}"#,
            r#"invalid value 1 for key "name": expected a string"#,
        ),
        (r#"{"name": "n", "plugins": []}"#, "no plugins in list"),
        (
            r#"{"name": "n", "plugins": {}}"#,
            r#"invalid value {} for key "plugins": expected a list"#,
        ),
        (
            r#"{"name": "n", "plugins": [{}]}"#,
            "failed to parse plugin config 0: missing 'type'",
        ),
        (
            r#"{"name": "n", "plugins": [{"type": "a", "capabilities": {"x": 1}}]}"#,
            r#"failed to parse plugin config 0: invalid value 1 for key "capabilities.x": expected a boolean"#,
        ),
        (
            r#"{"name": "n", "loadOnlyInlinedPlugins": true}"#,
            "`loadOnlyInlinedPlugins` is true, and no 'plugins' key",
        ),
        (
            r#"{"name": "n", "disableGC": 1}"#,
            r#"invalid value 1 for key "disableGC": expected a boolean"#,
        ),
    ] {
        let error = Conflist::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::InvalidConfig, msg));
    }
}
