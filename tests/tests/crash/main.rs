//! The whole chain killed with SIGKILL: ADD, DEL and GC of each plugin, at each system call in its turn. After the
//! runtime's usual next step nothing is left, and an ADD works at once.
//!
//! Here the kills are those before which something has changed; `HEDDLE_SOAK` is for all of them, and for more nodes.
use std::process::ExitCode;

use anyhow::Context;
use lab::whole_chain::{NEEDS, WholeChain};
use lab::{Call, Case, Need, Pod, Result, Snapshot, conf};
use serde_json::Value;

fn main() -> ExitCode {
    let case = |name, body| {
        Case::new(name, body)
            .needs(NEEDS)
            .needs([Need::Program("strace")])
    };
    lab::main([
        case("killed_in_add", killed_in_add),
        case("killed_in_del", killed_in_del),
        case("killed_in_gc", killed_in_gc),
    ])
}

/// A node, the pod that calls are killed for, and what the node was before it.
struct Scene {
    chain: WholeChain,
    pod: Pod,
    /// A pod that has been there all the time, and its result.
    stays: Option<(Pod, Value)>,
    before: Snapshot,
}

impl Scene {
    fn new(beside: bool) -> Result<Scene> {
        let chain = WholeChain::new(conf::dual_stack())?;
        let stays = if beside {
            let pod = chain.node.pod("stays")?;
            // Its host ports are others.
            let mut other = chain.clone();
            other.confs[1]["runtimeConfig"]["portMappings"] = serde_json::json!([
                {"hostPort": 9090, "containerPort": 80, "protocol": "udp"}
            ]);
            let result = other.add(&pod)?;
            Some((pod, result))
        } else {
            None
        };
        Ok(Scene {
            pod: chain.node.pod("x")?,
            before: chain.snapshot()?,
            stays,
            chain,
        })
    }

    /// Nothing of the pod is left, the other one is whole.
    fn nothing_left(&self) -> Result {
        self.chain.snapshot()?.same_as(&self.before)?;
        self.chain.is_untouched(&self.pod)
    }

    /// An ADD works at once, with addresses that nobody else has, and can be taken back.
    fn works_at_once(&self) -> Result {
        let result = self.chain.add(&self.pod).context("the ADD after it")?;
        self.chain.check(&self.pod, &result)?;
        if let Some((_, other)) = &self.stays {
            anyhow::ensure!(
                result["ips"][0] != other["ips"][0] && result["ips"][1] != other["ips"][1],
                "an address was given twice: {result}"
            );
        }
        self.chain.del(&self.pod, Some(&result))
    }
}

/// Both kinds of nodes in the long version, the quieter one first; in the short one that where most is made and taken down.
fn scenes() -> Result<Vec<Scene>> {
    let long = lab::soak::is_on();
    let kinds = if long { &[true, false][..] } else { &[false] };
    kinds.iter().map(|beside| Scene::new(*beside)).collect()
}

/// Kills the call at each step, after `prepare`; `heal` is what the runtime does next.
fn each_kill(
    scene: &Scene,
    what: &str,
    prepare: impl Fn() -> Result<Call>,
    heal: impl Fn() -> Result,
) -> Result {
    let traced = prepare()?.traced().send()?;
    traced.done()?;
    heal()?;
    let kills = traced.trace.kills(!lab::soak::is_on());
    let mut reached = 0;
    for kill in &kills {
        let mut one = || -> Result {
            let reply = prepare()?.fault(kill.clone()).send()?;
            reached += usize::from(!reply.is_success());
            heal().context("what the runtime does next")?;
            scene.nothing_left()?;
            scene.works_at_once()
        };
        one().with_context(|| format!("{what} {kill}"))?;
    }
    lab::soak::say(&format!(
        "{what}: {} system calls, killed at {reached} of {}, nothing left",
        traced.trace.names().count(),
        kills.len()
    ));
    // A call or two depends on how long something takes; a plugin that cannot be killed is no test.
    anyhow::ensure!(
        reached * 10 >= kills.len() * 9,
        "{what}: only {reached} of {} kills",
        kills.len()
    );
    Ok(())
}

fn killed_in_add() -> Result {
    for scene in scenes()? {
        let Scene { chain, pod, .. } = &scene;
        for plugin in 0..chain.confs.len() {
            let prepare = || {
                let previous = chain.add_up_to(plugin, pod)?;
                Ok(chain.call("ADD", plugin, pod, previous.as_ref()))
            };
            let what = format!("ADD of {}", chain.confs[plugin]["type"]);
            each_kill(&scene, &what, prepare, || chain.del(pod, None))?;
        }
    }
    Ok(())
}

fn killed_in_del() -> Result {
    for scene in scenes()? {
        let Scene { chain, pod, .. } = &scene;
        for plugin in 0..chain.confs.len() {
            let prepare = || chain.del_after_add(plugin, pod);
            let what = format!("DEL of {}", chain.confs[plugin]["type"]);
            each_kill(&scene, &what, prepare, || chain.del(pod, None))?;
        }
    }
    Ok(())
}

/// The pod is one that no DEL ever came for.
fn killed_in_gc() -> Result {
    for scene in scenes()? {
        let Scene {
            chain, pod, stays, ..
        } = &scene;
        let valid: Vec<&str> = stays.iter().map(|(pod, _)| pod.name()).collect();
        for plugin in 0..chain.confs.len() {
            let prepare = || {
                chain.add(pod)?;
                for earlier in 0..plugin {
                    chain.gc_call(earlier, &valid).send()?.done()?;
                }
                Ok(chain.gc_call(plugin, &valid))
            };
            let what = format!("GC of {}", chain.confs[plugin]["type"]);
            // What GC cannot put back in the pod goes with the pod: here the sysctl.
            let heal = || {
                chain.gc(&valid)?;
                lab::whole_chain::reset(pod)
            };
            each_kill(&scene, &what, prepare, heal)?;
        }
    }
    Ok(())
}
