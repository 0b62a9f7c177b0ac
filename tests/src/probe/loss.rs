//! The loss meter: a numbered datagram every millisecond to a UDP echo, and which of them never came back.
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::udp::make_room;
use crate::{Result, Space};

/// The time between two datagrams.
const PERIOD: Duration = Duration::from_millis(1);
/// How long the meter waits for the last echoes.
const LAST_ECHO: Duration = Duration::from_millis(300);

/// A running meter. Stop it to read it.
#[derive(Debug)]
pub struct LossMeter {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<usize>,
    receiver: JoinHandle<Vec<(usize, Duration)>>,
    start: Instant,
}

/// What a meter measured.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Datagrams sent.
    pub sent: usize,
    /// Numbers of those that were never echoed, or that could not even be sent.
    pub lost: Vec<usize>,
    /// The longest time in which nothing came back.
    pub longest_gap: Duration,
}

impl LossMeter {
    /// Starts sending from a place to a [`super::UdpEcho`] at 1 kHz.
    pub fn start(space: &Space, to: SocketAddr) -> Result<LossMeter> {
        let any: SocketAddr = if to.is_ipv4() {
            "0.0.0.0:0".parse()?
        } else {
            "[::]:0".parse()?
        };
        let socket = space
            .run(|| UdpSocket::bind(any).and_then(|socket| socket.connect(to).map(|()| socket)))
            .with_context(|| format!("UDP from {} to {to}", space.name()))?;
        socket.set_read_timeout(Some(LAST_ECHO))?;
        make_room(&socket)?;
        let (echoes, start) = (socket.try_clone()?, Instant::now());
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_sending, stop_receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = thread::spawn(move || send(&socket, start, &stop_sending));
        let receiver = thread::spawn(move || receive(&echoes, start, &stop_receiving));
        Ok(LossMeter {
            stop,
            sender,
            receiver,
            start,
        })
    }

    /// Stops sending, waits for the last echoes and tells the loss.
    pub fn stop(self) -> Result<Loss> {
        self.stop.store(true, Ordering::Relaxed);
        let end = self.start.elapsed();
        let sent = self
            .sender
            .join()
            .map_err(|_| anyhow!("the sender of the loss meter panicked"))?;
        let echoed = self
            .receiver
            .join()
            .map_err(|_| anyhow!("the receiver of the loss meter panicked"))?;
        Ok(Loss::of(sent, &echoed, end))
    }
}

impl Loss {
    /// From the numbers and times of the echoes, the times counted from the start of sending.
    fn of(sent: usize, echoed: &[(usize, Duration)], end: Duration) -> Loss {
        let mut came_back = vec![false; sent];
        let (mut last, mut longest_gap) = (Duration::ZERO, Duration::ZERO);
        for (number, at) in echoed {
            if let Some(came) = came_back.get_mut(*number) {
                *came = true;
            }
            longest_gap = longest_gap.max(at.saturating_sub(last));
            last = *at;
        }
        longest_gap = longest_gap.max(end.saturating_sub(last));
        let lost = (0..sent).filter(|number| !came_back[*number]).collect();
        Loss {
            sent,
            lost,
            longest_gap,
        }
    }
}

/// Sends on schedule until told to stop; a datagram that the kernel refuses counts as sent, and so as lost.
fn send(socket: &UdpSocket, start: Instant, stop: &AtomicBool) -> usize {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let _ = socket.send(&(sent as u64).to_be_bytes());
        sent += 1;
        let due = start + PERIOD * u32::try_from(sent).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sent
}

/// Collects the echoes until none has come for a while after the stop.
fn receive(socket: &UdpSocket, start: Instant, stop: &AtomicBool) -> Vec<(usize, Duration)> {
    let (mut echoed, mut buffer) = (Vec::new(), [0; 8]);
    let mut quiet_since = Instant::now();
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => {
                echoed.push((u64::from_be_bytes(buffer) as usize, start.elapsed()));
                quiet_since = Instant::now();
            }
            _ if stop.load(Ordering::Relaxed) && quiet_since.elapsed() >= LAST_ECHO => {
                return echoed;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_never_came_back_and_the_longest_silence() {
        let ms = Duration::from_millis;
        let loss = Loss::of(5, &[(0, ms(1)), (1, ms(2)), (4, ms(9))], ms(10));
        assert_eq!(
            (loss.sent, loss.lost, loss.longest_gap),
            (5, vec![2, 3], ms(7))
        );
        assert_eq!(Loss::of(2, &[], ms(10)).longest_gap, ms(10));
    }
}
