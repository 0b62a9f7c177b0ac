//! In which order a node tries the slots.

use crate::gossip::records::name_hash;

/// A walk through all slots, begun and paced by a hash of the name.
pub struct Order {
    first: u64,
    step: u64,
    slots: u64,
}

impl Order {
    /// `None` without slots.
    pub fn new(name: &str, slots: u64) -> Option<Self> {
        let hash = name_hash(name);
        let first = (hash >> 32).checked_rem(slots)?;
        let mut step = 1 + (hash & 0xffff_ffff) % slots;
        while gcd(step, slots) != 1 {
            step += 1;
        }
        Some(Self { first, step, slots })
    }

    /// The slot at that position of the walk; the first `slots` positions cover all of them.
    pub fn slot(&self, position: u64) -> u32 {
        // Both factors are below 2³³, and the result is below `slots`, a u32.
        ((self.first + position * self.step) % self.slots) as u32
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_every_slot_once_and_differs_by_name() {
        for slots in [1, 2, 3, 7, 64, 256, 1000] {
            for name in ["a", "node-1", "node-2"] {
                let order = Order::new(name, slots).unwrap();
                let mut all: Vec<u32> = (0..slots).map(|position| order.slot(position)).collect();
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..slots as u32), "{name} {slots}");
            }
        }
        assert!(Order::new("a", 0).is_none());
        let firsts: std::collections::BTreeSet<u32> = (0..100)
            .filter_map(|n| Order::new(&format!("node-{n}"), 1 << 16))
            .map(|order| order.slot(0))
            .collect();
        assert!(firsts.len() >= 98);
    }

    #[test]
    fn the_largest_range_does_not_overflow() {
        let slots = u64::from(u32::MAX);
        let order = Order::new("a", slots).unwrap();
        assert!(u64::from(order.slot(slots - 1)) < slots);
    }
}
