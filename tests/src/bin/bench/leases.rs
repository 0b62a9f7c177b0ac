//! ADD beside many leases: what an allocator costs when the node is full.
use lab::report::{Table, time};
use lab::{Result, conf};
use serde_json::json;

use crate::side::Side;
use crate::times::{Times, ratio};

const ROUNDS: usize = 30;
const LEASES: [u16; 3] = [10, 1_000, 10_000];

pub fn table(sides: &[Side]) -> Result<Table> {
    let mut table = Table::new(&["ADD, leases on the node", "10", "1 000", "10 000", "growth"]);
    for &side in sides {
        let medians: Vec<_> = LEASES
            .iter()
            .map(|&leases| Ok(measure(side, leases)?.median()))
            .collect::<Result<_>>()?;
        let mut cells = vec![side.name().to_owned()];
        cells.extend(medians.iter().map(|&median| time(median)));
        if let (Some(&least), Some(&most)) = (medians.first(), medians.last()) {
            cells.push(ratio(most, least));
        }
        table.row(cells);
    }
    Ok(table)
}

fn measure(side: Side, leases: u16) -> Result<Times> {
    let plugins = side.on_new_node()?;
    plugins.node().pod("pod")?;
    let conf = conf::bridge(json!({
        "cniVersion": "1.0.0", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]]},
    }));
    lab::leases::fill(plugins.node(), leases)?;
    plugins.node().run(|| {
        let mut times = Times::default();
        for round in 0..=ROUNDS {
            let took = side.timed("ADD", &conf, "pod")?;
            side.timed("DEL", &conf, "pod")?;
            // The first makes the bridge and reads what another plugin left.
            if round > 0 {
                times.push(took);
            }
        }
        Ok(times)
    })
}
