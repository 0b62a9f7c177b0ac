//! What the configurations of containerd and CRI-O say about CNI.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::install::error::{Error, Result};

/// What a runtime's configuration says, as far as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where it looks for plugins first.
    pub bin: Option<PathBuf>,
    /// Where it looks for network configurations.
    pub conf: Option<PathBuf>,
}

impl Found {
    /// What is said later goes over what was said before.
    fn take(&mut self, bin: Option<&Value>, conf: Option<&Value>) {
        self.bin = bin.and_then(first).or(self.bin.take());
        self.conf = conf.and_then(first).or(self.conf.take());
    }
}

/// The path that a value names, of an array the first; none if it is empty.
fn first(value: &Value) -> Option<PathBuf> {
    let text = match value {
        Value::Array(values) => values.first()?.as_str(),
        value => value.as_str(),
    };
    text.filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// containerd's `bin_dirs` (before 2.1: `bin_dir`) and `conf_dir`, with what it imports: in the table `cni` of its plugin for
/// Kubernetes, which has another name in each version of the format (containerd, `docs/cri/config.md`).
///
/// # Errors
/// When a file cannot be read.
pub fn containerd(main: &Path) -> Result<Found> {
    const PLUGINS: [&str; 3] = [
        "cri",
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.runtime",
    ];
    let mut found = Found::default();
    let mut files = vec![main.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(file) = files.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        let table = read(&file)?;
        for plugin in PLUGINS {
            let cni = value(&table, &["plugins", plugin, "cni"]).and_then(Value::as_table);
            if let Some(cni) = cni {
                found.take(cni.get("bin_dir"), cni.get("conf_dir"));
                found.take(cni.get("bin_dirs"), None);
            }
        }
        let imports = table.get("imports").and_then(Value::as_array);
        let patterns = imports.into_iter().flatten().filter_map(Value::as_str);
        // Relative ones are beside the file that names them.
        let dir = file.parent().unwrap_or(&file);
        let imported: Vec<_> = patterns
            .flat_map(|pattern| matching(&dir.join(pattern)))
            .collect();
        files.extend(imported.into_iter().rev());
    }
    Ok(found)
}

/// CRI-O's `plugin_dirs` and `network_dir`: in `crio.conf`, and over that in the files of `crio.conf.d` in their order
/// (crio.conf.d(5)).
///
/// # Errors
/// When a file cannot be read.
pub fn crio(dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    let dropped_in = matching(&dir.join("crio.conf.d/*"));
    for file in [dir.join("crio.conf")].into_iter().chain(dropped_in) {
        let table = read(&file)?;
        let key = |name| value(&table, &["crio", "network", name]);
        found.take(key("plugin_dirs"), key("network_dir"));
    }
    Ok(found)
}

/// An empty table if the file is not there.
fn read(file: &Path) -> Result<Table> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Table::new()),
        Err(error) => return Err(Error::file("read", file)(error)),
    };
    text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Error::NotToml {
            path: file.to_owned(),
            why: format!("line {line}: {}", error.message()),
        }
    })
}

fn value<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let start = table.get(*first);
    rest.iter().fold(start, |value, key| value?.get(key))
}

/// The files that a pattern of the shell names, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let paths = pattern
        .to_str()
        .and_then(|pattern| glob::glob(pattern).ok());
    let paths = paths.into_iter().flatten().flatten();
    paths.filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_imports_go_over_the_file_that_names_them() {
        let there = tempfile::tempdir().unwrap();
        let at = |name: &str| there.path().join(name);
        fs::create_dir(at("conf.d")).unwrap();
        let main = "version = 3\nimports = ['conf.d/*.toml', 'none.toml', 'main.toml']\n\
                    [plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/a', '/b']\nconf_dir = '/c'\n";
        fs::write(at("main.toml"), main).unwrap();
        let cni = "[plugins.'io.containerd.cri.v1.runtime'.cni]\n";
        fs::write(at("conf.d/1.toml"), format!("{cni}bin_dirs = ['/first']")).unwrap();
        fs::write(at("conf.d/2.toml"), format!("{cni}bin_dirs = ['/second']")).unwrap();
        fs::write(at("conf.d/3.txt"), "no TOML").unwrap();
        let found = containerd(&at("main.toml")).unwrap();
        assert_eq!(found.bin, Some("/second".into()));
        assert_eq!(found.conf, Some("/c".into()));
        fs::write(at("conf.d/4.toml"), "a = 1\nb = = 2").unwrap();
        let error = containerd(&at("main.toml")).unwrap_err().to_string();
        assert!(error.contains("4.toml is not TOML: line 2: "), "{error}");
    }
}
