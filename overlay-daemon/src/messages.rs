//! What `docs/troubleshooting.md` says that our programs say stands in their source.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// The sections of messages that are ours, and the column that has them.
const OURS: [(&str, usize); 3] = [
    ("## What the plugins say", 2),
    ("## What the daemon says", 1),
    ("## What the installer says", 1),
];
const ROOMS: [&str; 5] = ["cni", "ipam", "netlink", "plugins", "overlay-daemon"];

/// All source, with strings as they are printed: line continuations and escaped quotes undone.
fn source(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, text);
        } else {
            let lines = fs::read_to_string(path).unwrap().replace("\\\"", "\"");
            let mut parts = lines.split("\\\n");
            *text += parts.next().unwrap_or_default();
            parts.for_each(|part| *text += part.trim_start());
        }
    }
}

/// A word that stands for something that varies: in capitals, a number, a path.
fn varies(word: &str) -> bool {
    let has = |wanted: fn(char) -> bool| word.chars().any(wanted);
    let is_loud = has(|c| c.is_ascii_uppercase()) && !has(|c| c.is_ascii_lowercase());
    is_loud || has(|c| c.is_ascii_digit() || "/…".contains(c))
}

/// The longest part of a message in which nothing varies.
fn fixed(message: &str) -> String {
    let words: Vec<&str> = message.split(' ').collect();
    let parts = words.split(|word| varies(word)).map(|part| part.join(" "));
    parts.max_by_key(String::len).unwrap()
}

#[test]
fn our_messages_are_in_the_source() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_to_string(top.join("docs/troubleshooting.md")).unwrap();
    let mut text = String::new();
    for room in ROOMS {
        source(&top.join(room).join("src"), &mut text);
    }
    let mut seen = 0;
    for (heading, column) in OURS {
        let section = docs.split(heading).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        for row in section
            .lines()
            .filter(|line| line.contains('`') && line.starts_with("| "))
        {
            let cell = row.split(" | ").nth(column - 1).unwrap();
            // What is in backquotes.
            for message in cell.split('`').skip(1).step_by(2) {
                let fixed = fixed(message);
                assert!(
                    text.contains(&fixed),
                    "no program says {fixed:?} of {message:?}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "{seen} messages");
}
