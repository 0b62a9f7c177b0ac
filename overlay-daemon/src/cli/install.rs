//! `heddle install`: its options, and how it ends.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use heddle::install::{self, Options};

use super::failed;

/// What can be asked for.
#[derive(Debug, Args)]
#[command(after_help = "\
Every plugin gets two names: NAME, unless another file has it, and heddle-NAME. DIR/.heddle.manifest lists what was made; \
what was changed since stays, and so do directories of configurations. Exits with 1 if it failed, 2 if misused.")]
pub struct Install {
    /// The executable; else the heddle-cni beside this one
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where the runtime looks for plugins; else as found for each runtime, or /opt/cni/bin
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Where it looks for network configurations; else as found, or /etc/cni/net.d
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
    /// Install the example 10-heddle.conflist as well; the daemon writes its own
    #[arg(long)]
    with_conf: bool,
    /// Take over names that other files have; each is kept as NAME.before-heddle
    #[arg(long)]
    replace: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove what was installed, put back what was replaced: in --bin-dir, or wherever plugins may be
    #[arg(long)]
    uninstall: bool,
}

impl Install {
    /// Does it. That nobody listens any more is no reason to stop halfway.
    pub fn run(self) -> ExitCode {
        let mut say = |line: &str| {
            writeln!(io::stdout(), "{line}").ok();
        };
        match install::run(&self.into(), &mut say) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string(), 1),
        }
    }
}

impl From<Install> for Options {
    fn from(asked: Install) -> Self {
        Self {
            from: asked.from,
            bin_dir: asked.bin_dir,
            conf_dir: asked.conf_dir,
            with_conf: asked.with_conf,
            replace: asked.replace,
            dry_run: asked.dry_run,
            uninstall: asked.uninstall,
        }
    }
}
