//! Programs that manage the host's network, and take hold of links that they did not make.

use std::fs;
use std::path::Path;

use super::{Finding, Patient};
use crate::names::DEVICE;

const CHECK: &str = "managers";
/// A file for each device that NetworkManager knows, by index.
const NM_STATE: &str = "/run/NetworkManager/devices";
/// The same of systemd-networkd.
const NETWORKD_STATE: &str = "/run/systemd/netif/links";
/// Where udev's `.link` files are; of two with one name the first directory's counts (systemd.link(5)).
const LINK_FILES: [&str; 3] = [
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/lib/systemd/network",
];

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let mut findings: Vec<_> = [network_manager(patient), networkd(patient), udev(patient)]
        .into_iter()
        .flatten()
        .collect();
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "NetworkManager, systemd-networkd and udev leave our links alone",
        ));
    }
    findings
}

/// Our links whose file in a manager's directory has a line that begins so.
fn taken(patient: &mut Patient, directory: &Path, line: &str) -> Vec<String> {
    let bridge = patient.config.bridge.clone();
    let links = patient.route.links().unwrap_or_default();
    let ours = links
        .into_iter()
        .filter(|link| link.name == DEVICE || link.name == bridge);
    let said =
        |index: u32| fs::read_to_string(directory.join(index.to_string())).unwrap_or_default();
    ours.filter(|link| {
        said(link.index)
            .lines()
            .any(|found| found.starts_with(line))
    })
    .map(|link| link.name)
    .collect()
}

/// `MACAddressPolicy=` touches only what the kernel chose (`addr_assign_type` 1): ours is set from the first moment, so that a
/// device of our name with another kind of address is none of ours.
fn udev(patient: &Patient) -> Option<Finding> {
    let path = format!("/sys/class/net/{DEVICE}/addr_assign_type");
    if fs::read_to_string(path).ok()?.trim() != "1" {
        return None;
    }
    let policy = LINK_FILES.iter().find_map(|directory| {
        let file = Path::new(directory).join("99-default.link");
        let text = fs::read_to_string(&file).ok()?;
        text.lines()
            .any(|line| line.starts_with("MACAddressPolicy=persistent"))
            .then_some(file)
    })?;
    Some(Finding::bad(
        CHECK,
        format!(
            "{DEVICE} has a MAC address that udev may change, by {}: peers send to the one of before",
            policy.display()
        ),
        format!(
            "ip link delete {DEVICE}: the daemon makes it anew, with the MAC address of {}",
            patient.config.node_name
        ),
    ))
}

/// Whether any of the files of a configuration with drop-ins says this.
fn says(main: &str, directories: &[&str], wanted: impl Fn(&str) -> bool) -> bool {
    let files = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let files = files.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    std::iter::once(Path::new(main).to_path_buf())
        .chain(files)
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.lines().map(str::trim).any(&wanted))
}

/// Nothing is decided before it has a device: which ones it manages it writes down for each.
fn network_manager(patient: &mut Patient) -> Option<Finding> {
    let taken = taken(patient, Path::new(NM_STATE), "managed=true");
    if let Some(name) = taken.first() {
        return Some(Finding::bad(
            CHECK,
            format!("NetworkManager manages {name}: it takes addresses and routes off it"),
            spare(&patient.config.bridge),
        ));
    }
    if !Path::new("/run/NetworkManager").is_dir() {
        return None;
    }
    let spared = |line: &str| line.starts_with("unmanaged-devices") && line.contains("heddle");
    let directories = [
        "/etc/NetworkManager/conf.d",
        "/run/NetworkManager/conf.d",
        "/usr/lib/NetworkManager/conf.d",
    ];
    if says(
        "/etc/NetworkManager/NetworkManager.conf",
        &directories,
        spared,
    ) {
        return None;
    }
    Some(
        Finding::note(
            CHECK,
            "NetworkManager runs and may take addresses and routes off our links",
        )
        .with_remedy(spare(&patient.config.bridge)),
    )
}

fn spare(bridge: &str) -> String {
    format!(
        "printf '[keyfile]\\nunmanaged-devices=interface-name:{bridge};interface-name:{DEVICE};interface-name:veth*\\n' >/etc/NetworkManager/conf.d/heddle.conf && nmcli general reload"
    )
}

fn networkd(patient: &mut Patient) -> Option<Finding> {
    if !Path::new(NETWORKD_STATE).is_dir() {
        return None;
    }
    // `configuring` and `configured` are what it manages (networkctl(1)).
    let taken = taken(patient, Path::new(NETWORKD_STATE), "ADMIN_STATE=config");
    if let Some(name) = taken.first() {
        return Some(Finding::bad(
            CHECK,
            format!("systemd-networkd manages {name}: it takes addresses and routes off it"),
            format!(
                "printf '[Match]\\nName={name}\\n[Link]\\nUnmanaged=yes\\n' >/etc/systemd/network/05-heddle.network && networkctl reload"
            ),
        ));
    }
    let spared = |line: &str| {
        line.replace(' ', "")
            .eq_ignore_ascii_case("ManageForeignRoutes=no")
    };
    let directories = [
        "/etc/systemd/networkd.conf.d",
        "/run/systemd/networkd.conf.d",
        "/usr/lib/systemd/networkd.conf.d",
    ];
    if says("/etc/systemd/networkd.conf", &directories, spared) {
        return None;
    }
    Some(
        Finding::note(CHECK, "systemd-networkd runs and removes routes that it did not make, whenever it is restarted").with_remedy(
            "mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nManageForeignRoutes=no\\n' >/etc/systemd/networkd.conf.d/heddle.conf && systemctl restart systemd-networkd",
        ),
    )
}
