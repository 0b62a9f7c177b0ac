//! The overlay: nodes that find each other, and the kernel state that carries pod traffic between them.

pub mod gossip;
pub mod node;

pub use node::Node;
