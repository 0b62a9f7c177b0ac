//! What is read of tables: chains and rules.
use netlink::nft::{Chain, ChainInfo, Expr, Family, Handle, Hook, RuleInfo, Table};

use crate::sandbox::run;
use crate::tools::*;

/// Another table of the same name, and others of the same family.
fn foreign() {
    run(
        "nft",
        &[
            "table bridge t { chain theirs { accept comment \"theirs\"; }; }
        table inet tt { chain theirs { drop; }; chain c { drop comment \"theirs\"; }; }
        table ip t { chain theirs { drop; }; }",
        ],
    );
}

fn make() -> Handle {
    foreign();
    commit(|transaction| {
        transaction.add_table();
        transaction.add_chain(&Chain {
            name: "c",
            hook: None,
        });
        transaction.add_chain(&Chain {
            name: "base",
            hook: Some(Hook::FORWARD),
        });
        transaction.add_rule("base", Expr::jump("c"), Some("first"));
        transaction.add_rule("base", Expr::jump("c"), None);
        transaction.add_rule("c", Expr::drop_(), Some("in c: ä"));
        transaction.add_rule("base", Expr::accept(), Some("last"));
    });
    Handle::new().unwrap()
}

fn info(name: &str, uses: u32, base: bool) -> ChainInfo {
    ChainInfo {
        drops: false,
        name: name.into(),
        uses,
        base,
    }
}

/// As iptables-nft leaves a policy of DROP.
pub fn a_chain_that_drops_says_so() {
    run(
        "nft",
        &[
            "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }
        table ip filter { chain INPUT { type filter hook input priority 0; policy accept; }; }",
        ],
    );
    let mut handle = Handle::new().unwrap();
    let table = Table {
        family: Family::Ipv4,
        name: "filter",
    };
    let drops = |handle: &mut Handle, name| handle.chain(table, name).unwrap().unwrap().drops;
    assert!(drops(&mut handle, "FORWARD"));
    assert!(!drops(&mut handle, "INPUT"));
}

pub fn chains_are_those_of_the_table() {
    let mut handle = make();
    let mut chains = handle.chains(TABLE).unwrap();
    chains.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = chains
        .iter()
        .map(|chain| (chain.name.as_str(), chain.base))
        .collect();
    assert_eq!(names, [("base", true), ("c", false)]);
    assert_eq!(handle.chain(TABLE, "c").unwrap(), Some(info("c", 3, false)));
    assert_eq!(
        handle.chain(TABLE, "base").unwrap(),
        Some(info("base", 3, true))
    );
    assert_eq!(handle.chain(TABLE, "theirs").unwrap(), None);
    let elsewhere = Table {
        name: "elsewhere",
        ..TABLE
    };
    assert_eq!(handle.chains(elsewhere).unwrap(), []);
    assert_eq!(handle.chain(elsewhere, "c").unwrap(), None);
    let bridge = Table {
        family: Family::Bridge,
        ..TABLE
    };
    assert_eq!(handle.chains(bridge).unwrap(), [info("theirs", 1, false)]);
}

pub fn uses_are_rules_and_jumps() {
    let mut handle = make();
    run("nft", &["add map inet t m { type ipv4_addr : verdict; }"]);
    run(
        "nft",
        &["add element inet t m { 10.0.0.1 : jump c, 10.0.0.2 : goto c }"],
    );
    assert_eq!(handle.chain(TABLE, "c").unwrap(), Some(info("c", 5, false)));
    run("nft", &["flush chain inet t base"]);
    assert_eq!(handle.chain(TABLE, "c").unwrap(), Some(info("c", 3, false)));
}

pub fn rules_come_in_their_order_with_comments() {
    let mut handle = make();
    let rule = |chain: &str, comment: Option<&str>| RuleInfo {
        chain: chain.into(),
        comment: comment.map(Into::into),
    };
    let rules = handle.rules(TABLE).unwrap();
    let of_base: Vec<_> = rules
        .iter()
        .filter(|rule| rule.chain == "base")
        .cloned()
        .collect();
    assert_eq!(
        of_base,
        [
            rule("base", Some("first")),
            rule("base", None),
            rule("base", Some("last"))
        ]
    );
    assert_eq!(rules.len(), 4, "{rules:?}");
    assert!(rules.contains(&rule("c", Some("in c: ä"))));
    let shown = objects("rule")
        .into_iter()
        .filter(|rule| rule["family"] == "inet");
    let shown: Vec<_> = shown.filter(|rule| rule["table"] == "t").collect();
    assert_eq!(shown.len(), 4);
    for (ours, theirs) in rules.iter().zip(&shown) {
        assert_eq!(theirs["chain"], *ours.chain);
        assert_eq!(theirs["comment"].as_str(), ours.comment.as_deref());
    }
    let bridge = Table {
        family: Family::Bridge,
        ..TABLE
    };
    assert_eq!(
        handle.rules(bridge).unwrap(),
        [rule("theirs", Some("theirs"))]
    );
    assert_eq!(
        handle
            .rules(Table {
                name: "elsewhere",
                ..TABLE
            })
            .unwrap(),
        []
    );
}

pub fn a_thousand_rules_and_chains_are_listed() {
    let mut handle = Handle::new().unwrap();
    commit(|transaction| {
        transaction.add_table();
        for number in 0..1000 {
            let name = format!("chain{number}");
            transaction.add_chain(&Chain {
                name: &name,
                hook: None,
            });
            transaction.add_rule(&name, Expr::accept(), Some(&name));
        }
    });
    assert_eq!(objects("chain").len(), 1000);
    assert_eq!(handle.chains(TABLE).unwrap().len(), 1000);
    let rules = handle.rules(TABLE).unwrap();
    assert_eq!(rules.len(), 1000);
    assert!(
        rules
            .iter()
            .all(|rule| rule.comment.as_deref() == Some(&*rule.chain))
    );
}

/// Other programs' rules, with whatever expressions: where they jump to, and which addresses they are about.
pub fn rules_of_others_are_recognised() {
    run(
        "nft",
        &["table inet t { chain c { }; chain base {
            meta l4proto tcp th dport { 80, 81 } counter jump c comment \"theirs\"
            ip saddr 10.1.2.3 tcp dport 53 accept
            ip6 daddr fd00::5 drop; }; }"],
    );
    let rules = Handle::new().unwrap().rule_handles(TABLE, "base").unwrap();
    let jumps: Vec<_> = rules.iter().map(|rule| rule.jump.as_deref()).collect();
    assert_eq!(jumps, [Some("c"), None, None]);
    assert_eq!(rules[0].comment.as_deref(), Some("theirs"));
    let about = |address: &str| {
        let bytes = match address.parse().unwrap() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let found = rules.iter().map(|rule| rule.values.contains(&bytes));
        found.collect::<Vec<_>>()
    };
    assert_eq!(about("10.1.2.3"), [false, true, false]);
    assert_eq!(about("fd00::5"), [false, false, true]);
    assert_eq!(about("10.1.2.4"), [false; 3]);
}
