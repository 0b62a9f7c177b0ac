//! The executable itself: how soon it answers, how large it is.
use std::fs;

use lab::{Result, find};
use serde_json::json;

use crate::duel::Duel;
use crate::progress;
use crate::row::{Findings, Row};
use crate::side::{Seat, Side};
use crate::times::MEDIAN;

const ROUNDS: usize = 200;
/// What a node with `bridge`, `host-local` and `loopback` needs of the reference.
const REFERENCE_FILES: [&str; 3] = ["bridge", "host-local", "loopback"];

pub fn run(sides: &[Side]) -> Result<Findings> {
    progress("start: VERSION");
    let seats: Vec<Seat> = sides.iter().map(Side::on_new_node).collect::<Result<_>>()?;
    let conf = json!({"cniVersion": "1.0.0", "type": "bridge"});
    let mut duel = Duel::default();
    for seat in &seats {
        duel.seat(seat, |seat, clock| {
            clock.push("VERSION", seat.side.timed("VERSION", &conf, "")?);
            Ok(())
        });
    }
    duel.warm_up()?;
    duel.run(ROUNDS)?;
    let mut rows = duel.rows(
        "start.version",
        "VERSION: from fork to exit",
        "VERSION",
        MEDIAN,
    );
    let bytes = |side: &Side| -> Result<f64> {
        let files = match side.ours {
            true => vec![find::heddle_cni()?],
            false => REFERENCE_FILES
                .iter()
                .map(|name| side.directory().join(name))
                .collect(),
        };
        let sizes = files
            .iter()
            .map(|file| Ok(fs::metadata(file)?.len() as f64));
        sizes.sum()
    };
    let sizes: Vec<f64> = sides.iter().map(bytes).collect::<Result<_>>()?;
    let what = "size of bridge, host-local and loopback (ours: of all plugins)";
    let peers = sides.iter().zip(&sizes).skip(1);
    rows.extend(
        Row::new("start.size", what, "bytes", sizes[0])
            .beside(peers.map(|(side, size)| (side.name.as_str(), *size))),
    );
    Ok(Findings {
        rows,
        ..Findings::default()
    })
}
