//! The executable itself: how soon it answers, how large it is.
use std::fs;

use lab::report::{Table, time};
use lab::{Result, find};
use serde_json::json;

use crate::side::Side;
use crate::times::Times;

const ROUNDS: usize = 200;
/// What a node with `bridge`, `host-local` and `loopback` needs of the reference.
const REFERENCE_FILES: [&str; 3] = ["bridge", "host-local", "loopback"];

pub fn table(sides: &[Side]) -> Result<Table> {
    let mut table = Table::new(&["the executable", "VERSION median", "p99", "bytes"]);
    for &side in sides {
        let plugins = side.on_new_node()?;
        let conf = json!({"cniVersion": "1.0.0", "type": "bridge"});
        let times = plugins.node().run(|| -> Result<Times> {
            let mut times = Times::default();
            for _ in 0..ROUNDS {
                times.push(side.timed("VERSION", &conf, "")?);
            }
            Ok(times)
        })?;
        let bytes: u64 = match side {
            Side::Heddle => fs::metadata(find::heddle_cni()?)?.len(),
            Side::Reference => REFERENCE_FILES
                .iter()
                .map(|name| Ok(fs::metadata(find::reference_dir().join(name))?.len()))
                .sum::<Result<u64>>()?,
        };
        table.row([
            side.name().to_owned(),
            time(times.median()),
            time(times.p99()),
            bytes.to_string(),
        ]);
    }
    Ok(table)
}
