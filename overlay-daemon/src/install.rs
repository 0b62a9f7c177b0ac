//! `heddle install`: puts `heddle-cni` and its names where the container runtimes look for plugins, and takes them away
//! again.
//!
//! A run plans every change first ([`plan`]) and ends there if there is none. Then the [`manifest`] says what is coming,
//! everything is made under a temporary name in the directory where it belongs, and gets its own name by a rename
//! ([`apply`]). So however a run ends, whatever has a name is whole, and `--uninstall` ([`remove`]) knows of it.

mod apply;
mod error;
mod files;
mod interrupt;
pub(crate) mod kernel;
mod lock;
mod manifest;
mod plan;
mod program;
mod remove;
mod runtimes;

use std::fs;
use std::path::{Path, PathBuf};

pub use error::Error;
use error::Result;
use plan::Wanted;
use program::Program;
use runtimes::Place;

/// The configuration that is shipped as an example.
const CONFLIST: &str = include_str!("../../conf/10-heddle.conflist");
/// Its name in a directory of configurations.
const CONFLIST_NAME: &str = "10-heddle.conflist";
/// What a runtime takes for a configuration (libcni, `ConfFiles`).
const CONF_EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The executable; the `heddle-cni` beside the running program where `None`.
    pub from: Option<PathBuf>,
    /// Where plugins go; as found for each runtime where `None`.
    pub bin_dir: Option<PathBuf>,
    /// Where the example configuration goes; as found for each runtime where `None`.
    pub conf_dir: Option<PathBuf>,
    /// Whether the example configuration is installed as well.
    pub with_conf: bool,
    /// Whether names that other files have are taken over.
    pub replace: bool,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
    /// Whether what was installed is taken away.
    pub uninstall: bool,
}

/// Takes the lines that tell what is done.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// Installs, or uninstalls. What a failed installation had begun is taken back.
///
/// # Errors
/// What stood in the way, with what may help.
pub fn run(options: &Options, say: Say) -> Result<()> {
    if options.uninstall {
        return uninstall(options, say);
    }
    let program = Program::read(options.from.as_deref())?;
    for place in runtimes::places(options)? {
        let wanted = wanted(&place, &program);
        apply::install(&place, &wanted, options, say)?;
        if let Some(conf) = &place.conf {
            tell_of_earlier_conf(conf, say);
        }
    }
    if !options.dry_run {
        kernel::check(say);
    }
    Ok(())
}

/// What belongs in a place: the program, two names for each plugin, and maybe the configuration.
fn wanted<'a>(place: &Place, program: &'a Program) -> Vec<(PathBuf, Wanted<'a>)> {
    let ours = place.bin.join(program::NAME);
    let mut all = vec![(ours, Wanted::file(&program.bytes, 0o755))];
    for name in &program.plugins {
        for name in [format!("heddle-{name}"), name.clone()] {
            all.push((place.bin.join(name), Wanted::Link(program::NAME)));
        }
    }
    all.extend(place.conf.as_ref().map(|conf| {
        let wanted = Wanted::file(CONFLIST.as_bytes(), 0o644);
        (conf.join(CONFLIST_NAME), wanted)
    }));
    all
}

/// Runtimes use the configuration that sorts first.
fn tell_of_earlier_conf(conf: &Path, say: Say) {
    let entries = fs::read_dir(conf).into_iter().flatten().flatten();
    let names = entries.map(|entry| PathBuf::from(entry.file_name()));
    let first = names
        .filter(|name| {
            let extension = name.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| CONF_EXTENSIONS.contains(&extension))
        })
        .min();
    if let Some(first) = first.filter(|first| first.as_os_str() < CONFLIST_NAME) {
        let first = conf.join(first);
        say(&format!(
            "note: most runtimes use {}, which sorts before ours",
            first.display()
        ));
    }
}

/// Uninstalls from the directory that is named, or from every one where plugins may be.
fn uninstall(options: &Options, say: Say) -> Result<()> {
    let mut found = false;
    for bin in runtimes::bin_dirs(options)? {
        found |= remove::remove(&bin, options.dry_run, say)?;
    }
    if !found {
        let place = options.bin_dir.as_ref().map_or_else(
            || "the directories for plugins".to_owned(),
            |dir| dir.display().to_string(),
        );
        say(&format!(
            "nothing to remove: no {} in {place}",
            manifest::NAME
        ));
    }
    Ok(())
}
