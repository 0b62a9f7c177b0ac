//! The host-device plugin's configuration: which device is meant, and what it is to be given.

use cni::{Call, Dns, Result};
use netlink::Mac;
use netlink::device::Device;
use serde::Deserialize;

use crate::keys::{RawDns, RawIpam, invalid};

/// Drivers that hand a device to a program past the kernel's network (DPDK): there is no link to move.
const USERSPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// A configuration that has been checked: nothing in here is checked again.
#[derive(Debug)]
pub struct HostDeviceConf {
    /// Which device is meant.
    pub which: Which,
    /// The IPAM plugin's type; `None` for a device without addresses.
    pub ipam: Option<String>,
    /// The configuration's own DNS, which replaces IPAM's when any field is given.
    pub dns: Option<Dns>,
}

/// How a device is known.
#[derive(Debug)]
pub enum Which {
    /// By its link's name.
    Link(String),
    /// By its link's MAC.
    Mac(Mac),
    /// By a directory in `/sys`, which is called this in the configuration.
    Device(Device, String),
    /// It is a PCI device that a program has, past the kernel.
    Userspace,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    device: String,
    hwaddr: String,
    kernelpath: String,
    #[serde(rename = "pciBusID")]
    pci_bus_id: String,
    ipam: RawIpam,
    dns: Option<RawDns>,
    #[serde(rename = "runtimeConfig")]
    runtime_config: RawRuntime,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawRuntime {
    #[serde(rename = "deviceID")]
    device_id: String,
}

impl HostDeviceConf {
    /// Reads and checks the configuration of `call`.
    ///
    /// # Errors
    /// Code 7 for a device that is not there, or none at all.
    pub fn of(call: &Call) -> Result<Self> {
        let mut raw: Raw = call.conf.parse()?;
        Ok(Self {
            ipam: std::mem::take(&mut raw.ipam).plugin(),
            dns: raw.dns.take().and_then(RawDns::replacement),
            which: which(raw)?,
        })
    }
}

/// The first key that says anything counts, in the reference's order; `deviceID` takes the place of `pciBusID`.
fn which(raw: Raw) -> Result<Which> {
    let id = raw.runtime_config.device_id;
    let auxiliary = Device::auxiliary(&id);
    if !id.is_empty() && auxiliary.is_none() && Device::pci(&id).is_none() {
        return Err(invalid(format!(
            "runtimeConfig.deviceID: {id:?} is no device of the PCI or the auxiliary bus: look at /sys/bus/pci/devices and /sys/bus/auxiliary/devices"
        )));
    }
    if raw.device == "lo" {
        return Err(invalid(
            "\"device\": \"lo\" cannot leave the host: name another device",
        ));
    }
    if !raw.device.is_empty() {
        return Ok(Which::Link(raw.device));
    }
    if !raw.hwaddr.is_empty() {
        return raw.hwaddr.parse().map(Which::Mac).map_err(|_| {
            invalid(format!(
                "\"hwaddr\": {:?} is not a MAC address such as \"0a:58:0a:16:00:05\"",
                raw.hwaddr
            ))
        });
    }
    if !raw.kernelpath.is_empty() {
        return match Device::at(&raw.kernelpath) {
            Some(device) => Ok(Which::Device(device, raw.kernelpath)),
            None => Err(invalid(format!(
                "\"kernelpath\": {:?} is no device: give a directory below /sys/devices",
                raw.kernelpath
            ))),
        };
    }
    if let Some(device) = auxiliary {
        return Ok(Which::Device(device, id));
    }
    let pci = if id.is_empty() { raw.pci_bus_id } else { id };
    if pci.is_empty() {
        return Err(invalid(
            "no device is named: give one of \"device\", \"hwaddr\", \"kernelpath\" and \"pciBusID\"",
        ));
    }
    let Some(device) = Device::pci(&pci) else {
        return Err(invalid(format!(
            "\"pciBusID\": {pci:?} is no device: look at /sys/bus/pci/devices"
        )));
    };
    match device.driver() {
        Some(driver) if USERSPACE_DRIVERS.contains(&driver.as_str()) => Ok(Which::Userspace),
        _ => Ok(Which::Device(device, pci)),
    }
}
