//! A UDP echo, in the words of the daemon's probes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::probe::{ANSWER, REQUEST, payload};

/// An answer that takes longer is lost; ARP and neighbour discovery ask again after a second.
const PATIENCE: Duration = Duration::from_millis(1_100);
/// One packet may be lost on the best network, or with the question of who has the address.
const TRIES: u64 = 3;
/// How often an echo looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Answers until it is dropped.
#[derive(Debug)]
pub(super) struct Echo {
    /// Where it listens.
    pub at: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens at `address`, in the calling thread's network namespace.
    pub fn start(address: IpAddr) -> Result<Self, String> {
        let said = |error: std::io::Error| format!("cannot listen at {address}: {error}");
        let socket = UdpSocket::bind((address, 0)).map_err(said)?;
        let at = socket.local_addr().map_err(said)?;
        socket.set_read_timeout(Some(LOOK)).map_err(said)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = is_over.clone();
        let thread = thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while !seen.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    bytes[..ANSWER.len()].copy_from_slice(ANSWER);
                    // What cannot be sent is not answered either.
                    let _ = socket.send_to(&bytes[..length], from);
                }
            }
        });
        Ok(Self {
            at,
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics nowhere.
            let _ = thread.join();
        }
    }
}

/// Sends packets of `size` bytes, and says how long one took there and back. From the calling thread's network namespace.
pub(super) fn ask(to: SocketAddr, size: u32) -> Result<Duration, String> {
    let said = |error: std::io::Error| format!("cannot send to {}: {error}", to.ip());
    let any: IpAddr = match to.ip() {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).map_err(said)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    let mut answer = vec![0; 65_536];
    for number in 0..TRIES {
        let request = payload(REQUEST, number, to.ip(), size);
        let began = Instant::now();
        socket.send_to(&request, to).map_err(said)?;
        while began.elapsed() < PATIENCE {
            let Ok((length, _)) = socket.recv_from(&mut answer) else {
                break;
            };
            if length == request.len() && answer[ANSWER.len()..length] == request[REQUEST.len()..] {
                return Ok(began.elapsed());
            }
        }
    }
    Err(format!(
        "{TRIES} packets of {size} bytes were not answered, and nothing on this node explains it"
    ))
}
