//! A node that starts many pods at once.
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use lab::report::{Table, time};
use lab::{Result, conf};
use serde_json::json;

use crate::side::Side;
use crate::times::ratio;

const PODS: usize = 100;
const AT_ONCE: usize = 16;

pub fn table(sides: &[Side]) -> Result<Table> {
    let mut table = Table::new(&[
        "100 pods, 16 at a time",
        "all ADDs",
        "all DELs",
        "ADDs ÷ ours",
    ]);
    let mut ours = None;
    for &side in sides {
        let [adds, dels] = measure(side)?;
        let unit = *ours.get_or_insert(adds);
        table.row([
            side.name().to_owned(),
            time(adds),
            time(dels),
            ratio(adds, unit),
        ]);
    }
    Ok(table)
}

fn measure(side: Side) -> Result<[Duration; 2]> {
    let plugins = side.on_new_node()?;
    let node = plugins.node();
    let conf = conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true}));
    let pods: Vec<String> = (0..PODS).map(|n| format!("pod{n}")).collect();
    for pod in &pods {
        node.pod(pod)?;
    }
    node.run(|| {
        let all = |verb| at_once(&pods, |pod| side.timed(verb, &conf, pod).map(drop));
        Ok([all("ADD")?, all("DEL")?])
    })
}

/// Does the work for each, so many at a time, and says how long all of it took. The caller is on the node already.
pub fn at_once<T: Sync>(items: &[T], work: impl Fn(&T) -> Result + Sync) -> Result<Duration> {
    let queue = Mutex::new(items.iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || -> Result {
            while let Some(item) = next() {
                work(item)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(start.elapsed())
}
