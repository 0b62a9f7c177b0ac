//! An API server that says what cannot be, or nothing, or more than anybody can follow.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::kubernetes::{self, Answer, Liar};
use lab::overlay::Member;
use lab::{Fabric, Result, wait};
use serde_json::{Value, json};

/// Until the API server is asked again, at most, and a moment for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn node(number: usize, endpoint: &str, cidr: &str) -> (String, Value) {
    kubernetes::node(&format!("node-{number}"), endpoint, cidr)
}

fn honest(number: usize, side: usize) -> (String, Value) {
    let endpoint = match number {
        0 => "192.0.1.11".to_owned(),
        _ => format!("198.{}.0.{number}", 18 + side),
    };
    node(number, &endpoint, &format!("10.32.{number}.0/24"))
}

fn truth(nodes: usize) -> BTreeMap<String, Value> {
    (0..nodes).map(|number| honest(number, 0)).collect()
}

fn lab(api: &Answer) -> Result<(Fabric, Liar, Member)> {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let (liar, mut member) = Liar::with_member(&fabric, "node-0", 11, api.clone())?;
    member.start()?;
    Ok((fabric, liar, member))
}

/// Destinations of our routes, and where our FDB leads.
fn rows(member: &Member) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let routes = sh(
        member.node.space(),
        "ip route show protocol 176 | cut -d ' ' -f 1",
    )?;
    let fdb = sh(
        member.node.space(),
        "bridge fdb show dev vxlan.heddle | sed -n 's/.* dst \\([^ ]*\\) .*/\\1/p'",
    )?;
    let set = |text: &str| text.lines().map(str::to_owned).collect();
    Ok((set(&routes), set(&fdb)))
}

fn wait_rows(member: &Member, wanted: &(BTreeSet<String>, BTreeSet<String>)) -> Result<Duration> {
    let start = Instant::now();
    wait::until(PATIENCE, "rows as they should be", || {
        let now = rows(member)?;
        ensure!(
            now == *wanted,
            "{} of {} routes, {} of {} FDB rows",
            now.0.len(),
            wanted.0.len(),
            now.1.len(),
            wanted.1.len()
        );
        Ok(())
    })
    .with_context(|| member.log())?;
    Ok(start.elapsed())
}

fn wanted(nodes: usize, side: impl Fn(usize) -> usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let routes = (1..nodes).map(|number| format!("10.32.{number}.0/24"));
    let fdb = (1..nodes).map(|number| format!("198.{}.0.{number}", 18 + side(number)));
    (routes.collect(), fdb.collect())
}

pub fn lies() -> Result {
    const NODES: usize = 10;
    let honest = Answer::Nodes(truth(NODES));
    let (_fabric, liar, member) = lab(&honest)?;
    let wanted = wanted(NODES, |_| 0);
    wait_rows(&member, &wanted)?;
    let default = sh(
        member.node.space(),
        "ip route show default; ip route show 192.0.1.0/24",
    )?;
    let with = |changes: Vec<(String, Value)>| {
        let mut nodes = truth(NODES);
        nodes.extend(changes);
        Answer::Nodes(nodes)
    };
    let half = |key: &'static str| {
        let mut nodes = truth(NODES);
        for node in nodes.values_mut() {
            node.as_object_mut().unwrap().remove(key);
        }
        Answer::Nodes(nodes)
    };
    let mut wrong_types = truth(NODES);
    wrong_types.get_mut("node-3").unwrap()["spec"] =
        json!({"podCIDR": 5, "podCIDRs": {"a": [null]}});
    let lies = vec![
        node(1, "198.18.0.1", "0.0.0.0/0"),
        node(2, "198.18.0.2", "192.0.1.0/24"),
        node(3, "127.0.0.1", "10.32.3.0/24"),
        node(4, "192.0.1.11", "10.32.4.0/24"),
        node(5, "10.32.5.5", "10.32.5.0/24"),
        node(6, "224.0.0.1,0.0.0.0", "10.32.6.0/24"),
        node(7, "198.18.0.7", "10.32.0.0/16"),
        node(8, "198.18.0.8", "10.32.0.128/25"),
        node(0, "192.0.1.11", "0.0.0.0/0"),
    ];
    // What is said, and whether all rows have to stay meanwhile.
    let cases = [
        ("no answer", Answer::Silence, true),
        ("refusals", Answer::Refusal(500), true),
        ("no rights", Answer::Refusal(403), true),
        (
            "nonsense",
            Answer::Text("<html>Bad Gateway</html>".into()),
            true,
        ),
        (
            "half of a list",
            Answer::Text("{\"kind\":\"NodeList\",\"items\":[{\"metadata\":".into()),
            true,
        ),
        (
            "another kind",
            Answer::Text("{\"kind\":\"Status\",\"code\":200}".into()),
            true,
        ),
        ("wrong types", Answer::Nodes(wrong_types), true),
        ("an empty list", Answer::Nodes(BTreeMap::new()), true),
        ("half Nodes", half("spec"), false),
        (
            "Nodes without a word of the daemons",
            half("metadata"),
            false,
        ),
        ("lies", with(lies), false),
    ];
    for (what, answer, all) in cases {
        liar.answer(answer);
        wait::until(PATIENCE, "a list that was asked for", || {
            ensure!(liar.lists() > 0, "{what}");
            Ok(())
        })?;
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(250));
            let now = rows(&member)?;
            ensure!(!all || now == wanted, "{what}: rows are gone: {now:?}");
            ensure!(
                now.0.is_subset(&wanted.0) && now.1.is_subset(&wanted.1),
                "{what}: {now:?}"
            );
            let now = sh(
                member.node.space(),
                "ip route show default; ip route show 192.0.1.0/24",
            )?;
            ensure!(now == default, "{what}: {now}");
        }
        member.pid().context(what)?;
        liar.answer(honest.clone());
        let start = Instant::now();
        wait::until(PATIENCE, "a watch", || {
            ensure!(liar.watches() == 1, "{}", member.log());
            Ok(())
        })
        .context(what)?;
        wait_rows(&member, &wanted).context(what)?;
        let took = start.elapsed();
        println!(
            "{what}: the truth again {:.1} s after it was told",
            took.as_secs_f64()
        );
    }
    member.wait_for("readiness", |status| {
        status["ready"] == true || status["problems"] == json!([])
    })?;
    Ok(())
}

/// 200 Nodes whose addresses change, 5,000 times a second in all.
pub fn storm() -> Result {
    const NODES: usize = 200;
    let seconds = crate::seconds(4);
    let (_fabric, liar, member) = lab(&Answer::Nodes(truth(NODES)))?;
    wait_rows(&member, &wanted(NODES, |_| 0))?;
    wait::until(PATIENCE, "a watch", || {
        ensure!(liar.watches() == 1, "none");
        Ok(())
    })?;
    let passes = |member: &Member| -> Result<u64> {
        Ok(member.status()?["passes"].as_u64().unwrap_or_default())
    };
    let (before, memory) = (passes(&member)?, member.memory()?);
    let start = Instant::now();
    let (mut number, mut sent) = (0, 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let due = usize::try_from(start.elapsed().as_millis())? * 5;
        let mut changed = Vec::new();
        while sent < due {
            number = number % (NODES - 1) + 1;
            sent += 1;
            changed.push(honest(number, sent / 199 % 2));
        }
        liar.modify(changed);
        std::thread::sleep(Duration::from_millis(20));
    }
    // What is true at the end.
    liar.modify(
        (1..NODES)
            .map(|number| honest(number, number % 2))
            .collect(),
    );
    let during = passes(&member)? - before;
    let took = wait_rows(&member, &wanted(NODES, |number| number % 2))?;
    println!(
        "{sent} updates in {seconds} s: {during} passes, the last state in the kernel {} ms later, memory {memory:.1} to {:.1} MB",
        took.as_millis(),
        member.peak_memory()?,
    );
    ensure!(took < Duration::from_secs(3), "{took:?}");
    // Of either kind, for a new input and for the kernel's events, at most one in 50 ms.
    ensure!(during <= 40 * seconds + 20, "{during} passes");
    ensure!(
        member.peak_memory()? < memory + 20.0,
        "{:.1} MB",
        member.peak_memory()?
    );
    Ok(())
}
