//! The one writer: a thread that owns netlink, looks whenever something may have changed, and puts right what is not as
//! planned. Its input is the last word of the membership source, its output a [`Report`].

mod worker;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use ipnetwork::IpNetwork;
use tokio::sync::watch;

use self::worker::Worker;
use crate::config::Config;
use crate::local::Local;
use crate::node::Node;
use crate::plan::Reach;
use crate::view::View;

/// What the kernel is to be made of.
#[derive(Clone, Debug)]
pub struct Input {
    /// This node; its endpoints are not read, the kernel knows them better.
    pub own: Node,
    /// Everyone; none while that is not known, and nothing is touched until then.
    pub view: Option<Arc<View>>,
    /// Whether the set is whole. Right after its start a source may not have heard of everyone yet: what the kernel holds
    /// beyond the set stays until then.
    pub is_settled: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// This node's place on the underlay; none while it has none.
    pub local: Option<Local>,
    /// How each peer is reached.
    pub peers: Arc<BTreeMap<String, Reach>>,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// This node's pod CIDRs at the last pass that knew who the peers are and left nothing undone; none before that.
    pub carries: Option<Vec<IpNetwork>>,
    /// Passes so far.
    pub passes: u64,
    /// Changes made in the kernel so far.
    pub writes: u64,
    /// The same by kind of row.
    pub changes: BTreeMap<&'static str, u64>,
}

/// The other end of the thread.
#[derive(Debug)]
pub struct Reconciler {
    inputs: watch::Sender<Option<Input>>,
    wake: UnixStream,
}

impl Reconciler {
    /// Starts the thread in the caller's network namespace; it looks at nothing before the first input.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn start(config: Config) -> Result<(Self, watch::Receiver<Report>), String> {
        let (wake, woken) =
            UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true)
                .map_err(|error| error.to_string())?;
        }
        let (inputs, receiver) = watch::channel(None);
        let (reports, report) = watch::channel(Report::default());
        let mut worker = Worker::new(config, woken, receiver, reports)?;
        thread::Builder::new()
            .name("netlink".into())
            .spawn(move || worker.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok((Self { inputs, wake }, report))
    }

    /// Gives the thread a new input; it needs no other to act on it.
    pub fn send(&self, input: Input) {
        // Only the last one counts: however often something changes, one is held.
        self.inputs.send_replace(Some(input));
        // It fails when the thread has not yet woken up for the last one, or is gone, and the process with it.
        let _ = (&self.wake).write(&[1]);
    }
}
