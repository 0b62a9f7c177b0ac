//! Each plugin of the whole chain with one netlink message, answer or file operation that fails: an ADD fails and leaves
//! nothing, or succeeds whole; a DEL or GC that says it is done is done, and one that fails is done by the next.
use anyhow::{Context, ensure};
use lab::whole_chain::WholeChain;
use lab::{Call, Pod, Reply, Result, Snapshot, conf, soak};

/// What the kernel and file systems say when something is short, broken, there already or in use.
const ERRORS: [&str; 6] = ["EIO", "ENOSPC", "EEXIST", "EBUSY", "ENOBUFS", "EINTR"];

struct Scene {
    chain: WholeChain,
    pod: Pod,
    before: Snapshot,
}

impl Scene {
    fn new() -> Result<Scene> {
        let chain = WholeChain::new(conf::dual_stack())?;
        Ok(Scene {
            pod: chain.node.pod("x")?,
            before: chain.snapshot()?,
            chain,
        })
    }

    fn nothing_left(&self) -> Result {
        self.chain.snapshot()?.same_as(&self.before)?;
        self.chain.is_untouched(&self.pod)
    }

    /// Each failure of what `prepare` leads to in its turn; `judge` says what has to hold after it.
    fn each(
        &self,
        what: &str,
        prepare: impl Fn() -> Result<Call>,
        judge: impl Fn(&Reply) -> Result,
    ) -> Result {
        let traced = prepare()?.traced().send()?;
        judge(&traced)?;
        let long = soak::is_on();
        let faults = traced.trace.failures(&ERRORS, long, !long);
        let mut failed = 0;
        for fault in &faults {
            let one = || -> Result<bool> {
                let reply = prepare()?.fault(fault.clone()).send()?;
                ensure!(
                    reply.output.status.code().is_some(),
                    "it died: {:?}",
                    reply.output
                );
                judge(&reply)?;
                Ok(!reply.is_success())
            };
            failed += usize::from(one().with_context(|| format!("{what}: {fault}"))?);
        }
        soak::say(&format!(
            "{what}: {} failures injected, {failed} reported, the others made up for, nothing left",
            faults.len()
        ));
        Ok(())
    }
}

pub fn add() -> Result {
    let scene = Scene::new()?;
    let Scene { chain, pod, .. } = &scene;
    // The bridge's has a case of its own, on nodes of two kinds.
    let first = usize::from(!soak::is_on());
    for plugin in first..chain.confs.len() {
        // What the plugins before it made is made once.
        let previous = chain.add_up_to(plugin, pod)?;
        let before = chain.snapshot()?;
        let prepare = || Ok(chain.call("ADD", plugin, pod, previous.as_ref()));
        let judge = |reply: &Reply| {
            if reply.is_success() {
                let result = reply.result()?;
                let check = chain.call("CHECK", plugin, pod, Some(&result));
                check.send()?.done().context("CHECK after it")?;
                chain.call("DEL", plugin, pod, None).send()?.done()?;
            }
            chain.snapshot()?.same_as(&before)
        };
        scene.each(
            &format!("ADD of {}", chain.confs[plugin]["type"]),
            prepare,
            judge,
        )?;
        chain.del_down_from(plugin, pod, None)?;
        scene.nothing_left()?;
    }
    Ok(())
}

pub fn del() -> Result {
    let scene = Scene::new()?;
    let Scene { chain, pod, .. } = &scene;
    for plugin in 0..chain.confs.len() {
        let prepare = || chain.del_after_add(plugin, pod);
        let judge = |reply: &Reply| {
            if !reply.is_success() {
                reply.failure()?;
                chain.del(pod, None)?;
            } else {
                chain.del_down_from(plugin, pod, None)?;
            }
            scene.nothing_left()
        };
        scene.each(
            &format!("DEL of {}", chain.confs[plugin]["type"]),
            prepare,
            judge,
        )?;
    }
    Ok(())
}

/// The pod is one that no DEL ever came for.
pub fn gc() -> Result {
    let scene = Scene::new()?;
    let Scene { chain, pod, .. } = &scene;
    for plugin in 0..chain.confs.len() {
        let prepare = || {
            chain.add(pod)?;
            for earlier in 0..plugin {
                chain.gc_call(earlier, &[]).send()?.done()?;
            }
            Ok(chain.gc_call(plugin, &[]))
        };
        let judge = |reply: &Reply| {
            let first = match reply.is_success() {
                true => plugin + 1,
                false => {
                    reply.failure()?;
                    0
                }
            };
            for rest in first..chain.confs.len() {
                chain.gc_call(rest, &[]).send()?.done()?;
            }
            lab::whole_chain::reset(pod)?;
            scene.nothing_left()
        };
        scene.each(
            &format!("GC of {}", chain.confs[plugin]["type"]),
            prepare,
            judge,
        )?;
    }
    Ok(())
}
