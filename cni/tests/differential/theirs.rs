//! The same plugin on the other library.

use std::process::ExitCode;

use rscni_plugin::cni::{Cni, Plugin};
use rscni_plugin::error::Error;
use rscni_plugin::types::{Args, CNIResult};

struct Echo;

fn obey(args: &Args) -> Result<CNIResult, Error> {
    let custom = &args.config().custom;
    if let Some(fail) = custom.get("fail") {
        let (code, msg, details) = serde_json::from_value(fail.clone())
            .map_err(|e| Error::FailedToDecode(e.to_string()))?;
        return Err(Error::Custom(code, msg, details));
    }
    let give = custom
        .get("give")
        .cloned()
        .unwrap_or_else(|| serde_json::json!({}));
    serde_json::from_value(give).map_err(|e| Error::FailedToDecode(e.to_string()))
}

impl Cni for Echo {
    fn add(&self, args: Args) -> Result<CNIResult, Error> {
        obey(&args)
    }
    fn del(&self, args: Args) -> Result<(), Error> {
        obey(&args).map(drop)
    }
    fn check(&self, args: Args) -> Result<(), Error> {
        obey(&args).map(drop)
    }
    fn status(&self, args: Args) -> Result<(), Error> {
        obey(&args).map(drop)
    }
    fn gc(&self, args: Args) -> Result<(), Error> {
        obey(&args).map(drop)
    }
}

pub fn run() -> ExitCode {
    match Plugin::default().run(&Echo) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
