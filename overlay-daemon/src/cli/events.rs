//! `heddle events` for the eye.

use std::fmt::Write;
use std::process::ExitCode;

use heddle::config::Config;
use heddle::events::Event;

use super::text::wrapped;
use super::{EX_UNAVAILABLE, doctor, events_of, failed, say, say_json};

pub(super) async fn run(config: &Config, json: bool) -> ExitCode {
    match events_of(config).await {
        Ok(events) if json => say_json(&events),
        Ok(events) => say(screen(&events).trim_end()),
        Err(why) => failed(&why, EX_UNAVAILABLE),
    }
}

/// A line for each event, the newest last, and one for its remedy. Times are UTC.
pub(super) fn screen(events: &[Event]) -> String {
    let mut text = String::new();
    for Event { at, count, news } in events {
        let times = match count {
            1 => String::new(),
            many => format!(" ({many} times)"),
        };
        let head = format!(
            "{}  {} ",
            at.strftime("%m-%d %H:%M:%SZ"),
            doctor::mark(news.verdict)
        );
        let what = format!("{}: {}{times}", news.object, news.text);
        let _ = writeln!(text, "{}", wrapped(&head, &what));
        if let Some(remedy) = &news.remedy {
            let _ = writeln!(text, "{}", wrapped(&format!("{:<22}-> ", ""), remedy));
        }
    }
    text
}
