//! The plugins that give a pod a link of another kind than `bridge` does: that packets pass, what is refused and
//! noticed, and that nothing stays behind. What the reference does wrong stands beside it.
mod absent;
mod foreign;
mod held;
mod host_device;
mod macvlan;
mod ptp;
mod sbr;
mod tap;
mod vrf;

use std::process::ExitCode;

use lab::Need;

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let cases = [
        ptp::cases(),
        host_device::cases(),
        macvlan::cases(),
        absent::cases(),
        foreign::cases(),
        sbr::cases(),
        tap::cases(),
        vrf::cases(),
    ];
    let cases = cases.into_iter().flatten();
    lab::main(cases.map(|case| case.needs(needs)))
}
