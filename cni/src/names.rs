//! What names may look like: container ids, networks, interfaces.

use crate::{Code, Error, Result};

/// The longest interface name the kernel takes, in bytes (`IFNAMSIZ` minus the closing zero).
const MAX_IFNAME: usize = 15;

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, for container ids and networks (specification, sections 1 and 2).
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Code 4 unless `id` may be a container's.
pub(crate) fn container_id(id: &str) -> Result<()> {
    if is_plain(id) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidEnvironment,
        "invalid characters in containerID",
    )
    .details(id))
}

/// Code 7 unless `name` may be a network's.
pub(crate) fn network(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(Code::InvalidConfig, "missing network name"));
    }
    if is_plain(name) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidConfig,
        "invalid characters found in network name",
    )
    .details(name))
}

/// Code 4 unless the kernel would take `name` for an interface (`dev_valid_name` in `net/core/dev.c`).
pub fn interface(name: &str) -> Result<()> {
    let refuse = |msg: &str, details: String| {
        Err(Error::new(Code::InvalidEnvironment, msg).details(details))
    };
    if name.is_empty() {
        refuse("interface name is empty", String::new())
    } else if name.len() > MAX_IFNAME {
        refuse(
            "interface name is too long",
            format!(
                "{name:?} has {} bytes, at most {MAX_IFNAME} fit",
                name.len()
            ),
        )
    } else if name == "." || name == ".." {
        refuse("interface name is . or ..", String::new())
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        refuse(
            "interface name contains / or : or whitespace characters",
            format!("{name:?}"),
        )
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_and_networks() {
        for good in [
            "a",
            "A1",
            "0",
            "cnitool-77383ca0a0715733ca6f",
            "a_b.c-d",
            "9",
        ] {
            assert_eq!(container_id(good), Ok(()));
            assert_eq!(network(good), Ok(()));
        }
        for bad in [
            "-a", ".", "_x", "a b", "a/b", "é", "a\n", "a:b", "../x", "a\0",
        ] {
            assert_eq!(
                container_id(bad).map_err(|e| e.code),
                Err(Code::InvalidEnvironment),
                "{bad:?}"
            );
            assert_eq!(
                network(bad).map_err(|e| e.code),
                Err(Code::InvalidConfig),
                "{bad:?}"
            );
        }
        assert_eq!(
            network("").map_err(|e| e.msg),
            Err("missing network name".into())
        );
    }

    #[test]
    fn interfaces() {
        for good in [
            "eth0",
            "lo",
            "a",
            "123456789012345",
            "net.1",
            "-",
            "...",
            "ä",
        ] {
            assert_eq!(interface(good), Ok(()), "{good}");
        }
        for (bad, msg) in [
            ("", "interface name is empty"),
            ("1234567890123456", "interface name is too long"),
            ("éééééééé", "interface name is too long"),
            (".", "interface name is . or .."),
            ("..", "interface name is . or .."),
            (
                "a/b",
                "interface name contains / or : or whitespace characters",
            ),
            (
                "a:1",
                "interface name contains / or : or whitespace characters",
            ),
            (
                "a b",
                "interface name contains / or : or whitespace characters",
            ),
            (
                "a\u{a0}b",
                "interface name contains / or : or whitespace characters",
            ),
        ] {
            let error = interface(bad).map_err(|e| (e.code, e.msg));
            assert_eq!(
                error,
                Err((Code::InvalidEnvironment, msg.into())),
                "{bad:?}"
            );
        }
    }
}
