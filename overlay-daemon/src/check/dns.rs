//! The name servers that a pod is given: those of the node, as runtimes copy them (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// A question is repeated once, as resolvers do.
const TRIES: u8 = 2;
/// Who serves the root: every name server answers that somehow, and be it by a refusal (RFC 1035, 4.1).
const QUESTION: [u8; 17] = [
    b'h', b'd', // id
    1, 0, // a query, with the wish for recursion
    0, 1, 0, 0, 0, 0, 0, 0, // one question
    0, 0, 2, 0, 1, // ".", NS, IN
];

/// The name servers in the text of a resolv.conf, those apart that are on the node's own loopback, where no pod asks.
pub(super) fn servers(text: &str) -> Vec<IpAddr> {
    let words = text.lines().map(|line| line.split_whitespace());
    let named =
        words.filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next())?);
    named
        .filter_map(|address| address.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect()
}

/// Asks, from the calling thread's network namespace, and says how long the answer took.
pub(super) fn ask(server: IpAddr) -> Result<Duration, String> {
    let said = |error: std::io::Error| format!("cannot ask the name server {server}: {error}");
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).map_err(said)?;
    socket.connect(SocketAddr::new(server, 53)).map_err(said)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    let mut answer = [0; 4_096];
    for _ in 0..TRIES {
        let began = Instant::now();
        socket.send(&QUESTION).map_err(said)?;
        if let Ok(length) = socket.recv(&mut answer)
            && length >= 12
            && answer[..2] == QUESTION[..2]
            && answer[2] & 0x80 != 0
        {
            return Ok(began.elapsed());
        }
    }
    Err(format!(
        "the name server {server}, which pods are given, does not answer them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_a_pod_can_ask() {
        let text = "# nameserver 10.0.0.1\nsearch x\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fd00::2\nnameserver\n";
        let wanted: Vec<IpAddr> = ["10.0.0.2", "fd00::2"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        assert_eq!(servers(text), wanted);
    }
}
