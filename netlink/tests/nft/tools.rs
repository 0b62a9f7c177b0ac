//! The table that the tests work on, and how `nft` sees it.
use netlink::nft::{Element, Family, Handle, Key, Table, Transaction, Value};
use netlink::{Error, Result};
use serde_json::Value as Json;

use crate::sandbox::{another_netns, run};

/// The tests' table.
pub const TABLE: Table = Table {
    family: Family::Inet,
    name: "t",
};

/// The whole ruleset as text.
pub fn listing() -> String {
    run("nft", &["list", "ruleset"])
}

/// The whole ruleset of a namespace of its own, after it was given `script`: `nft`'s own idea of it.
#[track_caller]
pub fn listing_of(script: &str) -> String {
    let netns = another_netns();
    let list = || {
        run("nft", &[script]);
        listing()
    };
    netns.run(list).unwrap()
}

/// The objects of one kind, such as `rule`, in nft's JSON of the ruleset.
pub fn objects(kind: &str) -> Vec<Json> {
    let text = run("nft", &["-j", "list", "ruleset"]);
    let whole: Json = serde_json::from_str(&text).unwrap();
    let all = whole["nftables"].as_array().unwrap().iter();
    all.filter_map(|object| object.get(kind)).cloned().collect()
}

/// Commits what `fill` puts into a transaction on the tests' table.
pub fn try_commit(fill: impl FnOnce(&mut Transaction)) -> Result<()> {
    let mut transaction = Transaction::new(TABLE);
    fill(&mut transaction);
    Handle::new()?.commit(&transaction)
}

/// As [`try_commit`], for what is to be accepted.
#[track_caller]
pub fn commit(fill: impl FnOnce(&mut Transaction)) {
    try_commit(fill).unwrap();
}

/// As [`try_commit`], for what is to be refused with the ruleset as it was.
#[track_caller]
pub fn refused(fill: impl FnOnce(&mut Transaction)) -> Error {
    let before = listing();
    let error = try_commit(fill).unwrap_err();
    assert_eq!(listing(), before, "a refused transaction changes nothing");
    error
}

/// A plain element.
pub fn element(key: Key) -> Element {
    Element {
        key,
        value: None,
        comment: None,
    }
}

/// An element that leads to a chain.
pub fn jump(key: Key, chain: &str, comment: &str) -> Element {
    Element {
        key,
        value: Some(Value::Jump(chain.into())),
        comment: Some(comment.into()),
    }
}

/// The key of an address.
pub fn key(ip: &str) -> Key {
    Key::from(ip.parse::<std::net::IpAddr>().unwrap())
}
