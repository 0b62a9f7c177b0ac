//! Ours, the peers and the floor in turn, round by round, so that whatever else the machine does hits all of them alike.
use std::collections::BTreeMap;
use std::time::Duration;

use lab::Result;

use crate::row::{Line, Row};
use crate::side::Seat;
use crate::times::Times;

/// Times by what was timed.
#[derive(Clone, Debug, Default)]
pub struct Clock(BTreeMap<&'static str, Times>);

impl Clock {
    pub fn push(&mut self, what: &'static str, took: Duration) {
        self.0.entry(what).or_default().push(took);
    }

    fn get(&self, what: &str) -> Option<&Times> {
        self.0.get(what).filter(|times| times.len() > 0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ours,
    Peer,
    Floor,
}

struct Player<'a> {
    name: String,
    role: Role,
    play: Box<dyn FnMut(&mut Clock) -> Result + 'a>,
    clock: Clock,
}

/// Those who do the same thing in turn.
#[derive(Default)]
pub struct Duel<'a>(Vec<Player<'a>>);

impl<'a> Duel<'a> {
    /// One side's way to do it once. It runs on the side's node.
    pub fn seat(&mut self, seat: &'a Seat, play: impl Fn(&Seat, &mut Clock) -> Result + Sync + 'a) {
        let role = match seat.side.ours {
            true => Role::Ours,
            false => Role::Peer,
        };
        self.0.push(Player {
            name: seat.side.name.clone(),
            role,
            play: Box::new(move |clock| seat.plugins.node().run(|| play(seat, clock))),
            clock: Clock::default(),
        });
    }

    /// The floor's way.
    pub fn floor(&mut self, play: impl FnMut(&mut Clock) -> Result + 'a) {
        self.0.push(Player {
            name: "floor".into(),
            role: Role::Floor,
            play: Box::new(play),
            clock: Clock::default(),
        });
    }

    /// Plays one round that does not count: it makes bridges and fills caches.
    pub fn warm_up(&mut self) -> Result {
        self.run(1)?;
        for player in &mut self.0 {
            player.clock = Clock::default();
        }
        Ok(())
    }

    /// Plays so many rounds.
    pub fn run(&mut self, rounds: usize) -> Result {
        for _ in 0..rounds {
            for player in &mut self.0 {
                (player.play)(&mut player.clock)?;
            }
        }
        Ok(())
    }

    /// A row for each peer, or one for ours alone, of what was timed under `key`.
    pub fn rows(&self, id: &str, what: &str, key: &str, rank: usize) -> Vec<Row> {
        let times = |role: Role| {
            let players = self.0.iter().filter(move |player| player.role == role);
            players.filter_map(|player| Some((player.name.as_str(), player.clock.get(key)?)))
        };
        let Some((_, ours)) = times(Role::Ours).next() else {
            return Vec::new();
        };
        let mut row = Row::time(id, what, ours, rank);
        if let Some((_, floor)) = times(Role::Floor).next() {
            row = row.floor(floor.micros(rank));
        }
        row.beside(times(Role::Peer).map(|(name, times)| (name, times.micros(rank))))
    }

    /// A point for each: the median of `key`, in milliseconds, at `x`.
    pub fn points(&self, lines: &mut Vec<Line>, key: &str, x: f64) {
        for player in &self.0 {
            let Some(times) = player.clock.get(key) else {
                continue;
            };
            let point = (x, times.micros(crate::times::MEDIAN) / 1e3);
            match lines.iter_mut().find(|line| line.name == player.name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line {
                    name: player.name.clone(),
                    points: vec![point],
                }),
            }
        }
    }
}
