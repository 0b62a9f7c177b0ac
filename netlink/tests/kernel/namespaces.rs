//! Network namespaces: opened, entered, left.
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use netlink::netns::Netns;
use netlink::{Error, Handle};
use nix::errno::Errno;

use crate::sandbox::{another_netns, in_new_netns};
use crate::tools::*;

/// The identity of the calling thread's namespace, as the kernel writes it.
fn here() -> String {
    fs::read_link("/proc/thread-self/ns/net")
        .unwrap()
        .display()
        .to_string()
}

pub fn run_comes_back_with_the_outcome() {
    let (home, pod) = (here(), another_netns());
    let there = pod.run(here).unwrap();
    assert_ne!(there, home);
    assert_eq!(here(), home);
    let nested = pod
        .run(|| another_netns().run(here).unwrap() != here())
        .unwrap();
    assert!(nested && here() == home);
}

pub fn run_comes_back_from_a_panic() {
    let (home, pod) = (here(), another_netns());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        pod.run(|| std::panic::resume_unwind(Box::new(7)))
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&7));
    assert_eq!(here(), home);
    assert!(pod.run(|| ip("link show").len()).unwrap() == 1 && here() == home);
}

pub fn one_is_made_and_removed_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (home, path) = (here(), dir.path().join("run/netns/x"));
    let made = Netns::create(&path).unwrap();
    let there = made.run(here).unwrap();
    assert!(there != home && here() == home);
    assert_eq!(Netns::open(&path).unwrap().run(here).unwrap(), there);
    assert!(
        Netns::create(&path)
            .unwrap_err()
            .to_string()
            .contains("run/netns/x")
    );
    Netns::remove(&path).unwrap();
    assert!(!path.exists());
    Netns::remove(&path).unwrap();
}

pub fn a_handle_stays_where_it_was_opened() {
    let (home, pod) = (here(), another_netns());
    let mut there = Handle::in_netns(&pod).unwrap();
    assert_eq!(here(), home);
    make_bridge_in(&mut there);
    assert_eq!(ip("link show").len(), 1, "only lo is here");
    assert_eq!(pod.run(|| ip("link show").len()).unwrap(), 2);
    let mut moved = thread::spawn(move || {
        let links = there.links().unwrap().len();
        (there, links)
    })
    .join()
    .unwrap();
    assert_eq!((moved.1, moved.0.links().unwrap().len()), (2, 2));
}

fn make_bridge_in(handle: &mut Handle) {
    let bridge = netlink::link::Bridge {
        name: "br0",
        ..Default::default()
    };
    accept(handle, bridge.request());
}

pub fn namespaces_are_told_apart() {
    let (home, pod) = (Netns::current().unwrap(), another_netns());
    assert!(home.is_same(&Netns::current().unwrap()).unwrap());
    assert!(!home.is_same(&pod).unwrap());
    assert!(
        pod.run(|| Netns::current().unwrap().is_same(&pod).unwrap())
            .unwrap()
    );
    let by_path = Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap();
    assert!(home.is_same(&by_path).unwrap());
}

pub fn a_namespace_lives_as_long_as_it_is_held() {
    let pod = in_new_netns(|| {
        sh("ip link add kept type bridge");
        Netns::current().unwrap()
    });
    assert!(
        Handle::in_netns(&pod)
            .unwrap()
            .link("kept")
            .unwrap()
            .is_some()
    );
}

pub fn what_is_no_network_namespace_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("plain"), "").unwrap();
    sh(&format!("mkfifo {}", path("pipe").display()));
    for (path, why) in [
        (path("plain"), "it is a file of another kind"),
        (path("."), "it is a file of another kind"),
        (path("pipe"), "it is a file of another kind"),
        (path("missing"), "there is no such file"),
        (path("missing/too"), "there is no such file"),
        (path("plain/below"), "a part of the path is not a directory"),
    ] {
        let error = Netns::open(&path).unwrap_err();
        assert!(error.is_not_a_netns(), "{error}");
        let said = format!("{} is not a network namespace: {why}", path.display());
        assert_eq!(error.to_string(), said);
    }
    let home = here();
    let uts = Netns::open(Path::new("/proc/thread-self/ns/uts"));
    let error = uts
        .and_then(|uts| uts.run(|| panic!("in no network namespace")))
        .unwrap_err();
    let refused = error.errno() == Some(Errno::EINVAL) || matches!(error, Error::NotANetns { .. });
    assert!(refused && here() == home, "{error}");
}
