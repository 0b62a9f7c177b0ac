//! `heddle doctor` for the eye.

use std::fmt::Write;
use std::process::ExitCode;

use heddle::config::Config;
use heddle::doctor::{self, Finding, Verdict};

use super::text::wrapped;
use super::{failed, say, say_json, status_of};

pub(super) async fn run(config: &Config, fix: bool, json: bool) -> ExitCode {
    let mut findings = match doctor::examine(config, status_of(config).await) {
        Ok(findings) => findings,
        Err(why) => return failed(&why, 1),
    };
    if fix {
        match doctor::fix(config, &findings) {
            Ok(lines) if json || lines.is_empty() => {}
            Ok(lines) => {
                say(&lines.join("\n"));
            }
            Err(why) => return failed(&why, 1),
        }
        findings = doctor::examine(config, status_of(config).await).unwrap_or(findings);
    }
    match json {
        true => say_json(&findings),
        false => say(screen(&findings).trim_end()),
    };
    match findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad)
    {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// How a verdict is shown, four columns wide.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok  ",
        Verdict::Note => "note",
        Verdict::Bad => "BAD ",
    }
}

/// A line for each finding, and one for its remedy.
pub(super) fn screen(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = mark(finding.verdict);
        let head = format!("{mark} {:<10} ", finding.check);
        let _ = writeln!(text, "{}", wrapped(&head, &finding.text));
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "{}", wrapped(&format!("{:<16}-> ", ""), remedy));
        }
    }
    text
}
