//! What a stranger, a member with a defect, an API server, a damaged disk or a slip of the pen may hand the daemon: no panic,
//! and no row of the kernel that no node could mean. For the tests of this crate and for `fuzz/`; not part of a build.

mod gossip;
mod rows;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::json;
use tokio::sync::{mpsc, watch};

pub use self::gossip::{datagram, state};
use self::rows::config as of_the_lab;
pub use self::rows::rows;
use crate::calls::{self, Counter};
use crate::config::Config;
use crate::drops::Drops;
use crate::events::{Event, Events};
use crate::far::{Question, Told};
use crate::http::{self, Shared};
use crate::membership::{Membership, fixed, kubernetes};
use crate::probe::Probes;
use crate::reconciler::Report;
use crate::trace;

/// The secret that no error may repeat.
const SECRET: &str = "a secret of the lab's, of enough letters";

/// `heddle.toml`. What is accepted can be used, and no secret is said again.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let config = match Config::parse(&text, Path::new("heddle.toml"), json!({})) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().contains(SECRET), "{error}");
            return;
        }
    };
    let shown = toml::to_string(&config).unwrap_or_default();
    assert!(config.keys.is_empty() || !shown.contains(SECRET), "{shown}");
    let slots = config.slots();
    for slot in [0, slots / 2, slots.saturating_sub(1)] {
        for share in config.cidrs_of_slot(slot).into_iter().filter(|_| slots > 0) {
            let inside = |range: &&ipnetwork::IpNetwork| {
                range.prefix() <= share.prefix() && range.contains(share.ip())
            };
            assert!(
                config.cluster_cidrs.iter().any(|range| inside(&range)),
                "{share}"
            );
        }
    }
}

/// `nodes.toml` of static membership.
pub fn nodes_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(membership) = fixed::parse(&text, Path::new("nodes.toml"), &of_the_lab()) {
        rows(membership.nodes);
    }
}

/// A list of Nodes, one of the watch's events, or the file of what the API server last said.
pub fn node_list(bytes: &[u8]) {
    rows(kubernetes::fuzzing::nodes(bytes, &of_the_lab()));
}

/// Lines of the plugins' calls: however many, under few names. And the events, as the command line reads them.
pub fn lines(bytes: &[u8]) {
    let calls = calls::none();
    let mut counter = Counter::new(calls);
    let text = String::from_utf8_lossy(bytes);
    text.lines().for_each(|line| counter.count(line));
    assert!(counter.names() <= 64);
    if let Ok(events) = serde_json::from_slice::<Vec<Event>>(bytes) {
        let again = serde_json::to_vec(&events).unwrap_or_default();
        assert_eq!(
            serde_json::from_slice::<Vec<Event>>(&again).ok(),
            Some(events)
        );
    }
}

/// What comes to the port of the probes: another node's question, or its answer to ours.
pub fn far(bytes: &[u8]) {
    if let Some((number, question)) = Question::decode(bytes) {
        let again = question.encode(number);
        assert_eq!(Question::decode(&again), Some((number, question)));
        assert_eq!(again.len(), bytes.len());
    }
    let number = bytes.get(4..12).and_then(|number| number.try_into().ok());
    let number = number.map_or(0, u64::from_be_bytes);
    if let Some(told) = Told::decode(bytes, number) {
        assert_eq!(Told::decode(&told.encode(number), number), Some(told));
    }
}

/// kube-proxy's rules, in each of its forms.
pub fn services(bytes: &[u8]) {
    trace::read_as_all(&String::from_utf8_lossy(bytes));
}

/// One connection to the control socket: each answer is one of ours, and none is a failure of ours.
pub fn http(bytes: &[u8]) {
    let answered = connect(bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&answered);
    assert!(answered.is_empty() || text.starts_with("HTTP/1."), "{text}");
    assert!(!text.starts_with("HTTP/1.1 500"), "{text}");
}

/// Says all of it, and nothing more, and hears the answers out.
fn connect(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut client, server) = UnixStream::pair()?;
    server.set_nonblocking(true)?;
    let mut reader = client.try_clone()?;
    let heard = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A connection that is broken off has said what it has said.
        let _ = reader.read_to_end(&mut bytes);
        bytes
    });
    let said = bytes.to_vec();
    let saying = std::thread::spawn(move || {
        // Who is not listened to any more stops.
        let _ = client.write_all(&said);
        let _ = client.shutdown(Shutdown::Write);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = tokio::net::UnixStream::from_std(server)?;
        http::answer(server, shared()).await;
        Ok::<(), std::io::Error>(())
    })?;
    drop(saying.join());
    Ok(heard.join().unwrap_or_default())
}

/// A daemon that has just begun.
fn shared() -> Shared {
    Shared {
        node: "own".into(),
        membership: watch::channel(Membership::default()).1,
        report: watch::channel(Report::default()).1,
        probes: watch::channel(Probes::default()).1,
        conflist: watch::channel(Err(String::new())).1,
        fast_path: watch::channel(None).1,
        calls: calls::none(),
        drops: watch::channel(Drops::default()).1,
        events: Events::default(),
        commands: mpsc::channel(1).0,
    }
}
