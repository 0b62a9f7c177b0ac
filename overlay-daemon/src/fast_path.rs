//! The fast path: eBPF programs that carry established connections between pods of different nodes past bridge, netfilter and
//! routing (`bpf/fast_path.c` says how). They are there as long as the daemon; without them everything takes the slow path.

mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use netlink::{Handle, Link, Monitor};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::programs::{Attached, Programs, Side};
use crate::config::Config;
use crate::names::DEVICE;

/// The bit of the packet mark between our nftables rule and the programs, which clear it: `MARK` in `bpf/fast_path.c`.
pub const MARK: u32 = 0x2000_0000;
/// The queueing discipline of a link that has none: what has another is shaped or filtered, and must not be passed by.
const NO_QUEUE: &str = "noqueue";
/// A full look, should every event have been missed.
const FULL_PASS: Duration = Duration::from_secs(30);
/// Between two looks that events asked for: a burst of them costs one.
const GAP: Duration = Duration::from_millis(50);

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct State {
    /// Pods' links that the programs are at; a link with a queueing discipline of its own takes the slow path.
    pub links: usize,
    /// Why there are no programs.
    pub problem: Option<String>,
}

/// Starts the thread that keeps the programs where they belong, in the caller's network namespace. None where the
/// configuration does not ask for it.
///
/// # Errors
/// When the kernel gives no netlink socket.
pub fn start(config: &Config) -> Result<watch::Receiver<Option<State>>, String> {
    let (states, state) = watch::channel(config.fast_path.then(State::default));
    if !config.fast_path {
        return Ok(state);
    }
    let said = |error: netlink::Error| error.to_string();
    let mut keeper = Keeper {
        bridge: config.bridge.clone(),
        route: Handle::new().map_err(said)?,
        events: Monitor::links_and_queues().map_err(said)?,
        programs: None,
        attached: BTreeMap::new(),
        states,
    };
    thread::Builder::new()
        .name("fast-path".into())
        .spawn(move || keeper.run())
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(state)
}

struct Keeper {
    bridge: String,
    route: Handle,
    events: Monitor,
    /// None until they are loaded.
    programs: Option<Programs>,
    /// By the link's index: they are detached when they are dropped.
    attached: BTreeMap<u32, Attached>,
    states: watch::Sender<Option<State>>,
}

impl Keeper {
    fn run(&mut self) {
        loop {
            // What is attached stays: it is as right as it was.
            let problem = self.look().err();
            let state = State {
                links: self.attached.len().saturating_sub(1),
                problem,
            };
            self.states.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&state);
                if let (true, Some(why)) = (is_new, &state.problem) {
                    tracing::warn!("no fast path: {why}");
                }
                *known = Some(state);
                is_new
            });
            self.wait();
        }
    }

    /// Attaches the programs where they are missing, and detaches them where they must not be any more.
    fn look(&mut self) -> Result<(), String> {
        let wanted = self.wanted().map_err(|error| error.to_string())?;
        let programs = match &mut self.programs {
            Some(programs) => programs,
            none => none.insert(Programs::load()?),
        };
        self.attached.retain(|index, _| wanted.contains_key(index));
        for (index, (name, side)) in wanted {
            if self.attached.contains_key(&index) {
                continue;
            }
            match programs.attach(&name, side) {
                Ok(attached) => {
                    self.attached.insert(index, attached);
                }
                // It went in between.
                Err(_)
                    if self
                        .route
                        .link_by_index(index)
                        .is_ok_and(|link| link.is_none()) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// The links that the programs belong at: the VXLAN device and the pods on the bridge. Without the former there is
    /// nothing for the latter to do.
    fn wanted(&mut self) -> netlink::Result<BTreeMap<u32, (String, Side)>> {
        let links = self.route.links()?;
        let queues = self.route.queues()?;
        let queued: BTreeSet<u32> = queues
            .into_iter()
            .filter(|(_, kind)| kind != NO_QUEUE)
            .map(|(index, _)| index)
            .collect();
        let bridge = links.iter().find(|link| link.name == self.bridge);
        let is_pod = |link: &&Link| {
            link.kind.as_deref() == Some("veth")
                && link.peer_netns_id.is_some()
                && link.master.is_some()
                && link.master == bridge.map(|bridge| bridge.index)
                && !queued.contains(&link.index)
        };
        let device = links
            .iter()
            .find(|link| link.name == DEVICE && !queued.contains(&link.index));
        let pods = links.iter().filter(is_pod).filter(|_| device.is_some());
        let places = device.map(|link| (link, Side::Overlay));
        Ok(places
            .into_iter()
            .chain(pods.map(|link| (link, Side::Pod)))
            .map(|(link, side)| (link.index, (link.name.clone(), side)))
            .collect())
    }

    /// Waits for an event or the time of the next full look.
    fn wait(&mut self) {
        let deadline = Instant::now() + FULL_PASS;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut descriptors = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
            // Interrupted by a signal: the next round waits again.
            let _ = poll(&mut descriptors, timeout);
            thread::sleep(GAP);
            let mut heard = false;
            if let Err(why) = self.events.drain(|_| heard = true) {
                tracing::warn!("cannot hear the kernel's events: {why}");
            }
            if heard || Instant::now() >= deadline {
                return;
            }
        }
    }
}
