//! The drill: what Heddle says of each fault, held against the table in `docs/drill.md`.
use std::fs;
use std::sync::Mutex;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::overlay::Member;
use crate::{Result, find};

/// Cases run at the same time, and write the same table.
static WRITING: Mutex<()> = Mutex::new(());

/// Who is asked of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `heddle doctor`.
    Doctor,
    /// `heddle trace` with these words.
    Trace(&'static str),
}

/// What was said first of a fault: the sentence and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl Asked {
    /// The command as a person types it, without its ends.
    fn command(self) -> &'static str {
        match self {
            Self::Doctor => "doctor",
            Self::Trace(_) => "trace",
        }
    }

    /// The first thing on a node that is not as it should be; none if all is.
    pub fn mark(self, member: &Member) -> Result<Option<Mark>> {
        let words = match self {
            Self::Doctor => "doctor --json".to_owned(),
            Self::Trace(ends) => format!("trace --json {ends}"),
        };
        let output = member.heddle(&words).output()?;
        mark_in(&output.stdout).with_context(|| format!("{output:?}"))
    }
}

/// The first mark in the JSON of `doctor` or `trace`.
pub fn mark_in(json: &str) -> Result<Option<Mark>> {
    let said: Value = serde_json::from_str(json)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hops = said["hops"].as_array().into_iter().flatten();
    let problem = hops
        .map(|hop| &hop["problem"])
        .find(|problem| !problem.is_null());
    if let Some(problem) = problem {
        return Ok(Some(Mark {
            text: text(&problem["reason"]),
            remedy: text(&problem["remedy"]),
        }));
    }
    let mut findings = said.as_array().into_iter().flatten();
    let finding = findings.find(|finding| finding["verdict"] != "good");
    Ok(finding.map(|finding| Mark {
        text: text(&finding["text"]),
        remedy: text(&finding["remedy"]),
    }))
}

/// Whether the first mark is the true cause: `said` in its sentence, `remedy` in what it tells to do; and whether the table
/// says so too. With `HEDDLE_WRITE_DRILL` the table is written instead.
pub fn names(fault: &str, asked: Asked, mark: Option<Mark>, said: &str, remedy: &str) -> Result {
    let Some(mark) = mark else {
        bail!("{fault}: nothing is wrong, says {}", asked.command());
    };
    ensure!(
        mark.text.contains(said) && mark.remedy.contains(remedy),
        "{fault}: {mark:#?}"
    );
    let file = find::workspace().join("docs/drill.md");
    let table = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let key = format!("| {fault} |");
    let row = format!(
        "{key} `heddle {}` | {} | {} |",
        asked.command(),
        cell(&mark.text),
        cell(&mark.remedy)
    );
    if std::env::var_os("HEDDLE_WRITE_DRILL").is_some() {
        let _one = WRITING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let table = fs::read_to_string(&file)?;
        let mut rows: Vec<&str> = table
            .lines()
            .filter(|line| !line.starts_with(&key))
            .collect();
        rows.push(&row);
        return Ok(fs::write(&file, rows.join("\n") + "\n")?);
    }
    let documented = table.lines().find(|line| line.starts_with(&key));
    ensure!(
        documented.is_some_and(|line| line.contains(&cell(said))),
        "{}: no row of {fault} that says {said:?}: write it with HEDDLE_WRITE_DRILL=1",
        file.display()
    );
    Ok(())
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
