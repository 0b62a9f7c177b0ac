//! A plugin on `cni` that returns what `give` in the configuration says, or fails as `fail` says.

use cni::{AddResult, Call, Code, Error, Plugin, Result, Version};
use serde_json::Value;

pub struct Echo;

fn obey(call: &Call) -> Result<AddResult> {
    let fail: Option<(u32, String, String)> = call.conf.parse_key(&["fail"])?;
    if let Some((code, msg, details)) = fail {
        return Err(Error::new(Code::from(code), msg).details(details));
    }
    let give: Value = call.conf.parse_key(&["give"])?;
    AddResult::from_json(&give, Version::V1_1_0)
}

impl Plugin for Echo {
    fn about(&self) -> &'static str {
        "echo"
    }
    fn versions(&self) -> &'static [Version] {
        &Version::ALL[2..]
    }
    fn add(&self, call: &Call) -> Result<AddResult> {
        obey(call)
    }
    fn del(&self, call: &Call) -> Result<()> {
        obey(call).map(drop)
    }
    fn check(&self, call: &Call) -> Result<()> {
        obey(call).map(drop)
    }
    fn gc(&self, call: &Call) -> Result<()> {
        obey(call).map(drop)
    }
    fn status(&self, call: &Call) -> Result<()> {
        obey(call).map(drop)
    }
}
