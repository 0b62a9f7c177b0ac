//! `heddle check` for the eye.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use heddle::check::{self, Row};
use heddle::config::Config;

use super::text::wrapped;
use super::{EX_UNAVAILABLE, failed, say, say_json, status_of};

pub(super) async fn run(config: &Config, beyond: &[SocketAddr], json: bool) -> ExitCode {
    let status = match status_of(config).await {
        Ok(status) => status,
        Err(why) => return failed(&why, EX_UNAVAILABLE),
    };
    let rows = match check::check(config, &status, beyond) {
        Ok(rows) => rows,
        Err(why) => return failed(&why, 1),
    };
    match json {
        true => say_json(&rows),
        false => say(screen(&rows).trim_end()),
    };
    match rows.iter().all(|row| row.rtt_us.is_some()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

pub(super) fn screen(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.to.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let end = row
            .rtt_us
            .map_or_else(|| "lost".to_owned(), |rtt| format!("{rtt}µs"));
        let mark = if row.rtt_us.is_some() { "ok " } else { "BAD" };
        let _ = writeln!(
            text,
            "{mark} {:<4} -> {:<width$}  {:<24} {end}",
            row.from, row.to, row.address
        );
        let below = [("    ", &row.reason), ("    -> ", &row.remedy)];
        for (head, line) in below {
            if let Some(line) = line {
                let _ = writeln!(text, "{}", wrapped(head, line));
            }
        }
    }
    text
}
