//! IPVS, as /proc/net/ip_vs shows it (net/netfilter/ipvs/ip_vs_ctl.c, `ip_vs_info_seq_show`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Port, Rules};

/// Reads the file; none where no Service is in it.
pub(super) fn rules(text: &str) -> Option<Rules> {
    let mut ports: Vec<Port> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["->", server, ..] => {
                if let (Some(server), Some(port)) = (address(server), ports.last_mut()) {
                    port.backends.push(server);
                }
            }
            [protocol @ ("TCP" | "UDP" | "SCTP"), virtual_server, ..] => {
                ports.extend(address(virtual_server).map(|server| Port {
                    name: server.to_string(),
                    address: server.ip(),
                    port: server.port(),
                    protocol: protocol.to_lowercase(),
                    backends: Vec::new(),
                }));
            }
            _ => {}
        }
    }
    (!ports.is_empty()).then(|| Rules {
        form: "IPVS",
        ports,
        is_entered: [true, true],
        ..Rules::default()
    })
}

/// `0A600001:01BB`, or `[fd00:0000:…:0001]:01BB`.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let host: IpAddr = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(v6) => v6.parse().ok()?,
        None => Ipv4Addr::from(u32::from_str_radix(host, 16).ok()?).into(),
    };
    Some(SocketAddr::new(host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As Linux 6.1 prints it.
    const TABLE: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C0000201:192B      Masq    1      0          0
UDP  [fd96:0000:0000:0000:0000:0000:0000:000a]:0035 rr
  -> [fd32:0000:0000:0001:0000:0000:0000:0002]:0035      Masq    1      0          0
  -> [fd32:0000:0000:0003:0000:0000:0000:0002]:0035      Masq    1      0          0
TCP  0A60000A:0050 rr
";

    #[test]
    fn services_and_their_servers_are_read() {
        let rules = rules(TABLE).unwrap();
        let shown: Vec<String> = rules
            .ports
            .iter()
            .map(|port| format!("{} {} {:?}", port.name, port.protocol, port.backends))
            .collect();
        assert_eq!(
            shown,
            [
                "10.96.0.1:443 tcp [192.0.2.1:6443]",
                "[fd96::a]:53 udp [[fd32:0:0:1::2]:53, [fd32:0:0:3::2]:53]",
                "10.96.0.10:80 tcp []",
            ]
        );
        assert_eq!(super::rules("IP Virtual Server version 1.2.1\n"), None);
    }
}
