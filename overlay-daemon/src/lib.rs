//! The overlay: nodes that find each other, and the kernel state that carries pod traffic between them.
//!
//! [`daemon`] is the entry: it joins the membership source ([`membership`]) to the [`reconciler`], whose pure heart is
//! [`plan`] (what the kernel should hold) and [`diff`] (how to get there from what it holds).

pub mod calls;
pub mod check;
pub mod cleanup;
pub mod client;
pub mod config;
pub mod conflist;
pub mod daemon;
pub mod diff;
pub mod doctor;
pub mod drops;
pub mod events;
mod far;
pub mod fast_path;
pub mod firewall;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gc;
pub mod gossip;
pub mod health;
pub mod http;
pub mod install;
pub mod local;
pub mod membership;
#[cfg(test)]
mod messages;
pub mod metrics;
pub mod names;
mod networks;
pub mod node;
pub mod observe;
mod page;
pub mod plan;
mod pods;
pub mod probe;
pub mod reconciler;
pub mod report;
mod runtime;
#[cfg(test)]
mod schemas;
pub mod status;
mod system;
mod ticks;
pub mod trace;
pub mod view;

pub use node::Node;
