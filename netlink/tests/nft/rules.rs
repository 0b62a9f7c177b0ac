//! What rules say, compared with what `nft` makes of the same rules in its own language.
use ipnetwork::IpNetwork;
use netlink::nft::{Chain, Expr, Family, Handle, Hook, Set, Table, Transaction, Type};

use crate::text::same;
use crate::tools::*;

/// Asserts that each rule is the same as `nft`'s of the text beside it, in a table with the chain, sets and maps that
/// rules refer to.
#[track_caller]
fn same_rules(rules: Vec<(&str, Expr)>) {
    let texts: Vec<_> = rules.iter().map(|(text, _)| *text).collect();
    let script = format!(
        "table inet t {{
            set s4 {{ type ipv4_addr; }}
            set s6 {{ type ipv6_addr; }}
            set sif {{ type ifname; }}
            map v4 {{ type ipv4_addr : verdict; }}
            map v6 {{ type ipv6_addr : verdict; }}
            map vif {{ type ifname : verdict; }}
            chain other {{ }}
            chain c {{ type nat hook prerouting priority dstnat; policy accept;\n{}\n}}
            chain p {{ type nat hook postrouting priority srcnat; policy accept; }}
        }}",
        texts.join("\n")
    );
    same(&script, |transaction| {
        for (name, key, verdicts) in [
            ("s4", Type::Ipv4Address, false),
            ("s6", Type::Ipv6Address, false),
            ("sif", Type::InterfaceName, false),
            ("v4", Type::Ipv4Address, true),
            ("v6", Type::Ipv6Address, true),
            ("vif", Type::InterfaceName, true),
        ] {
            transaction.add_set(&Set {
                name,
                key,
                verdicts,
            });
        }
        transaction.add_chain(&Chain {
            name: "other",
            hook: None,
        });
        transaction.add_chain(&Chain {
            name: "c",
            hook: Some(Hook::DNAT_PREROUTING),
        });
        transaction.add_chain(&Chain {
            name: "p",
            hook: Some(Hook::SNAT_POSTROUTING),
        });
        for (_, rule) in rules {
            transaction.add_rule("c", rule, None);
        }
    });
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub fn addresses_are_matched() {
    same_rules(vec![
        (
            "ip saddr 10.0.0.0/24 return",
            Expr::source_in(net("10.0.0.7/24")).then(Expr::return_()),
        ),
        (
            "ip daddr 10.0.0.0/23 accept",
            Expr::destination_in(net("10.0.0.0/23")).then(Expr::accept()),
        ),
        (
            "ip6 saddr fd00::/64 drop",
            Expr::source_in(net("fd00::/64")).then(Expr::drop_()),
        ),
        (
            "ip6 daddr fd00::/61 drop",
            Expr::destination_in(net("fd00::/61")).then(Expr::drop_()),
        ),
        (
            "ip saddr 10.1.0.0/16 drop",
            Expr::source(net("10.1.0.0/16"), true).then(Expr::drop_()),
        ),
        (
            "ip saddr != 10.1.0.0/16 drop",
            Expr::source(net("10.1.0.0/16"), false).then(Expr::drop_()),
        ),
        (
            "ip daddr 10.1.0.0/17 drop",
            Expr::destination(net("10.1.0.0/17"), true).then(Expr::drop_()),
        ),
        (
            "ip6 daddr != fd01::/48 drop",
            Expr::destination(net("fd01::/48"), false).then(Expr::drop_()),
        ),
        (
            "ip saddr 10.0.0.0/24 ip daddr != 224.0.0.0/4 accept",
            Expr::source_in(net("10.0.0.0/24"))
                .then(Expr::destination(net("224.0.0.0/4"), false))
                .then(Expr::accept()),
        ),
    ]);
}

pub fn networks_of_every_length_are_matched() {
    let v4 = (1..=32).map(|length| format!("170.85.170.85/{length}"));
    let v6 = (1..=128).map(|length| format!("aaaa:5555:aaaa:5555:aaaa:5555:aaaa:5555/{length}"));
    let networks: Vec<IpNetwork> = v4.chain(v6).map(|text| net(&text)).collect();
    let text = |network: &IpNetwork| {
        let family = if network.is_ipv4() { "ip" } else { "ip6" };
        format!(
            "{family} saddr {}/{} drop",
            network.network(),
            network.prefix()
        )
    };
    let texts: Vec<_> = networks.iter().map(text).collect();
    let rule = |network: &IpNetwork| Expr::source_in(*network).then(Expr::drop_());
    same_rules(
        texts
            .iter()
            .map(String::as_str)
            .zip(networks.iter().map(rule))
            .collect(),
    );
}

pub fn sets_and_maps_are_looked_up() {
    same_rules(vec![
        ("ip saddr vmap @v4", Expr::source_v4_verdict("v4")),
        ("ip6 saddr vmap @v6", Expr::source_v6_verdict("v6")),
        ("iifname vmap @vif", Expr::input_interface_verdict("vif")),
        (
            "ip saddr @s4 drop",
            Expr::source_v4_in_set("s4", true).then(Expr::drop_()),
        ),
        (
            "ip saddr != @s4 drop",
            Expr::source_v4_in_set("s4", false).then(Expr::drop_()),
        ),
        (
            "ip6 saddr @s6 drop",
            Expr::source_v6_in_set("s6", true).then(Expr::drop_()),
        ),
        (
            "ip6 saddr != @s6 drop",
            Expr::source_v6_in_set("s6", false).then(Expr::drop_()),
        ),
        (
            "iifname @sif drop",
            Expr::input_interface_in_set("sif").then(Expr::drop_()),
        ),
    ]);
}

pub fn what_is_known_of_a_packet_is_matched() {
    same_rules(vec![
        (
            "udp dport 8472 accept",
            Expr::udp_destination_port(8472).then(Expr::accept()),
        ),
        (
            "oifname \"eth0\" accept",
            Expr::output_interface("eth0").then(Expr::accept()),
        ),
        (
            "iifname \"eth0\" accept",
            Expr::input_interface("eth0", true).then(Expr::accept()),
        ),
        (
            "iifname != \"eth0\" accept",
            Expr::input_interface("eth0", false).then(Expr::accept()),
        ),
        (
            "fib daddr type local accept",
            Expr::for_this_host().then(Expr::accept()),
        ),
        (
            "th sport 53 accept",
            Expr::source_port(53, true).then(Expr::accept()),
        ),
        (
            "th sport != 53 accept",
            Expr::source_port(53, false).then(Expr::accept()),
        ),
        (
            "meta mark 0x00002000 accept",
            Expr::mark(0x2000, true).then(Expr::accept()),
        ),
        (
            "meta mark != 0x00002000 accept",
            Expr::mark(0x2000, false).then(Expr::accept()),
        ),
        (
            "meta mark & 0x00002000 == 0x00002000 accept",
            Expr::has_mark(0x2000).then(Expr::accept()),
        ),
        (
            "ct state established,related accept",
            Expr::connection_is_known().then(Expr::accept()),
        ),
        (
            "ct status dnat accept",
            Expr::connection_has_dnat().then(Expr::accept()),
        ),
        (
            "ct state established accept",
            Expr::connection_is_established().then(Expr::accept()),
        ),
        (
            "ct status ! snat,dnat accept",
            Expr::connection_has_no_nat().then(Expr::accept()),
        ),
    ]);
}

pub fn what_happens_is_said() {
    same_rules(vec![
        ("return", Expr::return_()),
        (
            "meta mark set meta mark | 0x00004000",
            Expr::add_mark(0x4000),
        ),
        ("jump other", Expr::jump("other")),
        ("goto other", Expr::goto("other")),
        ("accept", Expr::accept()),
        ("drop", Expr::drop_()),
    ]);
    let script = "table inet n {
        chain p { type nat hook postrouting priority srcnat; policy accept; masquerade
        }
        chain r { type filter hook prerouting priority raw; policy accept; notrack
        }
        chain o { type filter hook output priority raw; policy accept; udp dport 8472 notrack
        }
    }";
    let expected = listing_of(script);
    let mut transaction = Transaction::new(Table {
        family: Family::Inet,
        name: "n",
    });
    transaction.add_table();
    transaction.add_chain(&Chain {
        name: "p",
        hook: Some(Hook::SNAT_POSTROUTING),
    });
    transaction.add_chain(&Chain {
        name: "r",
        hook: Some(Hook::RAW_PREROUTING),
    });
    transaction.add_chain(&Chain {
        name: "o",
        hook: Some(Hook::RAW_OUTPUT),
    });
    transaction.add_rule("p", Expr::masquerade(), None);
    transaction.add_rule("r", Expr::notrack(), None);
    transaction.add_rule(
        "o",
        Expr::udp_destination_port(8472).then(Expr::notrack()),
        None,
    );
    commit(Transaction::delete_table);
    Handle::new().unwrap().commit(&transaction).unwrap();
    assert_eq!(listing(), expected);
}
