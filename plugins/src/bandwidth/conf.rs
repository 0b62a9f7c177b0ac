//! What bandwidth reads: rates and bursts in bits, from the configuration and from the runtime.

use cni::{Call, Code, Error, Result};
use netlink::tc::Bucket;
use serde::Deserialize;

/// Milliseconds that a packet may wait, where none are configured: the reference's.
const DEFAULT_LATENCY: u64 = 25;
/// Milliseconds of the rate that go at once where no burst is given.
const DEFAULT_BURST: u64 = 10;
/// No less goes at once by default: one packet as the kernel hands it on, before it is cut up.
const LEAST_BURST: u64 = 64 * 1024;
/// Bits that a burst can have; kubelet and containerd say this where they mean "whatever is good".
const NO_OPINION: u64 = i32::MAX as u64;

/// The limits, in bytes.
#[derive(Debug)]
pub struct BandwidthConf {
    /// Of what the pod receives.
    pub ingress: Option<Bucket>,
    /// Of what the pod sends.
    pub egress: Option<Bucket>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
    latency: Option<u64>,
}

impl BandwidthConf {
    /// Reads and checks the keys: for each direction the configuration's, and otherwise the runtime's.
    ///
    /// # Errors
    /// Code 7 for a burst without a rate, or a number that cannot be.
    pub fn of(call: &Call) -> Result<Self> {
        let own: Keys = call.conf.parse()?;
        let runtime: Keys = call.conf.parse_key(&["runtimeConfig", "bandwidth"])?;
        let latency = own.latency.unwrap_or(DEFAULT_LATENCY);
        if !(1..=10_000).contains(&latency) {
            return Err(invalid(format!(
                "invalid value {latency} for key \"latency\": expected milliseconds from 1 to 10000"
            )));
        }
        let pick = |own: (u64, u64), runtime: (u64, u64)| if own == (0, 0) { runtime } else { own };
        let ingress = pick(
            (own.ingress_rate, own.ingress_burst),
            (runtime.ingress_rate, runtime.ingress_burst),
        );
        let egress = pick(
            (own.egress_rate, own.egress_burst),
            (runtime.egress_rate, runtime.egress_burst),
        );
        Ok(Self {
            ingress: bucket("ingress", ingress, latency)?,
            egress: bucket("egress", egress, latency)?,
        })
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

fn bucket(name: &str, (rate, burst): (u64, u64), latency: u64) -> Result<Option<Bucket>> {
    if rate == 0 && burst == 0 {
        return Ok(None);
    }
    if rate < 8 {
        return Err(invalid(format!(
            "\"{name}Burst\" is {burst} and \"{name}Rate\" is {rate}: give a rate of at least 8 bits a second, or neither"
        )));
    }
    let bytes = rate / 8;
    let burst = match burst {
        0 | NO_OPINION.. => (bytes / 1000 * DEFAULT_BURST).max(LEAST_BURST),
        bits => (bits / 8).max(1),
    };
    // What the kernel counts with 32 bits ends there: four gigabytes in a queue are no limit any more.
    let clamped = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let waiting = (bytes / 1000).max(1).saturating_mul(latency);
    Ok(Some(Bucket {
        rate: bytes,
        burst: clamped(burst),
        limit: clamped(waiting.saturating_add(burst)),
    }))
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rate: u64, burst: u64) -> Option<(u64, u32, u32)> {
        let bucket = bucket("ingress", (rate, burst), 25).ok()??;
        Some((bucket.rate, bucket.burst, bucket.limit))
    }

    #[test]
    fn bursts_are_sane_unless_given() {
        assert_eq!(of(0, 0), None);
        assert_eq!(of(8_000_000, 800_000), Some((1_000_000, 100_000, 125_000)));
        // 10 Mbit/s and 1 Gbit/s with no opinion about the burst.
        for burst in [0, NO_OPINION, u64::MAX] {
            assert_eq!(of(10_000_000, burst), Some((1_250_000, 65_536, 96_786)));
            assert_eq!(
                of(1_000_000_000, burst),
                Some((125_000_000, 1_250_000, 4_375_000))
            );
        }
        assert_eq!(of(u64::MAX, 0), Some((u64::MAX / 8, u32::MAX, u32::MAX)));
    }

    #[test]
    fn a_burst_alone_is_refused() {
        let message = bucket("egress", (0, 5), 25).err().map(|error| error.msg);
        assert!(message.is_some_and(|message| message.contains("\"egressBurst\" is 5")));
    }
}
