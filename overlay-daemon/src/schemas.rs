//! The JSON that commands print has a schema each in `docs/schemas/`, which changes only on purpose.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use schemars::{JsonSchema, schema_for};

use crate::{check, doctor, events, gc, status, trace};

fn is_documented<T: JsonSchema>(command: &str) {
    let schema = serde_json::to_string_pretty(&schema_for!(T)).unwrap() + "\n";
    let file = format!("../docs/schemas/{command}.json");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("HEDDLE_WRITE_SCHEMAS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &schema).unwrap();
    }
    let documented = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        documented == schema,
        "`heddle {command} --json` is not as {} has it: if that is meant, run with HEDDLE_WRITE_SCHEMAS=1",
        file.display()
    );
}

#[test]
fn what_commands_print_is_documented() {
    is_documented::<status::Status>("status");
    is_documented::<Vec<events::Event>>("events");
    is_documented::<Vec<doctor::Finding>>("doctor");
    is_documented::<trace::Trace>("trace");
    is_documented::<Vec<check::Row>>("check");
    is_documented::<Vec<gc::Leftover>>("gc");
}
