//! `heddle trace` for the eye.

use std::fmt::Write;
use std::process::ExitCode;

use heddle::config::Config;
use heddle::trace::{self, Hop, Packet, Service, Trace};

use super::text::wrapped;
use super::{failed, say, say_json, status_of};

pub(super) async fn run(
    config: &Config,
    ends: [&str; 2],
    packet: Packet,
    is_live: bool,
    json: bool,
) -> ExitCode {
    let status = status_of(config).await;
    let mut trace = match trace::follow(config, status.as_ref().ok(), ends, packet) {
        Ok(trace) => trace,
        Err(why) => return failed(&why, 1),
    };
    if is_live && let Err(why) = trace::live(&mut trace, ends[0], packet) {
        return failed(&why, 1);
    }
    if let Err(why) = &status {
        eprintln!("heddle: {why}; the trace goes by the kernel alone");
    }
    match json {
        true => say_json(&trace),
        false => say(screen(&trace).trim_end()),
    };
    match trace.arrives {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn screen(trace: &Trace) -> String {
    let mut text = format!("{} -> {}\n", trace.src, trace.dst);
    for (number, hop) in trace.hops.iter().enumerate() {
        let mark = if hop.problem.is_some() { "X" } else { " " };
        let owner = if hop.ours { "" } else { " (not ours)" };
        let mtu = hop
            .mtu
            .map_or_else(String::new, |mtu| format!(", mtu {mtu}"));
        let seen = match hop.seen {
            Some(true) => ", seen",
            Some(false) => ", not seen",
            None => "",
        };
        let what = if hop.what.is_empty() {
            String::new()
        } else {
            format!(": {}", hop.what)
        };
        let head = format!("{mark} {:>2} {:<8} ", number + 1, hop.place);
        let object = format!("{}{what}{mtu}{owner}{seen}", hop.object);
        let _ = writeln!(text, "{}{}", wrapped(&head, &object), lost(hop));
        if let Some(problem) = &hop.problem {
            let below = " ".repeat(head.len());
            let _ = writeln!(text, "{}", wrapped(&below, &problem.reason));
            let _ = writeln!(text, "{}", wrapped(&format!("{below}-> "), &problem.remedy));
        }
    }
    if let Some(service) = &trace.service {
        text += &backends(service);
    }
    if let Some(live) = trace.live {
        let answered = if live.is_answered {
            "answered"
        } else {
            "no answer, which a firewall of the pod's own may be the cause of"
        };
        let _ = writeln!(text, "{} marked packets sent: {answered}", live.sent);
    }
    let end = match (trace.arrives, trace.mtu) {
        (true, Some(mtu)) => format!("arrives; packets of up to {mtu} bytes"),
        (true, None) => "arrives".into(),
        (false, _) => "does not arrive".into(),
    };
    let _ = writeln!(text, "{end}");
    text
}

/// Where a Service leads, a line each.
fn backends(service: &Service) -> String {
    let lines = service.backends.iter().map(|backend| {
        let (mark, what) = match backend.arrives {
            Some(true) => (" ", ": arrives"),
            Some(false) => ("X", ": does not arrive"),
            None => (" ", ""),
        };
        format!("{mark}    backend  {}{what}\n", backend.address)
    });
    lines.collect()
}

/// A line of its own where something has been lost.
fn lost(hop: &Hop) -> String {
    let counted = hop
        .counters
        .filter(|counted| counted.rx_lost + counted.tx_lost > 0);
    counted.map_or_else(String::new, |counted| {
        format!(
            "\n     {:<8} lost since it was made: {} of {} in, {} of {} out",
            "",
            counted.rx_lost,
            counted.rx_packets + counted.rx_lost,
            counted.tx_lost,
            counted.tx_packets + counted.tx_lost
        )
    })
}
