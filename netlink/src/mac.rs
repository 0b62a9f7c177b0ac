//! A MAC address.

use std::fmt;
use std::str::FromStr;

/// A 48-bit MAC address, written as six pairs of lower-case hex digits with colons between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Its six bytes, in the order in which they are sent.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Whether it names a group of stations (IEEE 802, clause 8.2), which no interface can own.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address such as \"0a:58:0a:16:00:05\"")]
pub struct NotAMac;

impl FromStr for Mac {
    type Err = NotAMac;

    /// Takes pairs of hex digits separated by `:` or by `-`.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(NotAMac)?;
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAMac)?;
        }
        match pairs.next() {
            Some(_) => Err(NotAMac),
            None => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_both_ways() {
        let mac: Mac = "0A:58:0a:16-".replace('-', ":00:05").parse().unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:16:00:05");
        assert_eq!("0a-58-0a-16-00-05".parse::<Mac>(), Ok(mac));
        for wrong in [
            "",
            "0a:58:0a:16:00",
            "0a:58:0a:16:00:05:06",
            "0a:58:0a:16:00:0g",
            "+a:58:0a:16:00:05",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NotAMac), "{wrong}");
        }
    }

    #[test]
    fn lowest_bit_of_the_first_byte_is_the_group() {
        assert!(Mac::from([1, 0, 0x5e, 0, 0, 1]).is_multicast());
        assert!(!Mac::from([2, 0, 0, 0, 0, 1]).is_multicast());
    }
}
