//! UDP: an echo server.
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use nix::sys::socket::{setsockopt, sockopt};

use crate::{Result, Space};

/// How often a quiet server looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Room for what comes while a busy machine has no time for a probe, in bytes: more than a second at 1 kHz.
const ROOM: usize = 4 << 20;

/// Gives a socket [`ROOM`], so that a datagram that got there is none that got lost.
pub(super) fn make_room(socket: &UdpSocket) -> Result {
    setsockopt(socket, sockopt::RcvBufForce, &ROOM).context("a socket's room")
}

/// A UDP server in a place that sends every datagram back. It stops when dropped.
#[derive(Debug)]
pub struct UdpEcho {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Listens on an address; port 0 takes a free one.
    pub fn start(space: &Space, address: SocketAddr) -> Result<UdpEcho> {
        let socket = space
            .run(|| UdpSocket::bind(address))
            .with_context(|| format!("listening on {address} in {}", space.name()))?;
        socket.set_read_timeout(Some(TICK))?;
        make_room(&socket)?;
        let (address, stop) = (socket.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopping = Arc::clone(&stop);
        let thread = space.spawn(move || {
            let mut buffer = [0; 65536];
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // A datagram that cannot be returned is a lost one: the meter at the other end counts it.
                    drop(socket.send_to(&buffer[..length], from));
                }
            }
        });
        Ok(UdpEcho {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}
