//! The asking side: through the overlay and over the underlay at once, so that what is answered tells the two apart.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand::TryRng;
use rand::rngs::SysRng;

use super::{Question, Told};

/// How long each try waits; twice the peer's round trip comes on top. People wait for all of them where nobody answers.
const TRIES: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(120)];

/// Two addresses of one node each: by which to ask, and whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// This node's own.
    pub own: IpAddr,
    /// The other node's.
    pub other: IpAddr,
}

/// What one way has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    #[default]
    Silence,
    /// The other node's kernel says that nobody listens.
    NoDaemon,
    /// The daemon's answer.
    Told(Told),
}

/// Asks by each way, from the calling thread's network namespace, and waits for all of them, but not for long. `rtt` is
/// the round trip that is to be expected.
pub fn ask<const N: usize>(
    ways: [Option<Ends>; N],
    port: u16,
    question: &Question,
    rtt: Duration,
) -> [Answer; N] {
    let number = SysRng.try_next_u64().unwrap_or_default();
    let bytes = question.encode(number);
    let sockets = ways.map(|ends| open(ends?, port));
    let mut answers = [Answer::Silence; N];
    for patience in TRIES {
        for (socket, answer) in sockets.iter().zip(&answers) {
            if let (Some(socket), Answer::Silence) = (socket, answer) {
                // What cannot be sent is not answered either.
                let _ = socket.send(&bytes);
            }
        }
        let until = Instant::now() + rtt * 2 + patience;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let waiting = sockets.iter().zip(&answers);
            let silent = waiting.filter(|(_, answer)| **answer == Answer::Silence);
            let mut polled: Vec<PollFd> = silent
                .filter_map(|(socket, _)| {
                    Some(PollFd::new(socket.as_ref()?.as_fd(), PollFlags::POLLIN))
                })
                .collect();
            if polled.is_empty() {
                return answers;
            }
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if poll(&mut polled, left).is_err() {
                break;
            }
            for (socket, answer) in sockets.iter().zip(&mut answers) {
                if let (Some(socket), Answer::Silence) = (socket, &answer) {
                    *answer = read(socket, number);
                }
            }
        }
    }
    answers
}

fn open(ends: Ends, port: u16) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((ends.own, 0)).ok()?;
    socket.connect(SocketAddr::new(ends.other, port)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

fn read(socket: &UdpSocket, number: u64) -> Answer {
    let mut bytes = [0; super::LENGTH];
    match socket.recv(&mut bytes) {
        Ok(length) => Told::decode(&bytes[..length], number).map_or(Answer::Silence, Answer::Told),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Answer::NoDaemon,
        Err(_) => Answer::Silence,
    }
}
