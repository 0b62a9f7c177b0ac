//! `resolvConf`: a file in the form of resolv.conf(5), read into the result.

use std::fs;
use std::path::Path;

use cni::{Code, Dns, Error, Result};

/// Reads the file.
///
/// # Errors
/// Code 7 when it cannot be read.
pub fn read(path: &Path) -> Result<Dns> {
    let text = fs::read_to_string(path).map_err(|error| {
        Error::new(
            Code::InvalidConfig,
            format!("\"resolvConf\": cannot read {}: {error}", path.display()),
        )
    })?;
    Ok(parse(&text))
}

/// Of several `domain` lines the last counts; `search` and `options` add up. Lines that begin with `#`
/// or `;` are comments.
pub(super) fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
    {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().or(dns.domain),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_lines() {
        let dns = parse(
            "# c\n; c\nnameserver 10.0.0.53\nnameserver fd00::53\ndomain a\ndomain b\nsearch x y\nsearch z\noptions ndots:5\nsortlist 1\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.53", "fd00::53"]);
        assert_eq!(dns.domain.as_deref(), Some("b"));
        assert_eq!(dns.search, ["x", "y", "z"]);
        assert_eq!(dns.options, ["ndots:5"]);
    }
}
