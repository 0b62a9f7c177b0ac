//! Tests of the owner: what makes a claim usable, for how long, and which answers do not count.
#![allow(clippy::unwrap_used)]

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn electors() -> Vec<SocketAddr> {
    (1..=3)
        .map(|n| SocketAddr::from(([10, 0, 0, n], 1)))
        .collect()
}

fn owner(inherited: Option<Inherited>) -> Owner {
    let setup = Setup {
        name: "a".into(),
        instance: 1,
        session: 9,
        electors: electors(),
        slots: 4,
        quarantine: 24 * HOUR,
    };
    Owner::new(setup, 0, inherited, 1, Duration::ZERO)
}

/// Runs the timers until something is sent; returns what the first elector is asked, and when.
fn asked(owner: &mut Owner) -> (ClaimRequest, Duration) {
    for _ in 0..100 {
        let now = owner.next_tick();
        let sent = owner.tick(Taken::new, now);
        if let Some((_, Message::Claim(claim))) = sent.into_iter().next() {
            return (claim, now);
        }
    }
    unreachable!("it asks nobody")
}

fn answer(
    owner: &mut Owner,
    elector: usize,
    of: &ClaimRequest,
    granted: bool,
    now: Duration,
) -> Sends {
    let of = ClaimRequest {
        elector: electors()[elector],
        ..of.clone()
    };
    owner.answered(&format!("elector-{elector}"), &of, granted, now)
}

/// An owner that two electors have granted a slot.
fn holder() -> (Owner, ClaimRequest, Duration) {
    let mut owner = owner(None);
    let (claim, now) = asked(&mut owner);
    answer(&mut owner, 0, &claim, true, now);
    assert!(!owner.may_hand_out(now));
    answer(&mut owner, 0, &claim, true, now);
    assert!(!owner.may_hand_out(now), "one elector twice");
    answer(&mut owner, 1, &claim, true, now);
    assert_eq!(owner.state(now), ClaimState::Held { slot: claim.slot });
    assert!(owner.take_dirty());
    (owner, claim, now)
}

#[test]
fn usable_for_half_the_quarantine_after_the_majority_was_asked() {
    let (mut owner, claim, asked_at) = holder();
    let half = asked_at + 12 * HOUR;
    assert!(owner.may_hand_out(half));
    assert!(!owner.may_hand_out(half + Duration::from_micros(1)));
    // An answer counts from when the claim was sent, however late it comes; one elector is no majority.
    let later = asked_at + 13 * HOUR;
    owner.tick(Taken::new, later);
    let why = Fence::NoMajority;
    assert_eq!(
        owner.state(later),
        ClaimState::Fenced {
            slot: claim.slot,
            since: later,
            why
        }
    );
    answer(&mut owner, 0, &claim, true, later);
    answer(&mut owner, 1, &claim, true, later);
    assert!(!owner.may_hand_out(later));
    let again = ClaimRequest {
        sent: later.as_micros() as u64,
        ..claim.clone()
    };
    answer(&mut owner, 0, &again, true, later);
    assert!(!owner.may_hand_out(later));
    answer(&mut owner, 2, &again, true, later);
    assert_eq!(owner.state(later), ClaimState::Held { slot: claim.slot });
}

#[test]
fn answers_to_something_else_do_not_count() {
    let mut owner = owner(None);
    let (claim, now) = asked(&mut owner);
    for wrong in [
        ClaimRequest {
            attempt: claim.attempt - 1,
            ..claim.clone()
        },
        ClaimRequest {
            slot: claim.slot + 1,
            ..claim.clone()
        },
        ClaimRequest {
            session: 8,
            ..claim.clone()
        },
        ClaimRequest {
            instance: 2,
            ..claim.clone()
        },
        ClaimRequest {
            owner: "b".into(),
            ..claim.clone()
        },
        ClaimRequest {
            sent: claim.sent + 1,
            ..claim.clone()
        },
    ] {
        (0..3).for_each(|elector| drop(answer(&mut owner, elector, &wrong, true, now)));
        assert!(!owner.may_hand_out(now), "{wrong:?}");
    }
    let stranger = ClaimRequest {
        elector: ([10, 0, 0, 9], 1).into(),
        ..claim.clone()
    };
    owner.answered("x", &stranger, true, now);
    answer(&mut owner, 0, &claim, true, now);
    assert!(!owner.may_hand_out(now));
}

#[test]
fn a_split_vote_is_given_back_and_the_next_slot_tried() {
    let mut owner = owner(None);
    let (claim, now) = asked(&mut owner);
    answer(&mut owner, 0, &claim, true, now);
    answer(&mut owner, 1, &claim, false, now);
    let sent = answer(&mut owner, 2, &claim, false, now);
    let release = Message::Release {
        instance: 1,
        slot: claim.slot,
        attempt: claim.attempt,
    };
    assert_eq!(
        sent,
        electors()
            .into_iter()
            .map(|to| (to, release.clone()))
            .collect::<Sends>()
    );
    // What had been granted before does not count any more.
    answer(&mut owner, 1, &claim, true, now);
    assert!(!owner.may_hand_out(now));
    let (next, _) = asked(&mut owner);
    assert_ne!(next.slot, claim.slot);
    assert_eq!(next.attempt, claim.attempt + 1);
}

#[test]
fn all_denied_is_exhausted_and_a_denied_holder_has_lost() {
    let (mut owner, claim, now) = holder();
    let again = ClaimRequest {
        sent: now.as_micros() as u64,
        ..claim
    };
    answer(&mut owner, 1, &again, false, now);
    answer(&mut owner, 2, &again, false, now);
    assert!(!owner.may_hand_out(now));
    assert_eq!((owner.claim(), owner.take_dirty()), (None, true));
    for _ in 0..4 {
        let (claim, now) = asked(&mut owner);
        (0..2).for_each(|elector| drop(answer(&mut owner, elector, &claim, false, now)));
    }
    let now = owner.next_tick();
    assert!(owner.tick(Taken::new, now).is_empty());
    assert_eq!(owner.state(now), ClaimState::Exhausted);
    asked(&mut owner);
}

#[test]
fn slots_of_nodes_that_are_there_are_not_asked_for() {
    let mut owner = owner(None);
    let taken = || Taken::from([(0, true), (1, false), (2, true), (3, true)]);
    let now = owner.next_tick();
    let sent = owner.tick(taken, now);
    assert!(matches!(&sent[0].1, Message::Claim(claim) if claim.slot == 1));
}

#[test]
fn after_a_restart_the_age_decides() {
    let claim = Claim {
        slot: 2,
        attempt: 5,
    };
    let held = owner(Some(Inherited {
        claim,
        age: Ok(5 * HOUR),
    }));
    assert!(held.may_hand_out(HOUR) && !held.may_hand_out(HOUR + Duration::from_micros(1)));
    for (age, why) in [
        (Ok(7 * HOUR), Fence::Restarted),
        (Err(Fence::ElectorsChanged), Fence::ElectorsChanged),
    ] {
        let mut fenced = owner(Some(Inherited { claim, age }));
        let now = Duration::ZERO;
        assert_eq!(
            fenced.state(now),
            ClaimState::Fenced {
                slot: 2,
                since: now,
                why
            }
        );
        let (again, now) = asked(&mut fenced);
        assert_eq!((again.slot, again.attempt), (2, 5));
        (0..2).for_each(|elector| drop(answer(&mut fenced, elector, &again, true, now)));
        assert_eq!(fenced.state(now), ClaimState::Held { slot: 2 });
    }
    let outside = owner(Some(Inherited {
        claim: Claim {
            slot: 4,
            attempt: 5,
        },
        age: Ok(HOUR),
    }));
    assert_eq!(outside.claim(), None);
}
