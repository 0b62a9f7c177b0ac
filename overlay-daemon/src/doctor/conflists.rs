//! Which network the runtime chooses: that of the file that sorts first.

use std::fs;
use std::path::PathBuf;

use super::{Finding, Patient};
use crate::conflist::Conflist;

const CHECK: &str = "conflist";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let directory = &patient.config.cni_conf_dir;
    let own = Conflist::new(patient.config).path();
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let kind = path.extension().unwrap_or_default();
            ["conf", "conflist", "json"]
                .iter()
                .any(|known| kind == *known)
        })
        .collect();
    files.sort();
    let finding = match files.first() {
        None => Finding::bad(
            CHECK,
            format!(
                "{} holds no network: the runtime says \"cni plugin not initialized\"",
                directory.display()
            ),
            "heddle status says what the conflist waits for",
        ),
        Some(first) if *first == own => {
            Finding::good(CHECK, format!("the runtime uses {}", own.display()))
        }
        Some(first) if own.is_file() => Finding::bad(
            CHECK,
            format!(
                "the runtime uses {}, which sorts before {}",
                first.display(),
                own.display()
            ),
            format!("mv {0} {0}.disabled", first.display()),
        ),
        Some(first) => Finding::bad(
            CHECK,
            format!("the runtime uses {}: ours is not there", first.display()),
            "heddle status says what the conflist waits for",
        ),
    };
    vec![finding]
}
