//! `heddle-cni`: one executable for every plugin; the name that it is called by says which one it is.

mod bandwidth;
mod bridge;
mod calls;
mod cnitool;
mod dbus;
mod dummy;
mod error;
mod firewall;
mod forwarding;
mod guest;
mod host_device;
mod ipam;
mod ipvlan;
mod keys;
mod links;
mod loopback;
mod mac_spoof;
mod macvlan;
mod masquerade;
mod netns_lock;
mod pod;
mod portmap;
mod ptp;
mod reference;
mod rules;
mod sandbox;
mod sbr;
mod shared_table;
mod stacked;
mod stale;
mod subnet;
mod tap;
mod tuning;
mod undo;
mod uplink;
mod veth;
mod vlan;
mod vrf;

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use cni::Plugin;

// musl's own allocator gives every small block back to the kernel at once: a hundred system calls in an ADD.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The plugins by the `type` that a configuration calls them by; each answers to `heddle-<type>` as well.
const PLUGINS: &[(&str, &dyn Plugin)] = &[
    ("bandwidth", &bandwidth::Bandwidth),
    ("bridge", &bridge::Bridge),
    ("dummy", &dummy::Dummy),
    ("firewall", &firewall::Firewall),
    ("host-device", &host_device::HostDevice),
    ("host-local", &::ipam::HostLocal),
    ("ipvlan", &ipvlan::Ipvlan),
    ("loopback", &loopback::Loopback),
    ("macvlan", &macvlan::Macvlan),
    ("portmap", &portmap::Portmap),
    ("ptp", &ptp::Ptp),
    ("sbr", &sbr::Sbr),
    ("static", &::ipam::Static),
    ("tap", &tap::Tap),
    ("tuning", &tuning::Tuning),
    ("vlan", &vlan::Vlan),
    ("vrf", &vrf::Vrf),
];

fn main() -> ExitCode {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called_as = words.next().unwrap_or_default();
    let mut applet = applet_name(&called_as);
    if applet != "cnitool" && plugin(&applet).is_none() {
        applet = words
            .next()
            .map_or_else(String::new, |word| applet_name(&word));
    }
    match (applet.as_str(), plugin(&applet)) {
        (name, Some(plugin)) => {
            let clock = calls::Clock::start();
            let code = cni::run(plugin);
            if let Some(clock) = clock {
                clock.stop(name, code == ExitCode::SUCCESS);
            }
            code
        }
        ("cnitool", None) => cnitool::run(&words.collect::<Vec<_>>()),
        ("--version", None) => say(
            &mut io::stdout(),
            concat!("heddle-cni ", env!("CARGO_PKG_VERSION")),
            0,
        ),
        ("--list", None) => say(&mut io::stdout(), &names("\n"), 0),
        ("--help", None) => say(&mut io::stdout(), &usage(), 0),
        _ => say(&mut io::stderr(), &usage(), EX_USAGE),
    }
}

/// The exit code for a wrong command line (`sysexits.h`).
const EX_USAGE: u8 = 64;

fn plugin(applet: &str) -> Option<&'static dyn Plugin> {
    PLUGINS
        .iter()
        .find(|(name, _)| *name == applet)
        .map(|(_, plugin)| *plugin)
}

/// The last part of a path, without `heddle-`.
fn applet_name(path: &str) -> String {
    let name = Path::new(path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    name.strip_prefix("heddle-").unwrap_or(&name).to_owned()
}

fn names(separator: &str) -> String {
    let names: Vec<_> = PLUGINS.iter().map(|(name, _)| *name).collect();
    names.join(separator)
}

fn usage() -> String {
    format!(
        "heddle-cni: CNI plugins in one executable\n\n\
         As a plugin: link it into a directory of CNI_PATH as NAME or heddle-NAME, or run `heddle-cni NAME`, where\n\
         NAME is one of: {}\n\n\
         By hand: heddle-cni cnitool add|check|del|gc|status NET NETNS\n         \
         heddle-cni --list | --version | --help",
        names(", ")
    )
}

fn say(to: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    match writeln!(to, "{text}") {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
