//! Environments, configurations and lists with anything in them: exactly one answer, no panic. For the tests of this crate and
//! for `fuzz/`; not part of a build.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use serde_json::{Deserializer, Value};

use crate::runtime::{Conflist, cache};
use crate::{AddResult, Call, Env, Plugin, Reply, Result, Version, serve};

/// A plugin that has nothing to do.
struct Idle;

impl Plugin for Idle {
    fn about(&self) -> &'static str {
        "idle"
    }
    fn add(&self, call: &Call) -> Result<AddResult> {
        Ok(call.conf.prev_result.clone().unwrap_or_default())
    }
    fn del(&self, _: &Call) -> Result<()> {
        Ok(())
    }
    fn check(&self, _: &Call) -> Result<()> {
        Ok(())
    }
    fn gc(&self, _: &Call) -> Result<()> {
        Ok(())
    }
    fn status(&self, _: &Call) -> Result<()> {
        Ok(())
    }
}

/// The values of the seven variables, each ended by a zero byte, and behind them stdin.
pub fn call(bytes: &[u8]) {
    let mut parts = bytes.splitn(8, |byte| *byte == 0);
    let mut variable = || {
        let value = parts.next().filter(|value| !value.is_empty());
        value.map(|value| OsString::from_vec(value.to_vec()))
    };
    let env = Env {
        command: variable(),
        container_id: variable(),
        netns: variable(),
        ifname: variable(),
        args: variable(),
        path: variable(),
        netns_override: variable(),
    };
    one_document(&serve(&Idle, &env, parts.next().unwrap_or_default()));
}

fn one_document(reply: &Reply) {
    let documents = Deserializer::from_slice(&reply.stdout).into_iter::<Value>();
    let count = documents.filter(|document| document.is_ok()).count();
    let wanted = usize::from(!reply.stdout.is_empty());
    assert_eq!(count, wanted, "{reply:?}");
    assert!(reply.success || wanted == 1, "{reply:?}");
}

/// A network's list of plugins.
pub fn conflist(bytes: &[u8]) {
    let _ = Conflist::parse(bytes);
}

/// A file of the runtime's cache of results. Whatever attachment it speaks of, its file stands in that directory.
pub fn cached(bytes: &[u8]) {
    if let Ok(result) = cache::result_in(bytes) {
        let _ = result.to_json(Version::LATEST);
    }
    if let Some(found) = cache::attachment_in(bytes, "lab") {
        let file = cache::file(Path::new("/cache"), "lab", &found.attachment);
        assert_eq!(file.parent(), Some(Path::new("/cache/results")), "{file:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = r#"{"cniVersion":"1.0.0","cniVersions":["0.4.0","1.0.0"],"name":"lab","disableGC":true,"plugins":[{"type":"bridge","capabilities":{"ips":true}},{"type":"portmap"}]}"#;

    const CACHED: &str = r#"{"kind":"cniCacheV1","containerId":"c1","config":"e30=","ifName":"eth0","networkName":"lab","netns":"/run/netns/x","cniArgs":[["K8S_POD_NAME","p"]],"capabilityArgs":{"portMappings":[]},"result":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"address":"10.1.0.2/24","gateway":"10.1.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}}"#;

    type Change = (prop::sample::Index, u8);

    /// With a few bytes that are others.
    fn changed(text: &str, changes: Vec<Change>) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_call(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            call(&bytes);
        }

        #[test]
        fn almost_a_list(changes in prop::collection::vec(any::<Change>(), 0..4)) {
            conflist(&changed(LIST, changes));
        }

        #[test]
        fn any_file_of_the_cache(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            cached(&bytes);
        }

        #[test]
        fn almost_a_file_of_the_cache(changes in prop::collection::vec(any::<Change>(), 0..4)) {
            cached(&changed(CACHED, changes));
        }
    }

    #[test]
    fn names_in_the_cache_stay_in_it() {
        cached(CACHED.as_bytes());
        assert!(cache::attachment_in(CACHED.as_bytes(), "lab").is_some());
        for (name, other) in [("\"c1\"", "\"../../c1\""), ("\"eth0\"", "\"/../eth0\"")] {
            let planted = CACHED.replace(name, other);
            assert!(cache::attachment_in(planted.as_bytes(), "lab").is_none());
        }
    }

    /// Deep, and wide, and as long as no runtime writes it: an answer comes all the same.
    #[test]
    fn large_configurations_are_answered() {
        let head = b"ADD\0c1\0/run/x\0eth0\0\0/bin\0\0".to_vec();
        let deep = "[".repeat(200_000);
        let wide = format!(
            "{{\"name\":\"lab\",\"x\":[{}0]}}",
            "{\"a\":1},".repeat(100_000)
        );
        let keys: String = (0..100_000).map(|key| format!("\"k{key}\":0,")).collect();
        let keys = format!("{{{keys}\"cniVersion\":\"1.0.0\",\"name\":\"lab\",\"type\":\"x\"}}");
        for stdin in [deep, wide, keys] {
            call(&[&head[..], stdin.as_bytes()].concat());
            conflist(stdin.as_bytes());
        }
    }
}
