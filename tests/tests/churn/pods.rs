//! One pod and what is done to it.
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::whole_chain::WholeChain;
use lab::{Call, Pod, Result, conf};
use serde_json::{Value, json};

use crate::tally::Tally;

/// A pod that comes and goes. Every eighth has the whole chain, the others the bridge alone.
#[derive(Debug)]
pub struct Churned {
    /// The pod.
    pub pod: Pod,
    confs: Vec<Value>,
    random: u64,
}

impl Churned {
    /// A pod that nothing is attached to.
    pub fn new(chain: &WholeChain, number: usize) -> Result<Churned> {
        let mut confs = chain.confs.clone();
        if number.is_multiple_of(8) {
            confs[1]["runtimeConfig"]["portMappings"] =
                json!([{"hostPort": 20_000 + number, "containerPort": 80, "protocol": "udp"}]);
        } else {
            confs.truncate(1);
        }
        Ok(Churned {
            pod: chain.node.pod(&format!("pod{number}"))?,
            confs,
            random: 0x9e37_79b9_7f4a_7c15 ^ number as u64,
        })
    }

    /// One life: an ADD, which may be killed and made again, and a DEL in one of the ways that runtimes have.
    pub fn attach_and_detach(&mut self, chain: &WholeChain, tally: &Tally) -> Result {
        if self.one_in(8) {
            let plugin = self.below(self.confs.len() as u64) as usize;
            self.killed_add(chain, plugin, tally)?;
        }
        let begin = Instant::now();
        let result = self.add(chain, self.confs.len())?;
        tally.added(self.pod.name(), &result, begin.elapsed())?;
        tally.leaves(self.pod.name());
        self.detach(chain, &result, tally)
    }

    /// The DEL of a runtime that is not sure that there was one.
    pub fn rest(&mut self, chain: &WholeChain, tally: &Tally) -> Result {
        self.del(chain, None, false, tally)
    }

    fn detach(&mut self, chain: &WholeChain, result: &Value, tally: &Tally) -> Result {
        match self.below(6) {
            // The usual one.
            0 | 1 => self.del(chain, Some(result), false, tally),
            // The namespace is gone, and the runtime has forgotten what ADD gave.
            2 => {
                self.del(chain, None, true, tally)?;
                // It is another pod's after that.
                if self.confs.len() > 1 {
                    lab::whole_chain::reset(&self.pod)?;
                }
                Ok(())
            }
            // Two at once, then once more.
            3 => {
                let this = &*self;
                std::thread::scope(|scope| -> Result {
                    let calls =
                        [0, 1].map(|_| scope.spawn(|| this.del(chain, Some(result), false, tally)));
                    for call in calls {
                        call.join()
                            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                    }
                    Ok(())
                })?;
                self.del(chain, None, false, tally)
            }
            // Killed in the middle of one plugin.
            4 => {
                let plugin = self.below(self.confs.len() as u64) as usize;
                let after = self.moment();
                if self
                    .call(chain, "DEL", plugin, Some(result))
                    .send_and_kill(after)?
                {
                    tally.killed();
                }
                self.del(chain, Some(result), false, tally)
            }
            // The configuration has been written anew since.
            _ => {
                let mut other = Churned {
                    pod: self.pod.clone(),
                    confs: self.confs.clone(),
                    random: self.random,
                };
                other.confs[0] = conf::with(
                    other.confs[0].clone(),
                    json!({"mtu": 1300, "ipMasq": false, "macspoofchk": false, "hairpinMode": false}),
                );
                other.del(chain, Some(result), false, tally)
            }
        }
    }

    fn killed_add(&mut self, chain: &WholeChain, plugin: usize, tally: &Tally) -> Result {
        let previous = match plugin {
            0 => None,
            _ => Some(self.add(chain, plugin)?),
        };
        let after = self.moment();
        if self
            .call(chain, "ADD", plugin, previous.as_ref())
            .send_and_kill(after)?
        {
            tally.killed();
        }
        self.del(chain, None, false, tally)
    }

    fn add(&self, chain: &WholeChain, plugins: usize) -> Result<Value> {
        let mut result = Value::Null;
        for plugin in 0..plugins {
            let previous = (plugin > 0).then_some(&result);
            let reply = self.call(chain, "ADD", plugin, previous).send()?;
            result = reply.result().with_context(|| self.what("ADD", plugin))?;
        }
        Ok(result)
    }

    fn del(
        &self,
        chain: &WholeChain,
        result: Option<&Value>,
        empty: bool,
        tally: &Tally,
    ) -> Result {
        for plugin in (0..self.confs.len()).rev() {
            let mut call = self.call(chain, "DEL", plugin, result);
            if empty {
                call = call.netns("");
            }
            call.send()?
                .done()
                .with_context(|| self.what("DEL", plugin))?;
        }
        tally.deleted();
        Ok(())
    }

    fn call(&self, chain: &WholeChain, verb: &str, plugin: usize, result: Option<&Value>) -> Call {
        let conf = &self.confs[plugin];
        let conf = result.map_or_else(|| conf.clone(), |result| lab::with_prev(conf, result));
        chain.plugins.call(verb, &conf).pod(&self.pod)
    }

    fn what(&self, verb: &str, plugin: usize) -> String {
        format!(
            "{verb} of {} for {}",
            self.confs[plugin]["type"],
            self.pod.name()
        )
    }

    /// Somewhere in the life of a call.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(500 + self.below(6_000))
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    /// The next number of a xorshift generator: the same for every run.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }
}
