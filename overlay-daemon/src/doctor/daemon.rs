//! What the daemon itself complains about, and what the source of its membership warns of.

use super::{Finding, Patient};
use crate::membership::About;

const CHECK: &str = "daemon";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let status = match &patient.status {
        Ok(status) => status,
        Err(why) => {
            return vec![Finding::bad(
                CHECK,
                why.clone(),
                "systemctl start heddle (or see its log: journalctl -u heddle, kubectl -n heddle logs)",
            )];
        }
    };
    let mut findings: Vec<_> = status
        .problems
        .iter()
        .map(|problem| Finding::new(CHECK, super::Verdict::Bad, problem.clone()))
        .collect();
    let warnings = status.warnings.iter();
    findings.extend(warnings.map(|warning| {
        let check = match warning.about {
            About::Keys => "keys",
            About::Clock => "clock",
            About::Api => "api",
        };
        Finding::new(check, warning.verdict, warning.text.clone())
            .with_remedy(warning.remedy.clone())
    }));
    let fast_path = status.fast_path.as_ref();
    if let Some(why) = fast_path.and_then(|state| state.problem.as_ref()) {
        findings.push(
            Finding::new(
                "fast path",
                super::Verdict::Note,
                format!("there is none, and every packet takes the slow path: {why}"),
            )
            .with_remedy("give the daemon CAP_BPF, or set \"fast_path\" to false"),
        );
    }
    if status.problems.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!("runs, version {}, ready", status.version),
        ));
    }
    findings
}
