//! `heddle trace --live`: marked packets are seen on every link, or up to where a stranger's rule drops them.
use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, Snapshot, wait};
use serde_json::Value;

use super::{PATIENCE, only_mark, trace};

/// The links of the way, and whether packets were seen there.
fn links(trace: &Value) -> Vec<(String, bool)> {
    let hops = trace["hops"].as_array().into_iter().flatten();
    let seen = hops.filter_map(|hop| Some((hop["object"].as_str()?, hop["seen"].as_bool()?)));
    seen.map(|(object, seen)| (object.to_owned(), seen))
        .collect()
}

fn snapshot(member: &Member) -> Result<Snapshot> {
    Ok(Snapshot::of(member.node.space())?.without(&["/run/heddle", "/run/netns"]))
}

pub fn each() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let member = &cluster.members[0];
    let beside = member.add_pod("beside")?;
    let address = |index: usize, family: usize| pods[index].addresses[family].to_string();
    let before = snapshot(member)?;

    for family in [0, 1] {
        let own = address(0, family);
        let ways = [
            (own.clone(), address(2, family), 5),
            (own.clone(), address(1, family), 4),
            (own.clone(), beside.addresses[family].to_string(), 4),
            ("node".to_owned(), own, 3),
        ];
        for (from, to, count) in ways {
            wait::until(PATIENCE, "marks on every link", || {
                let (good, trace) = trace(member, &from, &format!("{to} --live"))?;
                let links = links(&trace);
                let is_whole = links.len() == count && links.iter().all(|(_, seen)| *seen);
                ensure!(
                    good && is_whole && trace["live"]["is_answered"] == true,
                    "{from} -> {to}: {trace:#}"
                );
                Ok(())
            })?;
        }
    }
    snapshot(member)?.same_as(&before)?;

    // Rules of strangers, which the kernel's state as such does not tell.
    let strange = "nft 'table inet strange { chain drops { type filter hook forward priority 7; ip daddr 10.32.3.0/24 drop; }; }'";
    sh(member.node.space(), strange)?;
    let (own, far) = (address(0, 0), address(2, 0));
    let (good, _) = trace(member, &own, &far)?;
    ensure!(good, "nothing is known of the rule without packets");
    let (good, trace) = trace(member, &own, &format!("{far} --live"))?;
    let only = only_mark(&trace)?;
    let reason = only["problem"]["reason"].as_str().unwrap_or_default();
    ensure!(
        !good
            && only["object"] == "vxlan vxlan.heddle"
            && reason.contains("seen at bridge cbr0 and not here")
            && trace["live"]["is_answered"] == false,
        "{trace:#}"
    );
    Ok(())
}
