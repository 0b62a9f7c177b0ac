//! What a packet between pods of two nodes costs. Both ends, and with them everything that the kernel does in between, run on
//! one CPU: a round trip and a byte then cost what the whole path costs, whatever else a machine of few cores does.
mod crowded;
mod ways;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::{Result, Space};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use self::ways::Ways;
use crate::row::{Findings, Row};
use crate::times::{MEDIAN, Times};
use crate::{flanneld, progress};

const ROUNDS: usize = 9;
/// Round trips in a round, after as many that do not count.
const TURNS: usize = 2000;
/// Connections in a round.
const CONNECTIONS: usize = 300;
/// For which a stream flows in a round, after as long that does not count.
const STREAM: Duration = Duration::from_millis(250);
/// Streams at the same time.
const MANY: usize = 8;
/// What both sides of a stream write and read at once, in bytes.
const CHUNK: usize = 128 << 10;
/// Long enough for anything but a loss.
const PATIENCE: Duration = Duration::from_secs(2);

/// A way between two places.
struct Way {
    name: &'static str,
    from: Space,
    to: Space,
    address: IpAddr,
}

/// One of the figures of a way.
type Figure = fn(&Figures) -> f64;

/// What was measured of a way.
#[derive(Default)]
struct Figures {
    udp: Times,
    tcp: Times,
    connect: Times,
    gigabits: Vec<f64>,
    together: Vec<f64>,
}

/// Ours, what its rows' ids begin with, what it is, and whom it is held against.
const SIDES: [(&str, &str, &str, &[&str]); 4] = [
    (
        ways::SLOW,
        "packet",
        "between pods of two nodes",
        &[ways::FLANNEL, ways::BY_HAND],
    ),
    (
        ways::FAST,
        "packet.fast_path",
        "the same with fast_path = true",
        &[ways::FLANNEL, ways::BY_HAND],
    ),
    (
        ways::DIRECT,
        "packet.direct",
        "between pods of two nodes without VXLAN",
        &[ways::FLANNEL],
    ),
    (
        ways::NEAR,
        "packet.near",
        "between pods of one node",
        &[ways::NEAR_FLANNEL],
    ),
];

pub fn run() -> Result<Findings> {
    let mut ways = Ways::new()?;
    let mut figures: Vec<Figures> = ways.all.iter().map(|_| Figures::default()).collect();
    for round in 1..=ROUNDS {
        progress(&format!("packet: round {round} of {ROUNDS}"));
        for (way, figures) in ways.all.iter().zip(&mut figures) {
            way.measure(figures).with_context(|| way.name)?;
        }
    }
    let crowded = crowded::run(&ways)?;
    ways.stop()?;
    let named: Vec<(&str, &Figures)> = ways.all.iter().map(|way| way.name).zip(&figures).collect();
    let mut findings = Findings::default();
    if flanneld::name().is_none() {
        let why = format!("flannel's data path is made by hand: {}", flanneld::MISSING);
        findings.skipped.push(why);
    }
    for (ours, id, what, peers) in SIDES {
        let measures: [(&str, &str, &str, Figure); 7] = [
            ("udp.p50", "UDP round trip", "µs", |of| {
                of.udp.micros(MEDIAN)
            }),
            ("udp.p99", "UDP round trip, p99", "µs", |of| {
                of.udp.micros(99)
            }),
            ("tcp.p50", "TCP round trip", "µs", |of| {
                of.tcp.micros(MEDIAN)
            }),
            ("tcp.p99", "TCP round trip, p99", "µs", |of| {
                of.tcp.micros(99)
            }),
            (
                "crr.p50",
                "TCP connection with one round trip",
                "µs",
                |of| of.connect.micros(MEDIAN),
            ),
            ("stream", "one TCP stream", "Gbit/s", |of| {
                median(&of.gigabits)
            }),
            ("streams", "eight TCP streams", "Gbit/s", |of| {
                median(&of.together)
            }),
        ];
        for (measure, title, unit, figure) in measures {
            let of = |wanted: &str| {
                let found = named.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, figures)| figure(figures))
            };
            let peers = peers.iter().filter_map(|name| Some((*name, of(name)?)));
            let mut row = Row::new(
                format!("{id}.{measure}"),
                format!("{title} {what}"),
                unit,
                of(ours).context(ours)?,
            )
            .runs(ROUNDS);
            if let Some(floor) = of(ways::HOSTS) {
                row = row.floor(floor);
            }
            findings.rows.extend(row.beside(peers));
        }
    }
    findings.extend(crowded);
    Ok(findings)
}

impl Way {
    fn measure(&self, figures: &mut Figures) -> Result {
        self.udp(&mut figures.udp)?;
        self.tcp(&mut figures.tcp)?;
        self.connections(&mut figures.connect)?;
        figures.gigabits.push(self.streams(1)?);
        figures.together.push(self.streams(MANY)?);
        Ok(())
    }

    /// 64 bytes there and back.
    fn udp(&self, times: &mut Times) -> Result {
        let echo = self.to.run(|| UdpSocket::bind((self.address, 0)))?;
        let address = echo.local_addr()?;
        let echoing = self.far_end(move || -> std::io::Result<()> {
            let mut bytes = [0; 64];
            loop {
                match echo.recv_from(&mut bytes)? {
                    (0, _) => return Ok(()),
                    (length, from) => echo.send_to(&bytes[..length], from)?,
                };
            }
        });
        let any: SocketAddr = ([0; 4], 0).into();
        self.near_end(|| -> Result {
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut bytes = [1; 64];
            for turn in 0..2 * TURNS {
                let start = Instant::now();
                socket.send(&bytes)?;
                socket.recv(&mut bytes)?;
                if turn >= TURNS {
                    times.push(start.elapsed());
                }
            }
            socket.send(&[]).map(drop).map_err(Into::into)
        })?;
        joined(echoing)
    }

    /// A byte there and back on one connection.
    fn tcp(&self, times: &mut Times) -> Result {
        let (address, echoing) = self.echo_connections(1)?;
        self.near_end(|| -> Result {
            let mut stream = connect(address)?;
            for turn in 0..2 * TURNS {
                let start = Instant::now();
                exchange(&mut stream)?;
                if turn >= TURNS {
                    times.push(start.elapsed());
                }
            }
            Ok(())
        })?;
        joined(echoing)
    }

    /// A connection for each byte there and back.
    fn connections(&self, times: &mut Times) -> Result {
        let (address, echoing) = self.echo_connections(CONNECTIONS)?;
        self.near_end(|| -> Result {
            for _ in 0..CONNECTIONS {
                let start = Instant::now();
                exchange(&mut connect(address)?)?;
                times.push(start.elapsed());
            }
            Ok(())
        })?;
        joined(echoing)
    }

    /// Gbit in a second of so many streams.
    fn streams(&self, count: usize) -> Result<f64> {
        let listener = self.to.run(|| TcpListener::bind((self.address, 0)))?;
        let address = listener.local_addr()?;
        let sending: Vec<_> = (0..count)
            .map(|_| {
                self.from.spawn(move || -> Result {
                    pin()?;
                    let mut stream = connect(address)?;
                    let bytes = vec![0; CHUNK];
                    // Until the other end has seen enough and closes.
                    while stream.write_all(&bytes).is_ok() {}
                    Ok(())
                })
            })
            .collect();
        let receiving = (0..count).map(|_| {
            let (stream, _) = listener.accept()?;
            Ok(self.far_end(move || received(stream)))
        });
        let receiving: Vec<_> = receiving.collect::<Result<_>>()?;
        let rates = receiving.into_iter().map(joined);
        let rate = rates.sum::<Result<f64>>()?;
        for thread in sending {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(rate)
    }

    fn echo_connections(
        &self,
        count: usize,
    ) -> Result<(SocketAddr, JoinHandle<std::io::Result<()>>)> {
        let listener = self.to.run(|| TcpListener::bind((self.address, 0)))?;
        let address = listener.local_addr()?;
        let echoing = self.far_end(move || {
            for _ in 0..count {
                let (mut stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let mut byte = [0];
                while stream.read(&mut byte)? == 1 {
                    stream.write_all(&byte)?;
                }
            }
            Ok(())
        });
        Ok((address, echoing))
    }

    fn near_end<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.from.run(|| {
            pin()?;
            f()
        })
    }

    fn far_end<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> JoinHandle<std::io::Result<T>> {
        self.to.spawn(|| {
            pin()?;
            f()
        })
    }
}

/// Gbit in a second of one stream, once it has flowed for a while.
fn received(mut stream: TcpStream) -> std::io::Result<f64> {
    let (mut bytes, mut received, start) = (vec![0; CHUNK], 0, Instant::now());
    let mut begun = None;
    loop {
        let length = stream.read(&mut bytes)?;
        match begun {
            None if start.elapsed() > STREAM => begun = Some(Instant::now()),
            Some(begun) if length == 0 || begun.elapsed() > STREAM => {
                return Ok(received as f64 * 8.0 / 1e9 / begun.elapsed().as_secs_f64());
            }
            Some(_) => received += length,
            None => {}
        }
    }
}

/// Keeps the calling thread on the last CPU; what the kernel does for its packets happens there too.
pub fn pin() -> std::io::Result<()> {
    let count = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(count - 1)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])
}

fn joined<T>(thread: JoinHandle<std::io::Result<T>>) -> Result<T> {
    let ended = thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(ended?)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
