//! `CNI_ARGS`, by the rules of the reference.

use std::collections::BTreeMap;

use crate::{Code, Error, Result};

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

    /// Splits `K=V;K=V` and returns the keys that are in `known`, which match exactly; of repeated ones the last.
    ///
    /// Code 4 if a pair does not have exactly one `=` (so a trailing `;` is an error), or if a key is not in `known`
    /// and `IgnoreUnknown` is not `1` or `true` (reference: `types.LoadArgs`).
    pub fn parse(&self, known: &[&str]) -> Result<BTreeMap<String, String>> {
        let refuse = |msg: String| Error::new(Code::InvalidEnvironment, msg);
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in self.0.split(';').filter(|_| !self.0.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
                .ok_or_else(|| refuse(format!("ARGS: invalid pair {pair:?}")))?;
            if key == "IgnoreUnknown" {
                ignore_unknown = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    other => {
                        return Err(refuse(format!(
                            "ARGS: error parsing value of pair {pair:?}: boolean unmarshal error: invalid input {other}"
                        )));
                    }
                };
            } else if known.contains(&key) {
                found.insert(key.to_owned(), value.to_owned());
            } else {
                unknown.push(pair);
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(refuse(format!(
                "ARGS: unknown args {}",
                crate::error::quoted(&unknown)
            ))
            .details("add IgnoreUnknown=1 to CNI_ARGS to have them ignored"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> std::result::Result<Vec<(String, String)>, String> {
        CniArgs::new(raw)
            .parse(&["IP", "MAC"])
            .map(|m| m.into_iter().collect())
            .map_err(|e| {
                assert_eq!(e.code, Code::InvalidEnvironment);
                e.msg
            })
    }

    fn pairs(pairs: &[(&str, &str)]) -> std::result::Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect())
    }

    #[test]
    fn accepted() {
        assert_eq!(parse(""), pairs(&[]));
        assert_eq!(parse("IP=10.0.0.1"), pairs(&[("IP", "10.0.0.1")]));
        assert_eq!(parse("IP=a;MAC=b;IP="), pairs(&[("IP", ""), ("MAC", "b")]));
        for yes in ["1", "true", "True", "TRUE"] {
            let raw = format!("K8S_POD_NAME=x;IgnoreUnknown={yes};IP=a;ip=b");
            assert_eq!(parse(&raw), pairs(&[("IP", "a")]));
        }
    }

    #[test]
    fn refused_with_the_words_of_the_reference() {
        for (raw, msg) in [
            ("IP=a;", r#"ARGS: invalid pair """#),
            ("none", r#"ARGS: invalid pair "none""#),
            ("IP=a=b", r#"ARGS: invalid pair "IP=a=b""#),
            ("ip=a;X=1", r#"ARGS: unknown args ["ip=a" "X=1"]"#),
            ("X=1;IgnoreUnknown=0", r#"ARGS: unknown args ["X=1"]"#),
            (
                "IgnoreUnknown=yes",
                r#"ARGS: error parsing value of pair "IgnoreUnknown=yes": boolean unmarshal error: invalid input yes"#,
            ),
        ] {
            assert_eq!(parse(raw), Err(msg.into()));
        }
    }
}
