//! TCP: an echo server that first says whom it sees, and an exchange with it.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::socket;

use crate::{Result, Space};

/// How long any step of an exchange may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A TCP server in a place: to each connection it writes the address it sees and a newline, then echoes. It stops
/// when dropped.
#[derive(Debug)]
pub struct TcpEcho {
    listener: TcpListener,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl TcpEcho {
    /// Listens on an address; port 0 takes a free one.
    pub fn start(space: &Space, address: SocketAddr) -> Result<TcpEcho> {
        let listener = space
            .run(|| TcpListener::bind(address))
            .with_context(|| format!("listening on {address} in {}", space.name()))?;
        let (address, accepting) = (listener.local_addr()?, listener.try_clone()?);
        let thread = space.spawn(move || serve(&accepting));
        Ok(TcpEcho {
            listener,
            address,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        // On Linux this ends a blocked accept.
        let stopped = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let (Ok(()), Some(thread)) = (stopped, self.thread.take()) {
            drop(thread.join());
        }
    }
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        thread::spawn(move || echo(stream));
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    writeln!(stream, "{}", stream.peer_addr()?)?;
    let mut from = stream.try_clone()?;
    std::io::copy(&mut from, &mut stream)?;
    stream.shutdown(Shutdown::Both)
}

/// What came of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Our own end.
    pub local: SocketAddr,
    /// Our address as the server saw it: another one than `local` means there was NAT on the way.
    pub seen: SocketAddr,
    /// From the first packet to the established connection.
    pub connected: Duration,
    /// From the first packet to the last byte echoed.
    pub total: Duration,
}

/// Connects from a place to a [`TcpEcho`], sends `bytes` and checks that they come back.
pub fn exchange(space: &Space, to: SocketAddr, bytes: &[u8]) -> Result<Exchange> {
    let attempt = || -> Result<Exchange> {
        let start = Instant::now();
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("connecting")?;
        let connected = start.elapsed();
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut seen = String::new();
        reader
            .read_line(&mut seen)
            .context("waiting for the server's first line")?;
        let mut back = Vec::new();
        thread::scope(|s| -> Result {
            let writer = s.spawn(|| {
                stream
                    .write_all(bytes)
                    .and_then(|()| stream.shutdown(Shutdown::Write))
            });
            reader
                .read_to_end(&mut back)
                .context("waiting for the echo")?;
            writer
                .join()
                .expect("a write does not panic")
                .context("sending")
        })?;
        ensure!(
            back == bytes,
            "{} bytes sent, {} others came back",
            bytes.len(),
            back.len()
        );
        Ok(Exchange {
            local: reader.get_ref().local_addr()?,
            seen: seen
                .trim()
                .parse()
                .with_context(|| format!("the server said {seen:?}"))?,
            connected,
            total: start.elapsed(),
        })
    };
    space
        .run(attempt)
        .with_context(|| format!("TCP from {} to {to}", space.name()))
}
