//! The door of a plugin: environment and configuration come in raw and leave as a checked [`Call`].

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Attachment, Call, CniArgs, Code, Command, Error, NetConf, Result, Version, names};

/// The part of the environment that the protocol defines. `None`: not set; the empty string means the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// `CNI_COMMAND`.
    pub command: Option<OsString>,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<OsString>,
    /// `CNI_NETNS`.
    pub netns: Option<OsString>,
    /// `CNI_IFNAME`.
    pub ifname: Option<OsString>,
    /// `CNI_ARGS`.
    pub args: Option<OsString>,
    /// `CNI_PATH`.
    pub path: Option<OsString>,
    /// `CNI_NETNS_OVERRIDE`.
    pub netns_override: Option<OsString>,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Env {
            command: env::var_os("CNI_COMMAND"),
            container_id: env::var_os("CNI_CONTAINERID"),
            netns: env::var_os("CNI_NETNS"),
            ifname: env::var_os("CNI_IFNAME"),
            args: env::var_os("CNI_ARGS"),
            path: env::var_os("CNI_PATH"),
            netns_override: env::var_os("CNI_NETNS_OVERRIDE"),
        }
    }

    /// `CNI_COMMAND`; `None` if it is not set.
    pub(crate) fn command(&self) -> Option<Result<Command>> {
        let name = text(&self.command);
        if name.is_empty() {
            return None;
        }
        Some(Command::from_name(&name).ok_or_else(|| {
            Error::new(
                Code::InvalidEnvironment,
                format!("unknown CNI_COMMAND: {name}"),
            )
        }))
    }

    /// The attachment and its network namespace. All that is missing is told at once.
    fn attachment(&self, command: Command) -> Result<(Attachment, Option<PathBuf>)> {
        let attachment = Attachment {
            container_id: text(&self.container_id),
            ifname: text(&self.ifname),
        };
        let netns = self
            .netns
            .clone()
            .filter(|netns| !netns.is_empty())
            .map(PathBuf::from);
        let mut missing = Vec::new();
        if attachment.container_id.is_empty() {
            missing.push("CNI_CONTAINERID");
        } else {
            names::container_id(&attachment.container_id)?;
        }
        if netns.is_none() && command != Command::Del {
            missing.push("CNI_NETNS");
        }
        if attachment.ifname.is_empty() {
            missing.push("CNI_IFNAME");
        } else {
            names::interface(&attachment.ifname)?;
        }
        if !missing.is_empty() {
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!("required env variables [{}] missing", missing.join(",")),
            ));
        }
        Ok((attachment, netns))
    }
}

/// Checks everything about one call of a plugin that speaks `versions`. `doc`: what stood on stdin, if it was JSON.
pub(crate) fn enter(
    command: Command,
    env: &Env,
    doc: Result<Value>,
    versions: &[Version],
) -> Result<Call> {
    let (attachment, netns) = if command.is_for_attachment() {
        env.attachment(command)?
    } else {
        (Attachment::default(), None)
    };
    let conf = NetConf::new(doc?, versions, command)?;
    if conf.version < command.since() {
        return Err(Error::new(
            Code::IncompatibleVersion,
            format!("config version does not allow {}", command.as_str()),
        )
        .details(format!(
            "cniVersion is {}, {} needs {} or newer",
            conf.version,
            command.as_str(),
            command.since()
        )));
    }
    let netns_override = matches!(
        text(&env.netns_override).to_ascii_lowercase().as_str(),
        "1" | "true"
    );
    if let Some(netns) = &netns
        && command != Command::Check
        && !netns_override
        && is_own_netns(netns)
    {
        return Err(Error::new(
            Code::InvalidNetns,
            "plugin's netns and netns from CNI_NETNS should not be the same",
        )
        .details(format!(
            "CNI_NETNS is {}; set CNI_NETNS_OVERRIDE=1 if that is meant",
            netns.display()
        )));
    }
    let path = env.path.as_ref().map(env::split_paths);
    Ok(Call {
        command,
        attachment,
        netns,
        args: CniArgs::new(text(&env.args)),
        path: path
            .into_iter()
            .flatten()
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect(),
        netns_override,
        conf,
    })
}

/// Whether `netns` is the network namespace of this process; nothing is opened or entered for that.
/// The reference looks only after it has done the work, and leaves the host half configured.
fn is_own_netns(netns: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    identity(netns).is_some_and(|theirs| {
        identity(Path::new("/proc/self/ns/net")).is_some_and(|own| own == theirs)
    })
}

/// The value as text. What is not UTF-8 becomes U+FFFD, which no check of a name lets through.
fn text(value: &Option<OsString>) -> String {
    value
        .as_ref()
        .map(|value| value.to_string_lossy().into_owned())
        .unwrap_or_default()
}
