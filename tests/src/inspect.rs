//! What the system's own tools say about a place: the tests' eyes, and not the code under test.
use anyhow::{Context, bail};
use serde_json::Value;

use crate::{Result, Space};

/// The list that `ip -j -d <words>` prints, such as `link show dev cbr0`; empty when it prints nothing.
pub fn ip(space: &Space, words: &str) -> Result<Vec<Value>> {
    tool(space, "ip", &format!("-j -d {words}"))
}

/// The one object that `ip -j -d <words>` prints.
pub fn ip_one(space: &Space, words: &str) -> Result<Value> {
    match ip(space, words)?.as_slice() {
        [object] => Ok(object.clone()),
        others => bail!(
            "ip {words} on {} shows {} objects",
            space.name(),
            others.len()
        ),
    }
}

/// The global addresses of an interface with their prefix lengths, in the kernel's order.
pub fn addresses(space: &Space, interface: &str) -> Result<Vec<String>> {
    let shown = ip_one(space, &format!("address show dev {interface}"))?;
    let addresses = shown["addr_info"].as_array().into_iter().flatten();
    let global = addresses.filter(|address| address["scope"] == "global");
    let text = |address: &Value| {
        format!(
            "{}/{}",
            address["local"].as_str().unwrap_or_default(),
            address["prefixlen"]
        )
    };
    Ok(global.map(text).collect())
}

/// The nftables ruleset as text.
pub fn ruleset(space: &Space) -> Result<String> {
    space.command("nft").args(["list", "ruleset"]).ok()
}

/// Runs shell commands, one a line, and stops at the first that fails.
pub fn sh(space: &Space, script: &str) -> Result<String> {
    space.command("sh").args(["-ec", script]).ok()
}

pub(crate) fn tool(space: &Space, program: &str, words: &str) -> Result<Vec<Value>> {
    let text = space.command(program).args(words.split(' ')).ok()?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).with_context(|| format!("{program} {words}"))
}
