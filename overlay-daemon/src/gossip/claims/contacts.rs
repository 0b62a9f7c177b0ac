//! What the electors last said about the current attempt.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Debug)]
struct Contact {
    elector: String,
    sent: Duration,
    granted: bool,
}

/// The newest answer of each elector, by the address under which it was asked.
#[derive(Debug, Default)]
pub struct Contacts(HashMap<SocketAddr, Contact>);

impl Contacts {
    /// Forgets all answers.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes an answer to what was sent at that time, unless a newer one is known.
    pub fn answered(&mut self, address: SocketAddr, elector: &str, sent: Duration, granted: bool) {
        if self
            .0
            .get(&address)
            .is_none_or(|contact| contact.sent <= sent)
        {
            self.0.insert(
                address,
                Contact {
                    elector: elector.to_owned(),
                    sent,
                    granted,
                },
            );
        }
    }

    /// How many say that the slot is someone else's.
    pub fn denials(&self) -> usize {
        self.0.values().filter(|contact| !contact.granted).count()
    }

    /// Whether any has granted it.
    pub fn any_granted(&self) -> bool {
        self.0.values().any(|contact| contact.granted)
    }

    /// When the `k`-th newest of the claims that are granted was sent. Two addresses of one elector count once.
    pub fn confirmed_by(&self, k: usize) -> Option<Duration> {
        let mut newest: BTreeMap<&str, Duration> = BTreeMap::new();
        for contact in self.0.values().filter(|contact| contact.granted) {
            let sent = newest.entry(&contact.elector).or_default();
            *sent = contact.sent.max(*sent);
        }
        let mut sent: Vec<Duration> = newest.into_values().collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        sent.get(k.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 1))
    }

    #[test]
    fn the_kth_newest_counts() {
        let mut contacts = Contacts::default();
        assert_eq!(contacts.confirmed_by(1), None);
        contacts.answered(address(1), "a", 5 * SECOND, true);
        contacts.answered(address(2), "b", 3 * SECOND, true);
        contacts.answered(address(3), "c", 9 * SECOND, false);
        assert_eq!(contacts.confirmed_by(2), Some(3 * SECOND));
        assert_eq!(contacts.confirmed_by(3), None);
        assert_eq!(contacts.denials(), 1);
        // An answer that was overtaken changes nothing.
        contacts.answered(address(3), "c", 8 * SECOND, true);
        assert_eq!(contacts.confirmed_by(3), None);
        contacts.answered(address(3), "c", 10 * SECOND, true);
        assert_eq!(
            (contacts.confirmed_by(2), contacts.confirmed_by(3)),
            (Some(5 * SECOND), Some(3 * SECOND))
        );
    }

    #[test]
    fn one_elector_under_two_addresses_is_one() {
        let mut contacts = Contacts::default();
        contacts.answered(address(1), "a", SECOND, true);
        contacts.answered(address(2), "a", SECOND, true);
        assert_eq!(
            (contacts.confirmed_by(1), contacts.confirmed_by(2)),
            (Some(SECOND), None)
        );
    }
}
