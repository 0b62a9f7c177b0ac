//! kube-proxy's rules as `iptables-save` prints them (kubernetes: `pkg/proxy/iptables/proxier.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::{CHAIN, Port, Rules};

const MASQUERADE: &str = "KUBE-MARK-MASQ";

/// What matters of one rule.
#[derive(Debug, Default)]
struct Rule {
    dst: Option<IpAddr>,
    has_source: bool,
    protocol: Option<String>,
    port: Option<u16>,
    comment: String,
    target: String,
    to: Option<SocketAddr>,
}

/// Rules by table and chain.
type Chains = BTreeMap<(String, String), Vec<Rule>>;

/// Reads what one of the programs printed.
pub(super) fn rules(text: &str, form: &'static str) -> Rules {
    let chains = parse(text);
    let in_chain = |table: &str, chain: &str| {
        let key = (table.to_owned(), chain.to_owned());
        chains.get(&key).map_or(&[][..], Vec::as_slice)
    };
    let enters = |chain: &str| {
        in_chain("nat", chain)
            .iter()
            .any(|rule| rule.target == CHAIN)
    };
    let mut rules = Rules {
        form,
        is_entered: [enters("PREROUTING"), enters("OUTPUT")],
        ..Rules::default()
    };
    for rule in in_chain("nat", CHAIN) {
        if rule.target != MASQUERADE {
            rules.ports.extend(port(rule, destinations(&chains, rule)));
        }
    }
    // A port without endpoints stands among what is refused.
    for rule in in_chain("filter", CHAIN) {
        if rule.comment.contains("has no endpoints") {
            rules.ports.extend(port(rule, Vec::new()));
        }
    }
    let nat = chains.iter().filter(|((table, _), _)| table == "nat");
    for rule in nat.flat_map(|(_, rules)| rules) {
        let leads = rules
            .ports
            .iter()
            .any(|port| Some(port.address) == rule.dst);
        rules.dangling.extend(rule.dst.filter(|_| !leads));
        rules.masquerades_all |=
            rule.target == MASQUERADE && rule.dst.is_some() && !rule.has_source;
    }
    rules
}

fn port(rule: &Rule, backends: Vec<SocketAddr>) -> Option<Port> {
    Some(Port {
        name: rule
            .comment
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
        address: rule.dst?,
        port: rule.port?,
        protocol: rule.protocol.clone()?,
        backends,
    })
}

/// The destinations that a rule leads to, by as many chains as there are: without recursion, for nobody promises that they
/// are few.
fn destinations(chains: &Chains, rule: &Rule) -> Vec<SocketAddr> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting = vec![rule];
    while let Some(rule) = waiting.pop() {
        match rule.to {
            Some(to) if !found.contains(&to) => found.push(to),
            None if rule.target.starts_with("KUBE-") && seen.insert(&rule.target) => {
                let next = chains.get(&("nat".to_owned(), rule.target.clone()));
                waiting.extend(next.into_iter().flatten().rev());
            }
            _ => {}
        }
    }
    found
}

fn parse(text: &str) -> Chains {
    let (mut table, mut chains) = (String::new(), Chains::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let mut words = words(rule).into_iter();
            let chain = words.next().unwrap_or_default();
            let rule = self::rule(words);
            chains.entry((table.clone(), chain)).or_default().push(rule);
        }
    }
    chains
}

fn rule(mut words: impl Iterator<Item = String>) -> Rule {
    let (mut rule, mut is_not) = (Rule::default(), false);
    while let Some(word) = words.next() {
        let option = word.as_str();
        if option == "!" {
            is_not = true;
            continue;
        }
        let mut value = || words.next().unwrap_or_default();
        match option {
            "-d" => {
                let network: Option<IpNetwork> = value().parse().ok();
                let host = network.filter(|network| matches!(network.prefix(), 32 | 128));
                rule.dst = host.map(|host| host.ip()).filter(|_| !is_not);
            }
            "-s" => {
                rule.has_source = true;
                value();
            }
            "-p" => rule.protocol = Some(value()),
            "--dport" => rule.port = value().parse().ok(),
            "--comment" => rule.comment = value(),
            "-j" | "-g" => rule.target = value(),
            "--to-destination" => rule.to = value().parse().ok(),
            _ => {}
        }
        is_not = false;
    }
    rule
}

/// The words of a line, of which some stand in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}
