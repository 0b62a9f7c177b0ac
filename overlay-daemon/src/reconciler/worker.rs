//! The thread itself: what it waits for, when it looks, and what it goes by when it writes.

use std::borrow::Cow;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink::{Event, Handle, Monitor, nft};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::{Input, Report};
use crate::config::Config;
use crate::diff::{self, Change};
use crate::local::Local;
use crate::names::PROTOCOL;
use crate::observe::Observed;
use crate::plan::{Desired, Planned, Touched};
use crate::view::View;
use crate::{firewall, system};

/// A full look, should every event have been missed.
const FULL_PASS: Duration = Duration::from_secs(30);
/// After a pass that could not do everything.
const RETRY: Duration = Duration::from_secs(1);
/// Between two passes that events or inputs asked for: a burst of them costs one.
const GAP: Duration = Duration::from_millis(50);
/// A pass over many rows takes longer than that: then as long as it took, that events without end leave a processor
/// to others; never so long that what is promised within a second would be late.
const LONGEST_GAP: Duration = Duration::from_millis(200);

pub(super) struct Worker {
    config: Config,
    route: Handle,
    nft: nft::Handle,
    events: Monitor,
    ruleset_events: Monitor,
    woken: UnixStream,
    inputs: watch::Receiver<Option<Input>>,
    input: Option<Input>,
    /// What the kernel held when it was last looked at, with what was written since.
    known: Option<(Local, Observed)>,
    /// Whether an input has come that nothing was done for yet.
    is_asked: bool,
    /// What was last planned.
    planned: Option<Planned>,
    /// Whether rows that were not planned have been removed: the set of nodes was whole.
    is_settled: bool,
    /// Index of the uplink, where there is one.
    uplink: Option<u32>,
    /// Index of the VXLAN device, where there is one.
    device: Option<u32>,
    report: Report,
    reports: watch::Sender<Report>,
}

/// What has become of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// All is as planned.
    Whole,
    /// Something is left to do.
    Wanting,
    /// An input came meanwhile, and goes before it.
    BrokenOff,
}

impl Worker {
    pub(super) fn new(
        config: Config,
        woken: UnixStream,
        inputs: watch::Receiver<Option<Input>>,
        reports: watch::Sender<Report>,
    ) -> Result<Self, String> {
        let said = |error: netlink::Error| error.to_string();
        Ok(Self {
            config,
            route: Handle::new().map_err(said)?,
            nft: nft::Handle::new().map_err(said)?,
            events: Monitor::route().map_err(said)?,
            ruleset_events: Monitor::nftables().map_err(said)?,
            woken,
            inputs,
            input: None,
            known: None,
            is_asked: false,
            planned: None,
            is_settled: false,
            uplink: None,
            device: None,
            report: Report::default(),
            reports,
        })
    }

    /// An input is written at once, by what is known of the kernel; an event of the kernel's brings about a look at all of
    /// it, which may take longer, and which the next input breaks off: once, so that inputs without end keep nobody from
    /// looking.
    pub(super) fn run(&mut self) -> ! {
        let begun = Instant::now();
        let (mut look_at, mut is_patient) = (begun + FULL_PASS, false);
        // Not before these.
        let (mut next_look, mut next_follow) = (begun, begun);
        loop {
            let due = match self.is_asked {
                true => look_at.min(next_follow),
                false => look_at,
            };
            match self.wait(due) {
                // What was just followed brings events about too: of a burst, what comes of all is looked at.
                Ok(true) => look_at = look_at.min(next_look.max(next_follow)),
                Ok(false) => {}
                Err(why) => tracing::warn!("cannot hear the kernel's events: {why}"),
            }
            let begun = Instant::now();
            if self.is_asked && begun >= next_follow {
                next_follow = begun + self.gap();
                if !self.follow() {
                    look_at = begun;
                }
            }
            if begun < look_at {
                continue;
            }
            let look = self.look(is_patient);
            is_patient = look == Look::BrokenOff;
            if !is_patient {
                let now = Instant::now();
                next_look = now + self.gap().max((now - begun).min(LONGEST_GAP));
                look_at = now
                    + if look == Look::Whole {
                        FULL_PASS
                    } else {
                        RETRY
                    };
            }
        }
    }

    /// The least time between two passes. Before the nodes are known nothing is written, and what comes then need not wait.
    fn gap(&self) -> Duration {
        let knows_nodes = self
            .input
            .as_ref()
            .is_some_and(|input| input.view.is_some());
        if knows_nodes { GAP } else { Duration::ZERO }
    }

    /// Waits until `deadline`, an input or an event, and says whether an event concerns us.
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
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(1..)) {}
        if self.inputs.has_changed().unwrap_or(false) {
            self.input.clone_from(&self.inputs.borrow_and_update());
            self.is_asked = true;
        }
        Ok(concerned && self.input.is_some())
    }

    /// Writes what a new input asks for, by what is known of the kernel. False where that does not do: then all of it has
    /// to be looked at.
    fn follow(&mut self) -> bool {
        self.is_asked = false;
        let (input, known) = (self.input.clone(), self.known.take());
        let (Some(input), Some((local, observed))) = (input, known) else {
            return false;
        };
        let Some(view) = &input.view else {
            return false;
        };
        let mut problems = Vec::new();
        self.put_right(&input, view, (local, observed, true), &mut problems);
        let is_done = problems.is_empty();
        if is_done {
            self.tell(input, problems);
        }
        is_done
    }

    /// Looks at everything once and puts it right. Unless it is patient, it makes way for a new input.
    fn look(&mut self, is_patient: bool) -> Look {
        let Some(input) = self.input.clone() else {
            return Look::Whole;
        };
        self.is_asked = false;
        let mut problems = Vec::new();
        match Local::find(&mut self.route, &self.config) {
            Ok(local) => {
                self.uplink = Some(local.index);
                self.report.local = Some(local.clone());
                if let Some(view) = &input.view {
                    let is_patient = is_patient || self.known.is_none();
                    let known = self.known.take();
                    let mut observed = known.map(|(_, observed)| observed).unwrap_or_default();
                    let inputs = &self.inputs;
                    let goes_on = || is_patient || !inputs.has_changed().unwrap_or(false);
                    match observed.renew(&mut self.route, goes_on) {
                        Ok(true) => {
                            self.put_right(&input, view, (local, observed, false), &mut problems);
                        }
                        Ok(false) => {
                            self.known = Some((local, observed));
                            return Look::BrokenOff;
                        }
                        Err(why) => problems.push(why.to_string()),
                    }
                }
            }
            // What is there stays: it may be just what is needed when the uplink comes back.
            Err(why) => {
                (self.uplink, self.known) = (None, None);
                self.report.local = None;
                problems.push(why);
            }
        }
        match self.tell(input, problems) {
            true => Look::Whole,
            false => Look::Wanting,
        }
    }

    /// Says what came of it, and whether all is well.
    fn tell(&mut self, input: Input, problems: Vec<String>) -> bool {
        if problems.is_empty() && input.view.is_some() {
            self.report.carries = Some(input.own.pod_cidrs);
        }
        self.report.problems = problems;
        self.report.passes += 1;
        self.reports.send_replace(self.report.clone());
        self.report.problems.is_empty()
    }

    /// Makes the kernel hold what is planned, given what it holds, and whether that was all as planned before. Where all of
    /// it went well, what it holds then is known.
    fn put_right(
        &mut self,
        input: &Input,
        view: &Arc<View>,
        (local, observed, was_right): (Local, Observed, bool),
        problems: &mut Vec<String>,
    ) {
        let planned = Planned::follow(self.planned.take(), view, &input.own, &local, &self.config);
        let was_right = was_right && self.is_settled == input.is_settled;
        let touched = planned.touched().filter(|_| was_right);
        self.is_settled = input.is_settled;
        let desired = planned.desired();
        match self.reconcile(desired, &local, observed, touched, problems) {
            Ok(observed) if problems.is_empty() => self.known = Some((local.clone(), observed)),
            Ok(_) => {}
            Err(why) => problems.push(why.to_string()),
        }
        problems.extend(system::prepare(&local, &self.config));
        if *self.report.peers != desired.peers {
            self.report.peers = Arc::new(desired.peers.clone());
        }
        self.planned = Some(planned);
    }

    /// Returns what the kernel holds then. Only what was `touched` can be other than planned, where that is said.
    fn reconcile(
        &mut self,
        desired: &Desired,
        local: &Local,
        mut observed: Observed,
        mut touched: Option<&Touched>,
        problems: &mut Vec<String>,
    ) -> netlink::Result<Observed> {
        let changes = diff::device(desired, &observed);
        if !changes.is_empty() {
            self.apply(&changes, desired, problems);
            observed = Observed::read(&mut self.route)?;
            touched = None;
        }
        self.device = observed.device.as_ref().map(|link| link.index);
        if let Some(device) = self.device {
            let mut changes = diff::rows(desired, &observed, (device, local.index), touched);
            if self.is_settled {
                changes.extend(diff::stale(desired, &observed, device, touched));
            }
            self.apply(&changes, desired, problems);
            for change in changes {
                change.take_down(&mut observed);
            }
        }
        let found = firewall::find(&mut self.nft)?;
        let mut firewall = Cow::Borrowed(&desired.firewall);
        if !self.is_settled {
            firewall.to_mut().accept(found.peers());
        }
        if let Some(transaction) = firewall.changes(&found) {
            self.nft.commit(&transaction)?;
            self.report.writes += 1;
            *self.report.changes.entry("nftables").or_default() += 1;
            tracing::info!("nftables table {} put right", crate::names::TABLE.name);
        }
        Ok(observed)
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
