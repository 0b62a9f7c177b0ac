//! Addresses with a prefix length, read as strictly as Go's `net.ParseCIDR`.

use ipnetwork::IpNetwork;

/// Reads `address/prefix`. Unlike `IpNetwork`'s own `FromStr`, an address without a prefix and one with a netmask are
/// refused, as every other CNI program refuses them. The error is one sentence with the text in it.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    let network = match text.split_once('/') {
        Some((address, prefix))
            if !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit()) =>
        {
            address
                .parse()
                .ok()
                .zip(prefix.parse().ok())
                .and_then(|(address, prefix)| IpNetwork::new(address, prefix).ok())
        }
        _ => None,
    };
    network.ok_or_else(|| format!("invalid CIDR address: {text}"))
}

#[cfg(test)]
mod tests {
    use super::parse_cidr;

    #[test]
    fn only_address_slash_prefix_is_read() {
        for good in [
            "10.1.2.3/24",
            "0.0.0.0/0",
            "fd00::1/64",
            "10.0.0.1/32",
            "::/0",
        ] {
            assert_eq!(parse_cidr(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "10.0.0.1/255.0.0.0",
            "fd00::1/129",
            "fd00::1",
            "010.0.0.1/8",
            "10.0.0.1/8 ",
            " 10.0.0.1/8",
            "fe80::1%eth0/64",
        ] {
            assert_eq!(
                parse_cidr(bad),
                Err(format!("invalid CIDR address: {bad}")),
                "{bad:?}"
            );
        }
    }
}
