//! What transactions make, compared with what `nft` makes of the same thing in its own language.
use netlink::nft::{
    Chain, DataMap, Element, Expr, Family, Handle, Hook, Key, Service, Set, Table, Transaction,
    Type, Value,
};

use crate::tools::*;

/// Asserts that `fill` makes the same ruleset as `nft` does of `script`.
#[track_caller]
pub fn same(script: &str, fill: impl FnOnce(&mut Transaction)) {
    commit(|transaction| {
        transaction.add_table();
        fill(transaction);
    });
    assert_eq!(listing(), listing_of(script));
}

pub fn chains_hang_where_they_should() {
    let hooks = [
        (
            "srcnat",
            Hook::SNAT_POSTROUTING,
            "nat hook postrouting priority srcnat",
        ),
        (
            "early",
            Hook::EARLY_SNAT_POSTROUTING,
            "nat hook postrouting priority srcnat - 1",
        ),
        (
            "d",
            Hook::DNAT_PREROUTING,
            "nat hook prerouting priority dstnat",
        ),
        (
            "dnat_out",
            Hook::DNAT_OUTPUT,
            "nat hook output priority -100",
        ),
        (
            "forward",
            Hook::FORWARD,
            "filter hook forward priority filter",
        ),
        (
            "raw",
            Hook::RAW_PREROUTING,
            "filter hook prerouting priority raw",
        ),
        (
            "raw_out",
            Hook::RAW_OUTPUT,
            "filter hook output priority raw",
        ),
    ];
    let chain = |(name, _, text): &(&str, Hook, &str)| {
        format!("chain {name} {{ type {text}; policy accept; }}\n")
    };
    let chains: String = hooks.iter().map(chain).collect();
    same(
        &format!("table inet t {{\n{chains}chain plain {{ }}\n}}"),
        |transaction| {
            for (name, hook, _) in hooks {
                transaction.add_chain(&Chain {
                    name,
                    hook: Some(hook),
                });
            }
            transaction.add_chain(&Chain {
                name: "plain",
                hook: None,
            });
        },
    );
}

pub fn a_bridges_table_sees_frames() {
    let table = Table {
        family: Family::Bridge,
        name: "t",
    };
    let mut transaction = Transaction::new(table);
    transaction.add_table();
    transaction.add_chain(&Chain {
        name: "c",
        hook: Some(Hook::BRIDGE_PREROUTING),
    });
    transaction.add_set(&Set {
        name: "ports",
        key: Type::InterfaceName,
        verdicts: true,
    });
    transaction.add_chain(&Chain {
        name: "pod",
        hook: None,
    });
    let mac = "02:00:00:00:00:07".parse().unwrap();
    transaction.add_rule("c", Expr::input_interface_verdict("ports"), None);
    transaction.add_rule("pod", Expr::ether_source(mac).then(Expr::return_()), None);
    transaction.add_rule("pod", Expr::drop_(), Some("the rest"));
    transaction.add_elements("ports", &[jump(Key::interface("veth0"), "pod", "one")]);
    Handle::new().unwrap().commit(&transaction).unwrap();
    let script = "table bridge t {
        map ports { type ifname : verdict; elements = { \"veth0\" comment \"one\" : jump pod } }
        chain c { type filter hook prerouting priority dstnat; policy accept; iifname vmap @ports
        }
        chain pod {
            ether saddr 02:00:00:00:00:07 return
            drop comment \"the rest\"
        }
    }";
    assert_eq!(listing(), listing_of(script));
}

pub fn services_are_translated() {
    let service = |v6, by_address| Service { v6, by_address };
    let script = "table inet t {
        map any { type inet_proto . inet_service : verdict; }
        map at4 { type ipv4_addr . inet_proto . inet_service : verdict; }
        map to4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
        map to6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
        map at6to6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
        set by { type inet_proto . inet_service . ifname; elements = { tcp . 80 . \"br0\" }; }
        set by4 { type ipv4_addr . inet_proto . inet_service . ifname; }
        set by6 { type ipv6_addr . inet_proto . inet_service . ifname; }
        chain c { type nat hook prerouting priority dstnat; policy accept;
            meta nfproto ipv4 meta l4proto . th dport vmap @any
            ip daddr . meta l4proto . th dport vmap @at4
            meta nfproto ipv4 dnat ip to meta l4proto . th dport map @to4
            meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @to6
            dnat ip6 to ip6 daddr . meta l4proto . th dport map @at6to6
            meta nfproto ipv4 meta l4proto . th dport . iifname @by accept
            ip daddr . meta l4proto . th dport . iifname @by4 accept
            ip6 daddr . meta l4proto . th dport . iifname @by6 accept
            oifname != \"lo\" accept
        }
    }";
    same(script, |transaction| {
        let verdicts = true;
        transaction.add_set(&Set {
            name: "any",
            key: Type::Service,
            verdicts,
        });
        transaction.add_set(&Set {
            name: "at4",
            key: Type::Ipv4Service,
            verdicts,
        });
        let map = |name, key, value| DataMap { name, key, value };
        transaction.add_map(&map("to4", Type::Service, Type::Ipv4Target));
        transaction.add_map(&map("to6", Type::Service, Type::Ipv6Target));
        transaction.add_map(&map("at6to6", Type::Ipv6Service, Type::Ipv6Target));
        transaction.add_chain(&Chain {
            name: "c",
            hook: Some(Hook::DNAT_PREROUTING),
        });
        let rules = [
            Expr::service_verdict(service(false, false), "any"),
            Expr::service_verdict(service(false, true), "at4"),
            Expr::service_dnat(service(false, false), "to4"),
            Expr::service_dnat(service(true, false), "to6"),
            Expr::service_dnat(service(true, true), "at6to6"),
            Expr::service_by_link(service(false, false), "by").then(Expr::accept()),
            Expr::service_by_link(service(false, true), "by4").then(Expr::accept()),
            Expr::service_by_link(service(true, true), "by6").then(Expr::accept()),
            Expr::output_interface_not("lo").then(Expr::accept()),
        ];
        for (name, key) in [
            ("by", Type::ServiceByLink),
            ("by4", Type::Ipv4ServiceByLink),
            ("by6", Type::Ipv6ServiceByLink),
        ] {
            transaction.add_set(&Set {
                name,
                key,
                verdicts: false,
            });
        }
        let key = Key::service(6, 80).by_link("br0");
        assert_eq!(key.split_link(), Some((Key::service(6, 80), "br0".into())));
        transaction.add_elements("by", &[element(key)]);
        rules
            .into_iter()
            .for_each(|rule| transaction.add_rule("c", rule, None));
    });
}

pub fn elements_of_every_type_are_written() {
    let script = "table inet t {
        set s4 { type ipv4_addr; elements = { 10.0.0.1 } }
        set s6 { type ipv6_addr; elements = { fd00::1 comment \"six\" } }
        set sif { type ifname; elements = { \"veth0123456789a\" } }
        map v6 { type ipv6_addr : verdict; elements = { fd00::2 comment \"to a pod\" : jump pod } }
        map any { type inet_proto . inet_service : verdict; elements = { tcp . 80 : jump pod } }
        map at4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;
            elements = { 192.0.2.1 . udp . 53 comment \"dns\" : 10.0.0.2 . 5353 } }
        map at6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;
            elements = { fd00::3 . tcp . 443 : fd00::4 . 8443 } }
        chain pod { }
    }";
    same(script, |transaction| {
        let set = |name, key, verdicts| Set {
            name,
            key,
            verdicts,
        };
        transaction.add_set(&set("s4", Type::Ipv4Address, false));
        transaction.add_set(&set("s6", Type::Ipv6Address, false));
        transaction.add_set(&set("sif", Type::InterfaceName, false));
        transaction.add_set(&set("v6", Type::Ipv6Address, true));
        transaction.add_set(&set("any", Type::Service, true));
        let map = |name, key, value| DataMap { name, key, value };
        transaction.add_map(&map("at4", Type::Ipv4Service, Type::Ipv4Target));
        transaction.add_map(&map("at6", Type::Ipv6Service, Type::Ipv6Target));
        transaction.add_chain(&Chain {
            name: "pod",
            hook: None,
        });
        let to = |key, target: &str, port, comment: Option<&str>| Element {
            key,
            value: Some(Value::Target(target.parse().unwrap(), port)),
            comment: comment.map(Into::into),
        };
        let ip = |text: &str| text.parse().unwrap();
        let six = Element {
            comment: Some("six".into()),
            ..element(key("fd00::1"))
        };
        let tcp80 = Element {
            comment: None,
            ..jump(Key::service(6, 80), "pod", "")
        };
        transaction.add_elements("s4", &[element(key("10.0.0.1"))]);
        transaction.add_elements("s6", &[six]);
        transaction.add_elements("sif", &[element(Key::interface("veth0123456789a"))]);
        transaction.add_elements("v6", &[jump(key("fd00::2"), "pod", "to a pod")]);
        transaction.add_elements("any", &[tcp80]);
        let dns = Key::service_at(ip("192.0.2.1"), 17, 53);
        transaction.add_elements("at4", &[to(dns, "10.0.0.2", 5353, Some("dns"))]);
        let https = Key::service_at(ip("fd00::3"), 6, 443);
        transaction.add_elements("at6", &[to(https, "fd00::4", 8443, None)]);
    });
}

pub fn comments_are_shown_up_to_their_longest() {
    let (long, umlauts) = ("x".repeat(127), "heddle/ä network/ü");
    let script = format!(
        "table inet t {{
            set s {{ type ipv4_addr; elements = {{ 10.0.0.1 comment \"{long}\" }} }}
            chain c {{
                accept comment \"{long}\"
                drop comment \"{umlauts}\"
            }}
        }}"
    );
    same(&script, |transaction| {
        transaction.add_set(&Set {
            name: "s",
            key: Type::Ipv4Address,
            verdicts: false,
        });
        transaction.add_chain(&Chain {
            name: "c",
            hook: None,
        });
        let commented = Element {
            comment: Some(long.clone()),
            ..element(key("10.0.0.1"))
        };
        transaction.add_elements("s", &[commented]);
        transaction.add_rule("c", Expr::accept(), Some(&long));
        transaction.add_rule("c", Expr::drop_(), Some(umlauts));
    });
}
