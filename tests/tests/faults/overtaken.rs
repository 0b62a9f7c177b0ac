//! Calls whose nftables transactions are always overtaken: between each look at the ruleset's generation and what follows, it
//! changes.
use anyhow::ensure;
use lab::inspect::{ruleset, sh};
use lab::whole_chain::{WholeChain, reset};
use lab::{Call, Pod, Result, conf};

/// So often at the least, or the call was not overtaken to the end of its patience.
const TRIES: usize = 20;

/// Makes a call and changes the ruleset whenever it has asked for the generation; how often that was.
fn overtaken(chain: &WholeChain, call: &Call) -> Result<usize> {
    let mut asked = 0;
    let reply = call.send_stopping("sendto", |line| {
        if line.contains("NFT_MSG_GETGEN") {
            asked += 1;
            let verb = if asked % 2 == 1 { "add" } else { "delete" };
            sh(
                chain.node.space(),
                &format!("nft {verb} table inet somebody"),
            )?;
        }
        Ok(())
    })?;
    if asked % 2 == 1 {
        sh(chain.node.space(), "nft delete table inet somebody")?;
    }
    reply.done()?;
    Ok(asked)
}

/// All that names a pod in the ruleset.
fn rows(chain: &WholeChain, pod: &Pod) -> Result<Vec<String>> {
    let rules = ruleset(chain.node.space())?;
    let of = format!("/{}/", pod.name());
    let rows = rules.lines().filter(|line| line.contains(&of));
    Ok(rows.map(str::to_owned).collect())
}

/// Then it deletes element by element, and says that it is done because it is; GC takes the rest.
pub fn del() -> Result {
    let chain = WholeChain::new(conf::dual_stack())?;
    let before = chain.snapshot()?;
    let pod = chain.node.pod("x")?;
    let mut patient = Vec::new();
    for plugin in (0..chain.confs.len()).rev() {
        let call = chain.del_after_add(plugin, &pod)?;
        let had = rows(&chain, &pod)?.len();
        let asked = overtaken(&chain, &call)?;
        chain.del_down_from(plugin, &pod, None)?;
        let left = rows(&chain, &pod)?;
        let kind = &chain.confs[plugin]["type"];
        ensure!(left.is_empty(), "{kind} left {left:#?} of {had} rows");
        if asked >= TRIES {
            patient.push(kind.as_str().unwrap_or_default());
        }
        chain.gc(&[])?;
        reset(&pod)?;
        chain.snapshot()?.same_as(&before)?;
    }
    ensure!(
        patient == ["firewall", "portmap", "bridge"],
        "overtaken: {patient:?}"
    );
    Ok(())
}
