//! The chain and the cache; what is golden here was recorded from cnitool 1.3.0.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;
use crate::testing::Workshop;

const CONFLIST: &str = r#"{"cniVersion":"1.0.0","cniVersions":["0.3.1","0.4.0","1.0.0","1.1.0","2.0.0"],"name":"net1","plugins":[
 {"type":"one","capabilities":{"portMappings":true,"ips":false,"mac":true},"x":{"b":1,"a":null},"name":"inner"},{"type":"two"}]}
"#;
const ONE: &str = r#"{"interfaces":[{"name":"a","mtu":5},{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.0.0.2/24","interface":1,"gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0","priority":4}]}"#;
const TWO: &str = r#"{"ips":[{"address":"10.0.0.3/24","interface":0}],"interfaces":[{"name":"ab"}],"dns":{"search":["x"]}}"#;
const ID: &str = "cnitool-352833ea4e7f1a968163";

/// A runtime whose plugins `one` and `two` answer as recorded, unless a file `fail.<COMMAND>.<name>` is there.
fn runtime() -> (Workshop, Runtime) {
    let shop = Workshop::new();
    for (name, result) in [("one", ONE), ("two", TWO), ("three", TWO)] {
        shop.file(&format!("{name}.json"), result);
        let dir = shop.path().display();
        shop.plugin(
            name,
            &format!(
                "if [ -e {dir}/fail.$command.{name} ]; then\n\
                 echo '{{\"code\":11,\"msg\":\"later\",\"details\":\"why\"}}'; exit 1; fi\n\
                 [ $command != ADD ] || cat {dir}/{name}.json"
            ),
        );
    }
    let runtime = Runtime {
        path: vec![shop.bin()],
        cache_dir: shop.path().join("cache"),
    };
    (shop, runtime)
}

fn list() -> Conflist {
    Conflist::parse(CONFLIST.as_bytes()).unwrap()
}

fn rt() -> RuntimeConf {
    RuntimeConf {
        attachment: Attachment {
            container_id: ID.into(),
            ifname: "eth0".into(),
        },
        netns: Some("/tmp/ns".into()),
        args: vec![("IP".into(), "1".into()), ("K".into(), "v".into())],
        capability_args: json!({"portMappings": [{"hostPort": 1}], "ips": ["x"], "zz": 1})
            .as_object()
            .unwrap()
            .clone(),
    }
}

#[test]
fn add_runs_the_chain_and_caches_as_libcni_does() {
    let (shop, runtime) = runtime();
    let result = runtime.add(&list(), &rt()).unwrap();
    assert_eq!(
        result,
        AddResult::from_json(&serde_json::from_str(TWO).unwrap(), Version::LATEST).unwrap()
    );
    assert_eq!(shop.order(), ["ADD one", "ADD two"]);
    assert_eq!(
        shop.stdin("ADD", "one").to_string(),
        r#"{"capabilities":{"ips":false,"mac":true,"portMappings":true},"cniVersion":"1.1.0","name":"net1","runtimeConfig":{"portMappings":[{"hostPort":1}]},"type":"one","x":{"a":null,"b":1}}"#
    );
    assert_eq!(
        shop.stdin("ADD", "two").to_string(),
        r#"{"cniVersion":"1.1.0","name":"net1","prevResult":{"cniVersion":"1.1.0","interfaces":[{"mtu":5,"name":"a"},{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":1}],"routes":[{"dst":"0.0.0.0/0","priority":4}]},"type":"two"}"#
    );
    assert_eq!(
        shop.env("ADD", "two"),
        [
            "CNI_ARGS=IP=1;K=v",
            "CNI_COMMAND=ADD",
            &format!("CNI_CONTAINERID={ID}"),
            "CNI_IFNAME=eth0",
            "CNI_NETNS=/tmp/ns",
            &format!("CNI_PATH={}", shop.bin().display()),
        ]
    );
    let file = runtime.cache_dir.join(format!("results/net1-{ID}-eth0"));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        r#"{"kind":"cniCacheV1","containerId":"cnitool-352833ea4e7f1a968163","config":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJjbmlWZXJzaW9ucyI6WyIwLjMuMSIsIjAuNC4wIiwiMS4wLjAiLCIxLjEuMCIsIjIuMC4wIl0sIm5hbWUiOiJuZXQxIiwicGx1Z2lucyI6WwogeyJ0eXBlIjoib25lIiwiY2FwYWJpbGl0aWVzIjp7InBvcnRNYXBwaW5ncyI6dHJ1ZSwiaXBzIjpmYWxzZSwibWFjIjp0cnVlfSwieCI6eyJiIjoxLCJhIjpudWxsfSwibmFtZSI6ImlubmVyIn0seyJ0eXBlIjoidHdvIn1dfQo=","ifName":"eth0","networkName":"net1","netns":"/tmp/ns","cniArgs":[["IP","1"],["K","v"]],"capabilityArgs":{"ips":["x"],"portMappings":[{"hostPort":1}],"zz":1},"result":{"cniVersion":"1.1.0","dns":{"search":["x"]},"interfaces":[{"name":"ab"}],"ips":[{"address":"10.0.0.3/24","interface":0}]}}"#
    );
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(
        fs::read_dir(file.parent().unwrap()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn a_failed_add_stops_there_caches_nothing_and_keeps_the_code() {
    let (shop, runtime) = runtime();
    shop.file("fail.ADD.one", "");
    let error = runtime.add(&list(), &rt()).unwrap_err();
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.to_string(),
        r#"plugin type="one" name="inner" failed (add): later; why"#
    );
    assert_eq!(shop.order(), ["ADD one"]);
    assert!(!runtime.cache_dir.exists());
}

#[test]
fn check_and_del_get_the_cached_result() {
    let (shop, runtime) = runtime();
    runtime.add(&list(), &rt()).unwrap();
    shop.order();
    runtime.check(&list(), &rt()).unwrap();
    assert_eq!(shop.order(), ["CHECK one", "CHECK two"]);
    let prev = json!({"cniVersion": "1.1.0", "dns": {"search": ["x"]}, "interfaces": [{"name": "ab"}],
        "ips": [{"address": "10.0.0.3/24", "interface": 0}]});
    assert_eq!(shop.stdin("CHECK", "one")["prevResult"], prev);

    shop.file("fail.DEL.one", "");
    let error = runtime.del(&list(), &rt()).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"plugin type="one" name="inner" failed (delete): later; why"#
    );
    assert!(
        runtime.cached_result(&list(), &rt()).unwrap().is_some(),
        "kept for the next try"
    );
    fs::remove_file(shop.path().join("fail.DEL.one")).unwrap();
    shop.order();
    runtime.del(&list(), &rt()).unwrap();
    assert_eq!(shop.order(), ["DEL two", "DEL one"]);
    assert_eq!(shop.stdin("DEL", "two")["prevResult"], prev);
    assert_eq!(runtime.cached_result(&list(), &rt()), Ok(None));
    runtime.del(&list(), &rt()).unwrap();
    assert_eq!(shop.stdin("DEL", "two").get("prevResult"), None);
}

#[test]
fn del_works_with_a_cache_that_is_broken_or_from_long_ago() {
    let (shop, runtime) = runtime();
    let file = format!("cache/results/net1-{ID}-eth0");
    for (text, prev) in [
        ("", None),
        ("{", None),
        (r#"{"cniVersion": "9.0.0"}"#, None),
        (
            r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}}"#,
            Some(json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]})),
        ),
    ] {
        shop.file(&file, text);
        assert_eq!(
            runtime.check(&list(), &rt()).is_err(),
            prev.is_none(),
            "{text}"
        );
        runtime.del(&list(), &rt()).unwrap();
        assert_eq!(
            shop.stdin("DEL", "one").get("prevResult"),
            prev.as_ref(),
            "{text}"
        );
        assert!(!shop.path().join(&file).exists());
    }
}

#[test]
fn gc_deletes_cached_attachments_that_are_not_valid_then_asks_the_plugins() {
    let (shop, runtime) = runtime();
    let other = Attachment {
        container_id: "other".into(),
        ifname: "eth0".into(),
    };
    runtime.add(&list(), &rt()).unwrap();
    runtime
        .add(
            &list(),
            &RuntimeConf {
                attachment: other.clone(),
                ..rt()
            },
        )
        .unwrap();
    let mut elsewhere = list();
    elsewhere.name = "net2".into();
    runtime.add(&elsewhere, &rt()).unwrap();
    shop.order();

    runtime
        .gc(&list(), Some(std::slice::from_ref(&other)))
        .unwrap();
    assert_eq!(shop.order(), ["DEL two", "DEL one", "GC one", "GC two"]);
    assert!(
        shop.env("DEL", "one")
            .contains(&format!("CNI_CONTAINERID={ID}"))
    );
    assert!(
        shop.env("DEL", "one")
            .contains(&"CNI_ARGS=IP=1;K=v".to_owned())
    );
    assert!(
        shop.env("GC", "one")
            .contains(&"CNI_CONTAINERID=".to_owned())
    );
    let valid = json!([{"containerID": "other", "ifname": "eth0"}]);
    let stdin = shop.stdin("GC", "two");
    assert_eq!(
        (
            &stdin["cni.dev/valid-attachments"],
            &stdin["cni.dev/attachments"]
        ),
        (&valid, &valid)
    );
    assert_eq!(stdin.get("prevResult"), None);

    // As in libcni: with no list at all, everything cached goes, and the plugins are told of no list.
    runtime.gc(&list(), None).unwrap();
    assert_eq!(shop.order(), ["DEL two", "DEL one", "GC one", "GC two"]);
    assert_eq!(
        shop.stdin("GC", "two").to_string(),
        r#"{"cniVersion":"1.1.0","name":"net1","type":"two"}"#
    );
    assert!(
        runtime.cached_result(&elsewhere, &rt()).unwrap().is_some(),
        "another network's stay"
    );
}

#[test]
fn gc_goes_on_after_errors_and_tells_them_all() {
    let (shop, runtime) = runtime();
    runtime.add(&list(), &rt()).unwrap();
    for fail in ["fail.DEL.two", "fail.GC.one", "fail.GC.two"] {
        shop.file(fail, "");
    }
    let error = runtime.gc(&list(), None).unwrap_err();
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.to_string(),
        format!(
            "failed to delete stale attachment {ID} eth0: plugin type=\"two\" failed (delete): later; why\n\
             failed to GC plugin one: later; why\nfailed to GC plugin two: later; why"
        )
    );
}

#[test]
fn status_and_old_versions() {
    let (shop, runtime) = runtime();
    runtime.status(&list()).unwrap();
    assert_eq!(shop.order(), ["STATUS one", "STATUS two"]);
    shop.file("fail.STATUS.one", "");
    let error = runtime.status(&list()).unwrap_err();
    assert_eq!(
        (error.code, error.to_string()),
        (Code::TryAgainLater, "later; why".into())
    );
    shop.order();

    let mut old = list();
    old.version = Version::V0_3_1;
    runtime.add(&old, &rt()).unwrap();
    assert_eq!(
        shop.stdin("ADD", "two")["prevResult"]["ips"][0]["version"],
        "4"
    );
    runtime.del(&old, &rt()).unwrap();
    assert_eq!(
        shop.stdin("DEL", "two").get("prevResult"),
        None,
        "came with 0.4.0"
    );
    runtime.status(&old).unwrap();
    runtime.gc(&old, None).unwrap();
    assert_eq!(shop.order(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    let error = runtime.check(&old, &rt()).unwrap_err();
    assert_eq!(
        error.msg,
        r#"configuration version "0.3.1" does not support the CHECK command"#
    );
}

#[test]
fn disabled_commands_are_not_run() {
    let (shop, runtime) = runtime();
    let text = r#"{"cniVersion": "1.1.0", "name": "n", "disableCheck": true, "disableGC": "True", "plugins": [{"type": "one"}]}"#;
    let list = Conflist::parse(text.as_bytes()).unwrap();
    runtime.check(&list, &rt()).unwrap();
    runtime.gc(&list, None).unwrap();
    assert!(shop.order().is_empty());
}

#[test]
fn bad_names_are_refused_before_anything_runs() {
    let (shop, runtime) = runtime();
    for attachment in [
        Attachment {
            container_id: "../x".into(),
            ifname: "eth0".into(),
        },
        Attachment {
            container_id: "c".into(),
            ifname: "".into(),
        },
    ] {
        let error = runtime
            .add(&list(), &RuntimeConf { attachment, ..rt() })
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
    }
    let mut list = list();
    list.name = "a/b".into();
    assert_eq!(
        runtime.add(&list, &rt()).unwrap_err().code,
        Code::InvalidConfig
    );
    assert!(shop.order().is_empty());
}
