//! What a plugin answered, held to the rule: at most one JSON document, and always one where one is due.
use anyhow::{Context, bail};
use serde_json::Value;

use super::Trace;
use crate::{Output, Result};

/// The answer to one call.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How it ended and what it wrote.
    pub output: Output,
    /// Its system calls, when the call was traced.
    pub trace: Trace,
}

impl Reply {
    pub(crate) fn new(output: Output, trace: Trace) -> Reply {
        Reply { output, trace }
    }

    /// Whether it exited with 0.
    pub fn is_success(&self) -> bool {
        self.output.status.success()
    }

    /// The one document on stdout, or none; two, or anything that is not JSON, is an error.
    pub fn document(&self) -> Result<Option<Value>> {
        let documents = serde_json::Deserializer::from_str(&self.output.stdout).into_iter();
        let documents: serde_json::Result<Vec<Value>> = documents.collect();
        let documents =
            documents.with_context(|| format!("stdout is not JSON: {:?}", self.output))?;
        if documents.len() > 1 {
            bail!(
                "{} documents on stdout: {}",
                documents.len(),
                self.output.stdout
            );
        }
        Ok(documents.into_iter().next())
    }

    /// The result of a successful ADD or VERSION; an error shows what went wrong instead.
    pub fn result(&self) -> Result<Value> {
        self.done()?;
        self.document()?
            .context("it succeeded without a document on stdout")
    }

    /// Fails unless the call succeeded.
    pub fn done(&self) -> Result {
        if !self.is_success() {
            let said = format!("{}{}", self.output.stdout, self.output.stderr);
            bail!(
                "the plugin failed with {}: {}",
                self.output.status,
                said.trim()
            );
        }
        self.document().map(drop)
    }

    /// Code and message (with details) of a call that had to fail; a success is an error, as is an error document that
    /// lacks a part.
    pub fn failure(&self) -> Result<(u64, String)> {
        if self.is_success() {
            bail!(
                "it succeeded and should have failed: {}",
                self.output.stdout
            );
        }
        let Some(document) = self.document()? else {
            bail!("it failed without a document on stdout: {:?}", self.output);
        };
        let text = |key: &str| document[key].as_str().map(str::to_owned);
        let code = document["code"]
            .as_u64()
            .with_context(|| format!("no code in {document}"))?;
        let message = text("msg")
            .filter(|msg| !msg.is_empty())
            .with_context(|| format!("no msg in {document}"))?;
        let details = text("details")
            .map(|details| format!("; {details}"))
            .unwrap_or_default();
        Ok((code, message + &details))
    }
}
