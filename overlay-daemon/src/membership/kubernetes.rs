//! `kubernetes`: the Nodes of the API server, watched; this node's own kept true there.

mod api;
mod cache;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod publish;
mod set;

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::api::{KubeNode, Trouble, explain};
use self::cache::Cached;
use self::publish::Published;
use self::set::{Seen, Set};
use super::{About, Inputs, Membership, Warning};
use crate::config::Config;
use crate::doctor::Verdict;
use crate::view;

/// Nodes of a page of the list: a Node has 16 KB and more, and a page is held in memory whole.
const PAGE: u32 = 100;
/// Of a burst of changes the first is passed on at once, what comes within this time of it together.
const TOGETHER: Duration = Duration::from_millis(50);
/// A list of which nothing has come for so long is asked for anew: the client itself would wait five minutes, as for a watch,
/// which may well be silent.
const STALLED: Duration = Duration::from_secs(15);
/// So long the API server has to answer before what it last said is gone by.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(inputs: Inputs) -> Result<(), String> {
    let Inputs {
        config,
        endpoints,
        health,
        out,
        ..
    } = inputs;
    let (client, server) = api::connect(&config).await?;
    let nodes: Api<KubeNode> = Api::all(client);
    let (published, published_seen) = watch::channel(None);
    let (trouble, trouble_seen) = watch::channel(None);
    let sources = publish::Sources {
        endpoints,
        health,
        published: published_seen,
    };
    let publishing = publish::run(nodes.clone(), &config, sources, trouble);
    let file = cache::path(&config.state_dir);
    let stored = cache::load(&file);
    let storing = cache::keep(file, stored.clone(), out.subscribe());
    let mut listener = Listener {
        config: &config,
        server,
        set: Set::default(),
        seen: None,
        changed: Vec::new(),
        listed: None,
        is_settled: false,
        stored,
        goes_by_stored: false,
        unheard: None,
        published,
        out,
    };
    tokio::select! {
        () = publishing => Ok(()),
        () = storing => Ok(()),
        ended = listener.run(nodes, trouble_seen) => ended,
    }
}

/// Hears the Nodes, and tells what follows.
struct Listener<'a> {
    config: &'a Config,
    /// URL of the API server.
    server: String,
    set: Set,
    /// What followed from it when that was last told, and the Nodes that have changed since.
    seen: Option<Seen>,
    changed: Vec<String>,
    /// The list that is being read.
    listed: Option<Set>,
    /// Whether a whole list has been read.
    is_settled: bool,
    /// What an earlier daemon heard.
    stored: Option<Cached>,
    /// Whether that is what counts: patience is over.
    goes_by_stored: bool,
    /// Why nothing is heard at the moment, and since when.
    unheard: Option<(Trouble, Timestamp)>,
    published: watch::Sender<Option<Published>>,
    out: watch::Sender<Membership>,
}

impl Listener<'_> {
    async fn run(
        &mut self,
        nodes: Api<KubeNode>,
        mut trouble: watch::Receiver<Option<Trouble>>,
    ) -> Result<(), String> {
        let settings = watcher::Config::default().page_size(PAGE);
        let watch = || watcher(nodes.clone(), settings.clone()).backoff(api::Patience::default());
        let mut events = pin!(watch());
        let mut stalled = Some(Instant::now() + STALLED);
        let (mut patience, mut tell) = (Some(Instant::now() + PATIENCE), None);
        let mut told = Instant::now();
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else {
                        return Err("the watch of the Nodes has ended".into());
                    };
                    stalled = match is_listing(&event) {
                        Some(true) => Some(Instant::now() + STALLED),
                        Some(false) => None,
                        None => stalled,
                    };
                    if self.hear(event) {
                        tell.get_or_insert(told + TOGETHER);
                    }
                }
                () = at(stalled) => {
                    stalled = Some(Instant::now() + STALLED);
                    events.set(watch());
                    self.notice(Trouble {
                        text: format!("cannot list nodes: the API server has not answered for {} seconds", STALLED.as_secs()),
                        is_refusal: false,
                    });
                    tell.get_or_insert(Instant::now());
                }
                Ok(()) = trouble.changed() => {
                    tell.get_or_insert(Instant::now());
                }
                () = at(patience) => {
                    patience = None;
                    if !self.is_settled {
                        self.goes_by_stored = true;
                        tell.get_or_insert(Instant::now());
                    }
                }
                () = at(tell) => {
                    (tell, told) = (None, Instant::now());
                    self.tell(trouble.borrow().as_ref());
                }
            }
        }
    }

    /// Takes an event in, and says whether there is anything to tell.
    fn hear(&mut self, event: Result<Event<KubeNode>, watcher::Error>) -> bool {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.miss(&error),
        };
        let was_unheard = self.unheard.take().is_some();
        let changed = match event {
            Event::Init => {
                self.listed = Some(Set::default());
                false
            }
            Event::InitApply(node) => {
                self.notice_own(&node, true);
                self.listed.get_or_insert_default().apply(&node);
                false
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let is_new = !std::mem::replace(&mut self.is_settled, true);
                self.seen = None;
                if let Some(stored) = &mut self.stored {
                    stored.nodes = Vec::new();
                }
                std::mem::replace(&mut self.set, listed) != self.set || is_new
            }
            Event::Apply(node) => {
                self.notice_own(&node, true);
                let is_new = self.set.apply(&node);
                self.changed.extend(is_new.then(|| node.name_any()));
                is_new
            }
            Event::Delete(node) => {
                self.notice_own(&node, false);
                let was_there = self.set.remove(&node);
                self.changed.extend(was_there.then(|| node.name_any()));
                was_there
            }
        };
        changed || was_unheard
    }

    fn notice_own(&self, node: &KubeNode, is_there: bool) {
        if node.name_any() == self.config.node_name {
            let now = is_there.then(|| Published::of(node));
            self.published
                .send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
        }
    }

    fn miss(&mut self, error: &watcher::Error) -> bool {
        let trouble = match error {
            watcher::Error::InitialListFailed(error) => explain(error, "list", "nodes"),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                explain(error, "watch", "nodes")
            }
            // 410: too much has happened since; the list is read anew, which is all there is to do.
            watcher::Error::WatchError(status) if status.code == 410 => return false,
            other => Trouble {
                text: format!("cannot watch nodes: {}", api::chain(other)),
                is_refusal: false,
            },
        };
        self.notice(trouble)
    }

    /// Why nothing is heard; says whether that is news.
    fn notice(&mut self, trouble: Trouble) -> bool {
        let known = self.unheard.as_ref();
        let is_new = known.map(|(known, _)| known) != Some(&trouble);
        if is_new {
            tracing::warn!("{}", trouble.text);
        }
        let since = known.map_or_else(Timestamp::now, |(_, since)| *since);
        self.unheard = Some((trouble, since));
        is_new
    }

    /// Passes on what is known.
    fn tell(&mut self, unpublished: Option<&Trouble>) {
        let membership = self.membership(unpublished);
        self.out.send_if_modified(|known| {
            let is_new = *known != membership;
            *known = membership;
            is_new
        });
    }

    fn membership(&mut self, unpublished: Option<&Trouble>) -> Membership {
        let mut membership = Membership::default();
        let stored = self.stored.as_ref().filter(|_| self.goes_by_stored);
        match (self.is_settled, stored) {
            (true, _) => {
                let changed = std::mem::take(&mut self.changed);
                let seen = self.set.follow(self.seen.take(), &changed, self.config);
                self.own(seen.own_cidrs.clone(), &mut membership);
                membership.nodes.clone_from(&seen.nodes);
                membership.notes.clone_from(&seen.notes);
                membership.is_known = true;
                // A list without this very Node may be without all others too: nothing is taken away by it.
                membership.is_settled = seen.own_cidrs.is_some();
                self.seen = Some(seen);
            }
            (false, Some(stored)) => {
                membership.own_cidrs.clone_from(&stored.own_cidrs);
                membership.nodes.clone_from(&stored.nodes);
                membership.is_known = true;
                membership.notes.push("the API server has not been heard since the start: going by what it said before".into());
            }
            (false, None) => {}
        }
        // Kubernetes gives a CIDR to one Node, and this one's Node outlives the API server's absence.
        membership.may_hand_out = true;
        let unheard = self.unheard.as_ref();
        let unheard = unheard.map(|(trouble, since)| (trouble, Some(*since)));
        let unpublished = unpublished.map(|trouble| (trouble, None));
        for (trouble, since) in [unheard, unpublished].into_iter().flatten() {
            match trouble.is_refusal {
                true => membership.problems.push(trouble.text.clone()),
                false => membership.warnings.push(self.away(trouble, since)),
            }
        }
        membership
    }

    /// What lasts is known and goes on; what changes in the meantime is not heard of.
    fn away(&self, trouble: &Trouble, since: Option<Timestamp>) -> Warning {
        let server = &self.server;
        let text = match since {
            Some(since) => format!(
                "the API server {server} is away since {since:.0}: {}",
                trouble.text
            ),
            None => trouble.text.clone(),
        };
        Warning {
            about: About::Api,
            verdict: Verdict::Bad,
            text,
            remedy: format!(
                "curl -k {server}readyz says whether it answers; until it does, new and moved nodes are not reached"
            ),
        }
    }

    /// This node's CIDRs. A Node that is gone comes back when kubelet registers it again; its pods live on until then.
    fn own(&self, cidrs: Option<Vec<ipnetwork::IpNetwork>>, membership: &mut Membership) {
        let name = &self.config.node_name;
        match cidrs {
            Some(cidrs) if cidrs.is_empty() => membership.problems.push(format!(
                "Kubernetes has given the Node {name} no pod CIDR: run kube-controller-manager with --allocate-node-cidrs and --cluster-cidr"
            )),
            Some(cidrs) => match view::own_cidrs(&cidrs, self.config) {
                Ok(cidrs) => membership.own_cidrs = cidrs,
                Err(why) => {
                    membership.own_cidrs = self.last_cidrs();
                    membership.problems.push(format!("the Node {name}: {why}"));
                }
            },
            None => {
                membership.own_cidrs = self.last_cidrs();
                membership.problems.push(format!(
                    "Kubernetes has no Node {name}: is \"node_name\" the name that kubelet registers (kubectl get nodes)?"
                ));
            }
        }
    }

    /// What it had before: as this daemon was told, or an earlier one.
    fn last_cidrs(&self) -> Vec<ipnetwork::IpNetwork> {
        let told = self.out.borrow().own_cidrs.clone();
        match (&self.stored, told.is_empty()) {
            (Some(stored), true) => stored.own_cidrs.clone(),
            _ => told,
        }
    }
}

/// Whether a list is on its way after this, where that has changed.
fn is_listing(event: &Result<Event<KubeNode>, watcher::Error>) -> Option<bool> {
    match event {
        Ok(Event::Init | Event::InitApply(_)) | Err(watcher::Error::InitialListFailed(_)) => {
            Some(true)
        }
        Err(watcher::Error::WatchError(status)) if status.code == 410 => Some(true),
        Ok(Event::InitDone) => Some(false),
        _ => None,
    }
}

/// At that time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
