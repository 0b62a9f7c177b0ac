//! The one writer: a thread that owns netlink, looks whenever something may have changed, and puts right what is not as
//! planned. Its input is the last word of the membership source, its output a [`Report`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlink::{Event, Handle, Monitor, nft};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use crate::config::Config;
use crate::diff::{self, Change};
use crate::local::Local;
use crate::names::PROTOCOL;
use crate::node::Node;
use crate::observe::Observed;
use crate::plan::{Desired, Planned, Reach};
use crate::view::View;
use crate::{firewall, system};

/// A full look, should every event have been missed.
const FULL_PASS: Duration = Duration::from_secs(30);
/// After a pass that could not do everything.
const RETRY: Duration = Duration::from_secs(1);
/// Between two passes that events asked for: a burst of them costs one.
const GAP: Duration = Duration::from_millis(50);
/// A pass over many rows takes longer than that: then as long as it took, that events without end leave a processor
/// to others; never so long that what is promised within a second would be late.
const LONGEST_GAP: Duration = Duration::from_millis(200);

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
        let said = |error: netlink::Error| error.to_string();
        let (wake, woken) =
            UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true)
                .map_err(|error| error.to_string())?;
        }
        let (inputs, receiver) = watch::channel(None);
        let (reports, report) = watch::channel(Report::default());
        let mut worker = Worker {
            config,
            route: Handle::new().map_err(said)?,
            nft: nft::Handle::new().map_err(said)?,
            events: Monitor::route().map_err(said)?,
            ruleset_events: Monitor::nftables().map_err(said)?,
            woken,
            inputs: receiver,
            input: None,
            known: None,
            planned: None,
            uplink: None,
            device: None,
            report: Report::default(),
            reports,
        };
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

struct Worker {
    config: Config,
    route: Handle,
    nft: nft::Handle,
    events: Monitor,
    ruleset_events: Monitor,
    woken: UnixStream,
    inputs: watch::Receiver<Option<Input>>,
    input: Option<Input>,
    /// What the last pass saw, where it changed nothing and no event has come since.
    known: Option<(Local, Observed)>,
    /// What was last planned.
    planned: Option<Planned>,
    /// Index of the uplink, where there is one.
    uplink: Option<u32>,
    /// Index of the VXLAN device, where there is one.
    device: Option<u32>,
    report: Report,
    reports: watch::Sender<Report>,
}

impl Worker {
    fn run(&mut self) {
        let (mut last, mut gap) = (Instant::now(), GAP);
        let (mut full, mut asked) = (last + FULL_PASS, None);
        loop {
            let due = |asked: Option<Instant>| asked.map_or(full, |asked| full.min(asked));
            match self.wait(due(asked)) {
                Ok(true) => asked = Some(last + gap),
                Ok(false) => {}
                Err(why) => tracing::warn!("cannot hear the kernel's events: {why}"),
            }
            let begun = Instant::now();
            if begun < due(asked) {
                continue;
            }
            if begun >= full {
                self.known = None;
            }
            let complete = self.pass();
            last = Instant::now();
            gap = GAP.max((last - begun).min(LONGEST_GAP));
            (full, asked) = (last + if complete { FULL_PASS } else { RETRY }, None);
        }
    }

    /// Waits until `deadline` or an event, and says whether anything concerns us.
    fn wait(&mut self, deadline: Instant) -> netlink::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a deadline less than a millisecond away would be asked for again and again.
        let left = left + Duration::from_millis(u64::from(!left.is_zero()));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ruleset_events.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted by a signal: the next round waits again.
        let _ = poll(&mut descriptors, timeout);
        let (uplink, device) = (self.uplink, self.device);
        // Without an uplink or a device anything may be what brings them back.
        let lost = uplink.is_none() || device.is_none();
        let ours = |index: u32| lost || Some(index) == uplink || Some(index) == device;
        let mut concerned = false;
        self.events.drain(|event| {
            concerned |= match event {
                Event::Link(index) | Event::Address(index) => ours(index),
                Event::Neighbour(index) => Some(index) == device,
                Event::Queue(_) => false,
                Event::Nexthop(protocol) => protocol == PROTOCOL,
                Event::Route(_) | Event::Ruleset | Event::Lost => true,
            }
        })?;
        self.ruleset_events.drain(|_| concerned = true)?;
        if concerned {
            self.known = None;
        }
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(1..)) {}
        if self.inputs.has_changed().unwrap_or(false) {
            self.input.clone_from(&self.inputs.borrow_and_update());
            concerned = true;
        }
        Ok(concerned && self.input.is_some())
    }

    /// Looks at everything once and puts it right; true when nothing is left to do.
    fn pass(&mut self) -> bool {
        let Some(input) = self.input.clone() else {
            return true;
        };
        let mut problems = Vec::new();
        let (local, observed) = match self.known.take() {
            Some((local, observed)) => (Ok(local), Some(observed)),
            None => (Local::find(&mut self.route, &self.config), None),
        };
        match local {
            Ok(local) => {
                self.uplink = Some(local.index);
                if let Some(view) = &input.view {
                    let planned = Planned::follow(
                        self.planned.take(),
                        view,
                        &input.own,
                        &local,
                        &self.config,
                    );
                    let (desired, is_settled) = (planned.desired(), input.is_settled);
                    match self.reconcile(desired, &local, observed, is_settled, &mut problems) {
                        Ok(unchanged) => {
                            self.known = unchanged.map(|observed| (local.clone(), observed));
                        }
                        Err(why) => problems.push(why.to_string()),
                    }
                    problems.extend(system::prepare(&local, &self.config));
                    if *self.report.peers != desired.peers {
                        self.report.peers = Arc::new(desired.peers.clone());
                    }
                    self.planned = Some(planned);
                }
                self.report.local = Some(local);
            }
            // What is there stays: it may be just what is needed when the uplink comes back.
            Err(why) => {
                self.uplink = None;
                self.report.local = None;
                problems.push(why);
            }
        }
        if problems.is_empty() && input.view.is_some() {
            self.report.carries = Some(input.own.pod_cidrs);
        }
        self.report.problems = problems;
        self.report.passes += 1;
        self.reports.send_replace(self.report.clone());
        self.report.problems.is_empty()
    }

    /// Returns what the kernel holds, where nothing had to be changed.
    fn reconcile(
        &mut self,
        desired: &Desired,
        local: &Local,
        observed: Option<Observed>,
        is_settled: bool,
        problems: &mut Vec<String>,
    ) -> netlink::Result<Option<Observed>> {
        let writes = self.report.writes;
        let mut observed = match observed {
            Some(observed) => observed,
            None => Observed::read(&mut self.route)?,
        };
        let changes = diff::device(desired, &observed);
        if !changes.is_empty() {
            self.apply(&changes, desired, problems);
            observed = Observed::read(&mut self.route)?;
        }
        self.device = observed.device.as_ref().map(|link| link.index);
        if let Some(device) = self.device {
            let mut changes = diff::rows(desired, &observed, device, local.index);
            if is_settled {
                changes.extend(diff::stale(desired, &observed, device));
            }
            self.apply(&changes, desired, problems);
        }
        let found = firewall::find(&mut self.nft)?;
        let mut firewall = Cow::Borrowed(&desired.firewall);
        if !is_settled {
            firewall.to_mut().accept(found.peers());
        }
        if let Some(transaction) = firewall.changes(&found) {
            self.nft.commit(&transaction)?;
            self.report.writes += 1;
            *self.report.changes.entry("nftables").or_default() += 1;
            tracing::info!("nftables table {} put right", crate::names::TABLE.name);
        }
        Ok((self.report.writes == writes).then_some(observed))
    }

    fn apply(&mut self, changes: &[Change], desired: &Desired, problems: &mut Vec<String>) {
        if changes.is_empty() {
            return;
        }
        // A handful is news to a person, more is a figure.
        match changes.len() {
            ..=8 => changes
                .iter()
                .for_each(|change| tracing::info!(?change, "kernel")),
            many => tracing::info!(changes = many, "kernel"),
        }
        let requests = changes
            .iter()
            .map(|change| change.request(desired))
            .collect();
        match self.route.execute(requests) {
            Ok(()) => {}
            // It went with what it depended on, as routes go with their nexthop.
            Err(error) if error.is_not_found() => {}
            Err(error) => problems.push(explain(&error)),
        }
        self.report.writes += changes.len() as u64;
        for change in changes {
            *self.report.changes.entry(change.kind()).or_default() += 1;
        }
    }
}

/// The kernel's refusal with what a person can do about it.
fn explain(error: &netlink::Error) -> String {
    use nix::errno::Errno;
    let remedy = match error.errno() {
        Some(Errno::EPERM | Errno::EACCES) => ": run as root, or with CAP_NET_ADMIN",
        Some(Errno::EOPNOTSUPP) => ": the kernel lacks it (try `modprobe vxlan`)",
        Some(Errno::EADDRINUSE) => {
            ": another VXLAN device or program has the port, set \"vxlan_port\" on all nodes to another"
        }
        Some(Errno::EEXIST) if error.to_string().contains("link ") => {
            ": another VXLAN device has the number, remove it or set \"vni\" on all nodes to another"
        }
        Some(Errno::EEXIST) => ": another program made one, remove it or change its metric",
        _ => "",
    };
    format!("{error}{remedy}")
}
