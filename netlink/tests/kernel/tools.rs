//! What `ip` and `bridge` see, and the small things that many tests need.
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlink::link::{Bridge, Veth, Vxlan, VxlanInfo};
use netlink::netns::Netns;
use netlink::{Error, Handle, Mac, Request};
use nix::errno::Errno;
use serde_json::Value;

use crate::sandbox::run;

/// The objects that `ip -j -d <words>` prints.
#[track_caller]
pub fn ip(words: &str) -> Vec<Value> {
    json("ip", words)
}

/// The one object that `ip -j -d <words>` prints.
#[track_caller]
pub fn ip_one(words: &str) -> Value {
    let mut objects = ip(words);
    assert_eq!(objects.len(), 1, "ip {words}: {objects:?}");
    objects.remove(0)
}

/// The objects that `bridge -j -d <words>` prints.
#[track_caller]
pub fn bridge(words: &str) -> Vec<Value> {
    json("bridge", words)
}

#[track_caller]
fn json(program: &str, words: &str) -> Vec<Value> {
    let words: Vec<_> = ["-j", "-d"].into_iter().chain(words.split(' ')).collect();
    let text = run(program, &words);
    match text.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).unwrap(),
    }
}

/// Runs shell commands; the first that fails fails the test.
#[track_caller]
pub fn sh(script: &str) -> String {
    run("sh", &["-ec", script])
}

/// Whether a JSON list of words, such as `flags`, has `word`.
pub fn has(list: &Value, word: &str) -> bool {
    list.as_array()
        .is_some_and(|list| list.iter().any(|item| item == word))
}

/// A handle on the test's namespace.
pub fn handle() -> Handle {
    Handle::new().unwrap()
}

/// Carries out one request that is to be accepted.
#[track_caller]
pub fn accept(handle: &mut Handle, request: Request) {
    handle.execute(vec![request]).unwrap();
}

/// Carries out one request that is to be refused.
#[track_caller]
pub fn refuse(handle: &mut Handle, request: Request) -> Error {
    handle.execute(vec![request]).unwrap_err()
}

/// The kernel's own explanation in an error.
pub fn text(error: &Error) -> &str {
    match error {
        Error::Kernel {
            text: Some(text), ..
        } => text,
        _ => "",
    }
}

/// Asserts that a request was refused with `errno`, and that the error says what it was.
#[track_caller]
pub fn assert_refused(error: &Error, errno: Errno, what: &str) {
    assert_eq!(error.errno(), Some(errno), "{error}");
    assert!(
        error.to_string().starts_with(&format!("cannot {what}: ")),
        "{error}"
    );
}

/// The index of a link that is there.
#[track_caller]
pub fn index(name: &str) -> u32 {
    let index = &ip_one(&format!("link show dev {name}"))["ifindex"];
    u32::try_from(index.as_u64().unwrap()).unwrap()
}

/// A MAC of the locally administered kind with a last byte of one's own.
pub fn mac(last: u8) -> Mac {
    Mac::from([2, 0, 0, 0, 0, last])
}

/// An address or network from its text.
pub fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

/// An address from its text.
pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A veth pair between the test's namespace and `peer_netns`.
pub fn veth<'a>(name: &'a str, peer_name: &'a str, peer_netns: &'a Netns) -> Veth<'a> {
    Veth {
        name,
        peer_name,
        peer_netns,
        mtu: None,
        mac: mac(1),
        peer_mac: mac(2),
        master: None,
        up: true,
    }
}

/// A bridge that is up, for what needs any device that is; its index.
pub fn make_bridge(handle: &mut Handle, name: &str) -> u32 {
    let bridge = Bridge {
        name,
        ..Bridge::default()
    };
    accept(handle, bridge.request());
    sh(&format!("ip link set {name} up"));
    index(name)
}

/// A VXLAN device with these settings; its index.
pub fn make_vxlan(handle: &mut Handle, name: &str, vni: u32, local: &str) -> u32 {
    let info = VxlanInfo {
        vni,
        local: Some(addr(local)),
        port: 8472,
        learning: false,
    };
    let vxlan = Vxlan {
        name,
        info,
        mac: mac(9),
        mtu: 1400,
    };
    accept(handle, vxlan.request());
    index(name)
}

/// Waits until something is so; a panic after ten seconds.
#[track_caller]
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        sleep(Duration::from_millis(20));
    }
}
