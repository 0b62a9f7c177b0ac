//! `conditionsV4` and `conditionsV6`: what a packet must be besides for the port, as the `nft` program writes it,
//! or as `iptables` does where the meaning is the same.

use cni::Result;
use ipnetwork::IpNetwork;
use netlink::nft::Expr;

use super::conf::invalid;

/// The conditions of one family, all of which a packet has to meet; `None` where there are none.
///
/// # Errors
/// Code 7, with what can be written, for anything else.
pub fn parse(key: &str, words: &[String], v6: bool) -> Result<Option<Expr>> {
    let mut words = words.iter().flat_map(|word| word.split_whitespace());
    let mut parser = Parser { key, v6 };
    let mut conditions: Option<Expr> = None;
    while let Some(word) = words.next() {
        let next = parser.condition(word, &mut words)?;
        conditions = Some(match conditions {
            Some(before) => before.then(next),
            None => next,
        });
    }
    Ok(conditions)
}

struct Parser<'a> {
    key: &'a str,
    v6: bool,
}

impl Parser<'_> {
    fn condition<'w>(
        &mut self,
        word: &'w str,
        rest: &mut impl Iterator<Item = &'w str>,
    ) -> Result<Expr> {
        let family = if self.v6 { "ip6" } else { "ip" };
        let (negated, word) = match word {
            "!" => (true, self.next(rest)?),
            word => (false, word),
        };
        // iptables has its negation in front, nft its operator between.
        let (field, equal, value) = match word {
            "-s" | "--source" | "--src" => ("saddr", !negated, self.next(rest)?),
            "-d" | "--destination" | "--dst" => ("daddr", !negated, self.next(rest)?),
            "-i" | "--in-interface" => ("iifname", !negated, self.next(rest)?),
            "--sport" | "--source-port" => ("sport", !negated, self.next(rest)?),
            _ if negated => return Err(self.refuse(word)),
            "ip" | "ip6" | "th" | "meta" => {
                let field = self.next(rest)?;
                let known = match word {
                    "th" => field == "sport",
                    "meta" => ["mark", "iifname"].contains(&field),
                    _ => word == family && ["saddr", "daddr"].contains(&field),
                };
                if !known {
                    return Err(self.refuse(&format!("{word} {field}")));
                }
                let (equal, value) = self.operator(rest)?;
                (field, equal, value)
            }
            "iifname" | "mark" => {
                let (equal, value) = self.operator(rest)?;
                (word, equal, value)
            }
            _ => return Err(self.refuse(word)),
        };
        self.expression(field, equal, value)
    }

    fn expression(&self, field: &str, equal: bool, value: &str) -> Result<Expr> {
        let refuse = || self.refuse(value);
        match field {
            "saddr" | "daddr" => {
                let network: IpNetwork = value.parse().map_err(|_| refuse())?;
                if network.is_ipv6() != self.v6 {
                    return Err(refuse());
                }
                Ok(match field {
                    "saddr" => Expr::source(network, equal),
                    _ => Expr::destination(network, equal),
                })
            }
            "sport" => Ok(Expr::source_port(
                value.parse().map_err(|_| refuse())?,
                equal,
            )),
            "mark" => {
                let number = match value.strip_prefix("0x") {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => value.parse(),
                };
                Ok(Expr::mark(number.map_err(|_| refuse())?, equal))
            }
            _ => {
                let name = value.trim_matches('"');
                cni::check_interface_name(name).map_err(|_| refuse())?;
                Ok(Expr::input_interface(name, equal))
            }
        }
    }

    /// The value, and whether it is to be equal.
    fn operator<'w>(&self, rest: &mut impl Iterator<Item = &'w str>) -> Result<(bool, &'w str)> {
        match self.next(rest)? {
            "==" => Ok((true, self.next(rest)?)),
            "!=" => Ok((false, self.next(rest)?)),
            value => Ok((true, value)),
        }
    }

    fn next<'w>(&self, rest: &mut impl Iterator<Item = &'w str>) -> Result<&'w str> {
        rest.next().ok_or_else(|| self.refuse("the end"))
    }

    fn refuse(&self, at: &str) -> cni::Error {
        let family = if self.v6 { "ip6" } else { "ip" };
        invalid(format!(
            "cannot understand key {:?} at {at:?}: write nft expressions of the forms \
             \"{family} saddr [!=] ADDRESS[/LENGTH]\", \"{family} daddr [!=] ADDRESS[/LENGTH]\", \
             \"iifname [!=] NAME\", \"th sport [!=] PORT\", \"mark [!=] NUMBER\"",
            self.key
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, v6: bool) -> std::result::Result<bool, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        parse("conditionsV4", &words, v6)
            .map(|conditions| conditions.is_some())
            .map_err(|error| error.msg)
    }

    #[test]
    fn both_ways_of_writing_are_understood() {
        for text in [
            "ip saddr 10.0.0.0/8",
            "ip daddr != 192.0.2.7",
            "ip saddr == 10.0.0.1 iifname != \"eth0\" mark 0x10",
            "-s 10.0.0.0/8",
            "! -s 10.0.0.0/8 -i eth0",
            "meta mark != 7 th sport 1024",
        ] {
            assert_eq!(parsed(text, false), Ok(true), "{text}");
        }
        assert_eq!(parsed("ip6 saddr fd00::/8 -d fd88::1", true), Ok(true));
        assert_eq!(parsed("", false), Ok(false));
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_would_be() {
        for (text, at) in [
            ("ip saddr", "the end"),
            ("ip saddr { 10.0.0.1, 10.0.0.2 }", "{"),
            ("ip saddr fd00::/8", "fd00::/8"),
            ("ip6 saddr fd00::/8", "ip6 saddr"),
            ("-m set --match-set x src", "-m"),
            ("! ip saddr 10.0.0.1", "ip"),
            ("tcp dport 80", "tcp"),
            ("iifname interface-name-too-long", "interface-name-too-long"),
        ] {
            let message = parsed(text, false).err().unwrap_or_default();
            assert!(message.contains(&format!("at {at:?}")), "{text}: {message}");
            assert!(message.contains("ip saddr [!=] ADDRESS"), "{message}");
        }
    }
}
