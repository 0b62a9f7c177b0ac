//! The plugins that give a pod a link of another kind than `bridge` does: that packets pass, what is refused and
//! noticed, and that nothing stays behind. What the reference does wrong stands beside it.
mod held;
mod ptp;

use std::process::ExitCode;

use lab::Need;

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let cases = ptp::cases();
    lab::main(cases.into_iter().map(|case| case.needs(needs)))
}
