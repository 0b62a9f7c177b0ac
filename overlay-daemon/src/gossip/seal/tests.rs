//! Tests of the seal: what is opened, what is refused, and that no bytes make it stumble.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn seal(keys: &[&str], name: &str, session: u64) -> Seal {
    let keys: Vec<Key> = keys
        .iter()
        .map(|key| Key::from_secret(key.as_bytes()))
        .collect();
    Seal::new(&keys, name.into(), session, [session as u8; 32])
}

#[test]
fn opened_once_by_whoever_has_the_key() {
    let (mut a, mut b) = (seal(&["k"], "a", 1), seal(&["k"], "b", 1));
    let datagram = a.seal(b"hello");
    assert!(!datagram.windows(5).any(|part| part == b"hello"));
    assert!(datagram.len() <= OVERHEAD + "a".len() + "hello".len());
    assert_eq!(
        b.open(datagram.clone()),
        Ok(Opened {
            sender: "a".into(),
            payload: b"hello".to_vec()
        })
    );
    assert_eq!(b.open(datagram.clone()), Err(Refused::Replay));
    assert_eq!(
        seal(&["other"], "b", 1).open(datagram.clone()),
        Err(Refused::WrongKey)
    );
    assert_eq!(a.open(datagram.clone()), Err(Refused::Replay));
    assert_eq!(
        seal(&["k"], "a", 2).open(datagram.clone()),
        Err(Refused::Replay)
    );
    assert_eq!(seal(&["k"], "a", 0).open(datagram), Err(Refused::SameName));
    assert_eq!(seal(&[], "b", 1).open(a.seal(b"x")), Err(Refused::WrongKey));
    assert_eq!(b.open(seal(&[], "a", 1).seal(b"x")), Err(Refused::Garbage));
}

#[test]
fn keys_rotate_without_a_gap() {
    let stages: [&[&str]; 4] = [&["old"], &["old", "new"], &["new", "old"], &["new"]];
    for pair in stages.windows(2) {
        for (from, to) in [(0, 1), (1, 0)] {
            let datagram = seal(pair[from], "a", 1).seal(b"x");
            assert!(seal(pair[to], "b", 1).open(datagram).is_ok(), "{pair:?}");
        }
    }
}

#[test]
fn every_altered_bit_is_noticed() {
    let datagram = seal(&["k"], "a", 1).seal(b"hello");
    for bit in 0..datagram.len() * 8 {
        let mut altered = datagram.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 8 {
            Refused::Version
        } else {
            Refused::WrongKey
        };
        assert_eq!(seal(&["k"], "b", 1).open(altered), Err(expected));
    }
    for length in 0..datagram.len() {
        assert!(
            seal(&["k"], "b", 1)
                .open(datagram[..length].to_vec())
                .is_err()
        );
    }
}

#[test]
fn a_new_session_ends_the_one_before() {
    let (mut old, mut new, mut b) = (
        seal(&["k"], "a", 5),
        seal(&["k"], "a", 6),
        seal(&["k"], "b", 1),
    );
    assert!(b.open(old.seal(b"1")).is_ok());
    let late = old.seal(b"2");
    assert!(b.open(new.seal(b"3")).is_ok());
    assert_eq!(b.open(late), Err(Refused::Ended("a".into())));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), known_version: bool) {
        let mut bytes = bytes;
        if known_version && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        prop_assert!(seal(&["k", "l"], "b", 1).open(bytes).is_err());
    }

    /// Against a model that remembers everything: nothing is accepted twice, and whatever is new and within the
    /// window is accepted.
    #[test]
    fn the_window_accepts_each_once(steps in proptest::collection::vec((0u64..3, 1u64..3000), 1..300)) {
        let mut window = Window::default();
        let (mut session, mut highest, mut seen) = (0, 0, HashSet::new());
        for (in_session, counter) in steps {
            if in_session > session {
                (session, highest) = (in_session, 0);
                seen.clear();
            }
            let fresh = in_session == session && counter + WINDOW - 64 > highest && !seen.contains(&counter);
            prop_assert_eq!(window.accept(in_session, counter), fresh);
            if in_session == session {
                highest = highest.max(counter);
                seen.insert(counter);
            }
        }
    }
}
