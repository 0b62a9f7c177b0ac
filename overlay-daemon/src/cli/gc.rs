//! `heddle gc` for the eye.

use std::process::ExitCode;

use heddle::config::Config;
use heddle::gc::{self, Leftover};

use super::text::wrapped;
use super::{failed, say, say_json};

pub(super) fn run(config: &Config, dry_run: bool, json: bool) -> ExitCode {
    match gc::gc(config, dry_run) {
        Ok(left) if json => say_json(&left),
        Ok(left) if left.is_empty() => say("no lease and no link is left over"),
        Ok(left) => {
            let verb = if dry_run { "left over" } else { "removed" };
            let lines: Vec<String> = left.iter().map(|one| line(verb, one)).collect();
            say(&lines.join("\n"))
        }
        Err(why) => failed(&why, 1),
    }
}

pub(super) fn line(verb: &str, left: &Leftover) -> String {
    let owner = match &left.container {
        Some(container) => format!("of container {container}"),
        None => "of nobody".into(),
    };
    let what = format!("{} {} {owner}", left.kind, left.object);
    wrapped(&format!("{verb}: "), &what)
}
