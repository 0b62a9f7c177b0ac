//! How much a path carries.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::{Result, Space};

/// Megabits a second that one TCP connection carries, once its first burst is over.
pub fn throughput(from: &Space, to: &Space, address: SocketAddr) -> Result<f64> {
    let listener = to.run(|| TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    let until = Instant::now() + Duration::from_millis(2500);
    let sender = from.spawn(move || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        while Instant::now() < until && stream.write(&[0; 64 * 1024]).is_ok() {}
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let (mut buffer, mut counted) = (vec![0; 256 * 1024], 0_u64);
    let warm = Instant::now() + Duration::from_millis(700);
    let mut started = None;
    while Instant::now() < until {
        let length = stream.read(&mut buffer)? as u64;
        match started {
            None if Instant::now() >= warm => started = Some(Instant::now()),
            None => {}
            Some(_) => counted += length,
        }
    }
    let started = started.context("nothing came")?;
    let seconds = started.elapsed().as_secs_f64();
    drop(stream);
    let _ = sender.join();
    Ok(counted as f64 * 8.0 / seconds / 1e6)
}
