//! The protocol's error: a code, one sentence, details.

use std::fmt;

use serde_json::{Value, json};

use crate::Version;

/// Shorthand for everything that can fail with a protocol error.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a plugin tells it to the runtime (specification, section 5, "Error").
///
/// Runtimes show `msg; details` to the user and nothing else, so `msg` has to stand on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure.
    pub code: Code,
    /// One sentence that names the key, the value and the remedy.
    pub msg: String,
    /// More about it; may be empty.
    pub details: String,
}

/// The kinds of failure that the specification and libcni have numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1: the configuration asks for a version that this plugin, or this command, does not speak.
    IncompatibleVersion,
    /// 2: a field of the configuration is understood, but its value is not supported.
    UnsupportedField,
    /// 3: the container is unknown; the runtime need not call DEL.
    UnknownContainer,
    /// 4: a necessary environment variable is missing or invalid.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: the input is not JSON, or not the JSON that the protocol prescribes.
    Decode,
    /// 7: the network configuration is not valid.
    InvalidConfig,
    /// 8: `CNI_NETNS` is not a network namespace that may be used (libcni's convention).
    InvalidNetns,
    /// 11: a transient condition; the runtime should try again later.
    TryAgainLater,
    /// 50: STATUS: ADD cannot be served.
    NotAvailable,
    /// 51: STATUS: ADD cannot be served, and existing containers may have limited connectivity.
    LimitedConnectivity,
    /// 999: anything else (libcni's convention).
    Internal,
    /// Any other number, as another plugin gave it.
    Other(u32),
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::InvalidNetns => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Internal => 999,
            Code::Other(n) => n,
        }
    }
}

impl From<u32> for Code {
    fn from(n: u32) -> Self {
        match n {
            1 => Code::IncompatibleVersion,
            2 => Code::UnsupportedField,
            3 => Code::UnknownContainer,
            4 => Code::InvalidEnvironment,
            5 => Code::Io,
            6 => Code::Decode,
            7 => Code::InvalidConfig,
            8 => Code::InvalidNetns,
            11 => Code::TryAgainLater,
            50 => Code::NotAvailable,
            51 => Code::LimitedConnectivity,
            999 => Code::Internal,
            n => Code::Other(n),
        }
    }
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Error {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same error with details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The error document. Unlike the reference it carries `cniVersion`, as the specification demands.
    pub fn to_json(&self, version: Version) -> Value {
        let mut doc = json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            doc["details"] = self.details.as_str().into();
        }
        doc
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.details.is_empty() {
            f.write_str(&self.msg)
        } else {
            write!(f, "{}; {}", self.msg, self.details)
        }
    }
}

impl std::error::Error for Error {}

/// The strings as Go's `%q` prints a slice, which is what users find when they search for a message.
pub(crate) fn quoted(strings: &[impl fmt::Debug]) -> String {
    let strings: Vec<_> = strings.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", strings.join(" "))
}
