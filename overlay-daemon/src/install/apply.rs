//! Carrying a plan out, or back.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::Result;
use super::files;
use super::interrupt::Interrupts;
use super::lock::lock;
use super::manifest::{Line, Manifest};
use super::plan::{Step, Wanted, plan};
use super::runtimes::Place;
use super::{Options, Say, remove};

/// Makes a place hold what is wanted, and says what that took. When it fails, an earlier installation stays as far as it was
/// not renewed, and nothing else.
///
/// # Errors
/// What stood in the way.
pub fn install(
    place: &Place,
    wanted: &[(PathBuf, Wanted)],
    options: &Options,
    say: Say,
) -> Result<()> {
    if options.dry_run {
        let steps = plan(wanted, &Manifest::read(&place.bin)?, options.replace, say)?;
        for step in &steps {
            say(&format!("would have {}", step.words()));
        }
        return unchanged(place, &steps, say);
    }
    let mut run = Run {
        interrupts: Interrupts::hold(),
        made: Vec::new(),
        fresh: false,
    };
    match run.install(place, wanted, options, say) {
        Ok(()) => Ok(()),
        Err(error) => {
            run.take_back(&place.bin);
            Err(error)
        }
    }
}

/// Says so when there is nothing to do.
fn unchanged(place: &Place, steps: &[Step], say: Say) -> Result<()> {
    if steps.is_empty() {
        let conf = place.conf.as_ref();
        let conf = conf.map_or_else(String::new, |conf| format!(", {}", conf.display()));
        say(&format!("unchanged: {}{conf}", place.bin.display()));
    }
    Ok(())
}

/// One run in one place, and what has to be taken back when it fails.
struct Run {
    interrupts: Interrupts,
    /// The directories that were made.
    made: Vec<PathBuf>,
    /// Whether the manifest is this run's own.
    fresh: bool,
}

impl Run {
    fn install(
        &mut self,
        place: &Place,
        wanted: &[(PathBuf, Wanted)],
        options: &Options,
        say: Say,
    ) -> Result<()> {
        let _lock = self.lock(&place.bin)?;
        let mut manifest = Manifest::read(&place.bin)?;
        let steps = plan(wanted, &manifest, options.replace, say)?;
        if steps.is_empty() {
            return unchanged(place, &steps, say);
        }
        self.interrupts.check()?;
        files::sweep(manifest.path());
        manifest.extend(self.made.iter().cloned().map(Line::Dir));
        manifest.extend(steps.iter().map(Step::line));
        manifest.write()?;
        self.fresh = !manifest.is_there();
        files::sync_dir(&place.bin)?;
        if let Some(conf) = &place.conf {
            files::make_dir(conf, &mut self.made)?;
        }
        self.carry_out(&steps)?;
        steps.iter().for_each(|step| say(&step.words()));
        Ok(())
    }

    /// The directory, made if it is missing, with its lock.
    fn lock(&mut self, bin: &Path) -> Result<File> {
        loop {
            files::make_dir(bin, &mut self.made)?;
            if let Some(file) = lock(bin, &self.interrupts)? {
                return Ok(file);
            }
        }
    }

    /// Makes everything first, and gives the names then.
    fn carry_out(&self, steps: &[Step]) -> Result<()> {
        let mut staged = Vec::new();
        for step in steps {
            self.interrupts.check()?;
            files::sweep(&step.target());
            staged.push(step.stage()?);
        }
        for staged in staged {
            self.interrupts.check()?;
            staged.publish()?;
        }
        let targets: Vec<_> = steps.iter().map(Step::target).collect();
        let dirs: BTreeSet<_> = targets.iter().filter_map(|path| path.parent()).collect();
        dirs.into_iter().try_for_each(files::sync_dir)?;
        self.interrupts.check()
    }

    /// Nobody is told of what was never told to be there; the failure itself is what there is to say.
    fn take_back(&mut self, bin: &Path) {
        if self.fresh {
            remove::remove_all(bin, false, &mut |_| ()).ok();
        }
        files::drop_dirs(self.made.drain(..));
    }
}
