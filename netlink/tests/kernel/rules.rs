//! Rules by which packets are routed.
use netlink::Rule;
use nix::errno::Errno;
use serde_json::json;

use crate::tools::*;

fn rule(source: &str, table: u32) -> Rule {
    Rule {
        source: source.parse().unwrap(),
        table,
        priority: None,
        protocol: Some(176),
    }
}

pub fn they_are_made_listed_and_deleted() {
    let mut host = handle();
    let born_with = host.rules().unwrap();
    for (family, source, address, length) in [
        ("-4", "10.0.0.2/32", "10.0.0.2", 32),
        ("-6", "fd00::2/128", "fd00::2", 128),
        ("-4", "10.1.0.0/16", "10.1.0.0", 16),
    ] {
        let wanted = rule(source, 70_000);
        accept(&mut host, wanted.create());
        let shown = ip(&format!("{family} rule show"));
        let shown = shown.iter().find(|rule| rule["src"] == address).unwrap();
        assert_eq!(
            (&shown["table"], &shown["protocol"]),
            (&json!("70000"), &json!("176"))
        );
        assert_eq!(
            shown["srclen"]
                .as_u64()
                .unwrap_or(if family == "-4" { 32 } else { 128 }),
            length
        );
        let seen = host.rules().unwrap();
        let seen: Vec<_> = seen.iter().filter(|rule| rule.table == 70_000).collect();
        assert_eq!(seen.len(), 1);
        assert_eq!(
            (seen[0].source, seen[0].protocol),
            (wanted.source, wanted.protocol)
        );
        let exact = *seen[0];
        assert_refused(
            &refuse(&mut host, exact.create()),
            Errno::EEXIST,
            &format!("create rule from {source} to table 70000"),
        );
        accept(&mut host, wanted.delete());
        let error = refuse(&mut host, wanted.delete());
        assert!(error.is_not_found(), "{error}");
    }
    assert_eq!(host.rules().unwrap(), born_with);
    assert!(
        born_with
            .iter()
            .any(|rule| rule.table == 254 && rule.source.prefix() == 0)
    );
}
