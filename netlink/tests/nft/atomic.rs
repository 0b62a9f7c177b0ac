//! All or nothing: refused transactions, stale ones, and what their errors say.
use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use netlink::Error;
use netlink::netns::Netns;
use netlink::nft::{Chain, Expr, Handle, Hook, Set, Transaction, Type};
use nix::errno::Errno;

use crate::sandbox::{another_netns, run};
use crate::tools::*;

const CHAIN: Chain = Chain {
    name: "c",
    hook: None,
};
const SET: Set = Set {
    name: "s",
    key: Type::Ipv4Address,
    verdicts: false,
};

fn with_chain_and_set(transaction: &mut Transaction) {
    transaction.add_table();
    transaction.add_chain(&CHAIN);
    transaction.add_set(&SET);
}

#[track_caller]
fn assert_said(error: &Error, errno: Errno, what: &str) {
    assert_eq!(error.errno(), Some(errno), "{error}");
    assert!(
        error.to_string().starts_with(&format!("cannot {what}: ")),
        "{error}"
    );
}

pub fn a_refused_transaction_changes_nothing() {
    commit(with_chain_and_set);
    let error = refused(|transaction| {
        transaction.add_rule("c", Expr::accept(), None);
        transaction.add_elements("s", &[element(key("10.0.0.1"))]);
        transaction.add_chain(&Chain {
            name: "new",
            hook: None,
        });
        transaction.add_rule("c", Expr::jump("nowhere"), None);
        transaction.add_rule("c", Expr::drop_(), None);
    });
    assert_said(&error, Errno::ENOENT, "create a rule in nftables chain c");
    assert!(error.is_not_found());
    let last = refused(|transaction| {
        transaction.add_rule("c", Expr::accept(), None);
        transaction.delete_chain("nowhere");
    });
    assert_said(&last, Errno::ENOENT, "delete nftables chain nowhere");
    let first = refused(|transaction| {
        transaction.delete_set("nowhere");
        transaction.delete_elements("s", &[element(key("10.0.0.1"))]);
    });
    assert_said(&first, Errno::ENOENT, "delete nftables set nowhere");
}

pub fn each_kind_of_refusal_names_its_object() {
    let error = refused(|transaction| transaction.add_chain(&CHAIN));
    assert_said(&error, Errno::ENOENT, "create nftables chain c");
    let error = refused(Transaction::delete_table);
    assert_said(&error, Errno::ENOENT, "delete nftables table t");
    commit(with_chain_and_set);
    let one = || [element(key("10.0.0.1"))];
    commit(|transaction| transaction.add_elements("s", &one()));
    let error = refused(|transaction| transaction.add_elements("s", &one()));
    assert_said(&error, Errno::EEXIST, "create elements in nftables set s");
    assert!(error.is_exists());
    let missing = [element(key("10.0.0.2"))];
    let error = refused(|transaction| transaction.delete_elements("s", &missing));
    assert_said(&error, Errno::ENOENT, "delete elements in nftables set s");
    commit(|transaction| {
        transaction.add_chain(&Chain {
            name: "user",
            hook: Some(Hook::FORWARD),
        });
        transaction.add_rule(
            "user",
            Expr::source_v4_in_set("s", true).then(Expr::jump("c")),
            None,
        );
    });
    let error = refused(|transaction| transaction.delete_chain("c"));
    assert_said(&error, Errno::EBUSY, "delete nftables chain c");
    assert!(error.is_busy());
    let error = refused(|transaction| transaction.delete_set("s"));
    assert_said(&error, Errno::EBUSY, "delete nftables set s");
    let error = refused(|transaction| {
        let other = Set {
            key: Type::Ipv6Address,
            ..SET
        };
        transaction.add_set(&other);
    });
    assert_said(&error, Errno::EEXIST, "create nftables set s");
}

pub fn what_is_deleted_is_gone() {
    commit(with_chain_and_set);
    commit(|transaction| {
        transaction.add_rule("c", Expr::accept(), None);
        transaction.add_elements("s", &[element(key("10.0.0.1"))]);
    });
    commit(|transaction| {
        transaction.delete_chain("c");
        transaction.delete_set("s");
    });
    assert_eq!(listing(), listing_of("table inet t { }"));
    commit(Transaction::delete_table);
    assert_eq!(listing(), "");
}

pub fn adding_again_is_no_error_and_keeps_what_is_there() {
    commit(with_chain_and_set);
    commit(|transaction| transaction.add_rule("c", Expr::accept(), None));
    let before = listing();
    commit(with_chain_and_set);
    assert_eq!(listing(), before);
    commit(|transaction| transaction.add_rule("c", Expr::drop_(), None));
    let rules = listing();
    assert!(
        rules.find("accept") < rules.find("drop"),
        "behind the others: {rules}"
    );
    commit(|_| ());
    assert_eq!(listing(), rules);
}

pub fn a_transaction_for_another_generation_is_stale() {
    let mut handle = Handle::new().unwrap();
    let generation = handle.generation().unwrap();
    assert_eq!(
        handle.generation().unwrap(),
        generation,
        "asking changes nothing"
    );
    let guarded = |generation| {
        move |transaction: &mut Transaction| {
            transaction.if_generation(generation);
            with_chain_and_set(transaction);
        }
    };
    run("nft", &["add table inet foreign"]);
    assert_ne!(handle.generation().unwrap(), generation);
    let error = refused(guarded(generation));
    assert!(
        matches!(error, Error::Stale) && error.is_busy(),
        "{error:?}"
    );
    commit(guarded(handle.generation().unwrap()));
    assert!(listing().contains("table inet t {"));
    let generation = handle.generation().unwrap();
    let error = refused(|transaction| {
        transaction.if_generation(generation);
        transaction.delete_chain("nowhere");
    });
    assert_said(&error, Errno::ENOENT, "delete nftables chain nowhere");
    assert_eq!(
        handle.generation().unwrap(),
        generation,
        "a refused one does not count"
    );
}

pub fn a_handle_speaks_to_its_own_namespace() {
    let pod = another_netns();
    let mut transaction = Transaction::new(TABLE);
    with_chain_and_set(&mut transaction);
    Handle::in_netns(&pod)
        .unwrap()
        .commit(&transaction)
        .unwrap();
    assert_eq!(listing(), "");
    assert!(pod.run(listing).unwrap().contains("chain c"));
}

pub fn more_refusals_than_the_socket_holds_are_one_error() {
    commit(with_chain_and_set);
    for count in [100, 1000, 20_000] {
        let mut transaction = Transaction::new(TABLE);
        (0..count).for_each(|number| transaction.delete_chain(&format!("nowhere{number}")));
        let here = Netns::current().unwrap();
        let (done, outcome) = mpsc::channel();
        // On a thread of its own: what is lost must not be waited for.
        thread::spawn(move || {
            let mut handle = Handle::in_netns(&here).unwrap();
            for _ in 0..3 {
                let error = handle.commit(&transaction).unwrap_err();
                let chain = handle.chain(TABLE, "c").unwrap();
                done.send((error, chain)).unwrap();
            }
        });
        for _ in 0..3 {
            let (error, chain) = outcome.recv_timeout(Duration::from_secs(20)).unwrap();
            let first = error
                .to_string()
                .starts_with("cannot delete nftables chain nowhere0: ");
            assert!(first || error.errno() == Some(Errno::ENOBUFS), "{error}");
            assert_eq!(chain.map(|chain| chain.name).as_deref(), Some("c"));
        }
    }
}

pub fn nobody_waits_until_what_was_deleted_is_freed() {
    let close = || {
        commit(with_chain_and_set);
        let mut handle = Handle::new().unwrap();
        let mut transaction = Transaction::new(TABLE);
        transaction.delete_table();
        handle.commit(&transaction).unwrap();
        let start = Instant::now();
        drop(handle);
        start.elapsed()
    };
    // A grace period takes milliseconds on any machine; the least of ten, because this one may be busy.
    let least = (0..10).map(|_| close()).min().unwrap();
    assert!(least < Duration::from_millis(2), "{least:?}");

    let sockets = || {
        let table = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        // The kernel's own has the number 0.
        let is_ours = |line: &&str| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next() == Some("12") && columns.next() != Some("0")
        };
        table.lines().filter(is_ours).count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while sockets() > 0 {
        assert!(Instant::now() < deadline, "{} sockets stay open", sockets());
        thread::sleep(Duration::from_millis(10));
    }
}
