//! A plan that follows the set of nodes: among thousands of peers one that moves changes its own rows of the plan, and no more.

use std::sync::Arc;

use super::{Desired, Touched, Way, plan};
use crate::config::Config;
use crate::local::Local;
use crate::names::vtep_gateway;
use crate::node::Node;
use crate::view::View;

/// A plan, and what it was made for.
#[derive(Clone, Debug)]
pub struct Planned {
    view: Arc<View>,
    own: Node,
    local: Local,
    desired: Desired,
    touched: Option<Touched>,
}

impl Planned {
    /// What [`plan`] gives, made from `before` where that was made for the same node, whose configuration never changes.
    pub fn follow(
        before: Option<Self>,
        view: &Arc<View>,
        own: &Node,
        local: &Local,
        config: &Config,
    ) -> Self {
        let followed = before
            .filter(|before| before.own == *own && before.local == *local)
            .and_then(|before| before.change(view, config));
        followed.unwrap_or_else(|| Self {
            view: Arc::clone(view),
            own: own.clone(),
            local: local.clone(),
            desired: plan(view, own, local, config),
            touched: None,
        })
    }

    /// The plan.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The rows in which it may differ from the plan that it follows; none where it follows none.
    pub fn touched(&self) -> Option<&Touched> {
        self.touched.as_ref()
    }

    /// Takes the peers out that are not as they were, and puts them in as they are; `None` where two of them have to do with
    /// each other.
    fn change(mut self, view: &Arc<View>, config: &Config) -> Option<Self> {
        if self.desired.is_crowded || !self.view.conflicts().eq(view.conflicts()) {
            return None;
        }
        let (gone, new) = self.view.differences(view);
        let mut all = gone.iter().chain(&new);
        if all.any(|node| view.conflict(&node.name).is_some()) {
            return None;
        }
        let is_peer = |node: &&Node| node.name != self.own.name;
        let mut touched = Touched::default();
        for node in gone.into_iter().filter(is_peer) {
            touched.take_down(node, &self.desired);
            self.desired.remove(node);
        }
        for node in new.into_iter().filter(is_peer) {
            let reach = self.desired.add(node, &self.own, &self.local, config);
            self.desired.peers.insert(node.name.clone(), reach);
            touched.take_down(node, &self.desired);
        }
        self.touched = Some(touched);
        self.view = Arc::clone(view);
        (!self.desired.is_crowded).then_some(self)
    }
}

impl Desired {
    /// Takes out what [`Desired::add`] put in for this peer, of whose addresses nobody else has any.
    fn remove(&mut self, peer: &Node) {
        self.firewall.refuse(&peer.endpoints);
        let reach = self.peers.remove(&peer.name).unwrap_or_default();
        for leads in reach.cidrs().filter_map(|cidr| self.routes.remove(cidr)) {
            // The routes of both families may lead by one.
            let hop = self.nexthops.remove(&leads.nexthop);
            if hop.is_some_and(|hop| hop.way == Way::Vxlan) {
                let mac = peer.vtep_mac.into();
                self.neighbours.remove(&vtep_gateway(mac).into());
                self.fdb.remove(&mac);
            }
        }
    }
}
