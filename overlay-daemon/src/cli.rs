//! The command line: what can be asked for, and how it ends.

mod check;
mod doctor;
mod events;
mod gc;
mod install;
mod screen;
#[cfg(test)]
mod snapshots;
mod text;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use heddle::client::ask;
use heddle::config::Config;
use heddle::daemon::{self, Failure};
use heddle::events::Event;
use heddle::status::Status;
use heddle::trace::{Packet, Protocol};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Exit codes of `sysexits.h`.
const EX_UNAVAILABLE: u8 = 69;
const EX_CONFIG: u8 = 78;

/// The overlay of Heddle: joins nodes by VXLAN so that every pod reaches every pod.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration is, and what goes over it.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Options of the daemon's configuration")]
struct Settings {
    /// The configuration file
    #[arg(
        long,
        global = true,
        default_value = "/etc/heddle/heddle.toml",
        env = "HEDDLE_CONFIG"
    )]
    #[serde(skip)]
    config: PathBuf,
    /// Goes over "node_name"
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    /// Goes over "underlay"
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    underlay: Option<String>,
    /// Goes over "run_dir"
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    run_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node daemon until SIGTERM; the data path stays when it ends
    Daemon,
    /// Show this node on one screen; exit code 0 when it is ready, 1 when it is not
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how each peer is reached; exit code 0 when all are
    Peers {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what has happened since the daemon's start, the newest last, with the remedies
    Events {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for everything that is known to keep pods apart; exit code 0 when nothing is wrong
    Doctor {
        /// Set the sysctls that are wrong, then look again
        #[arg(long)]
        fix: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow a packet hop by hop; exit code 0 when it gets through
    Trace {
        /// A pod of this node by its address, netns, container id or namespace/name; or "node"
        from: String,
        /// Any address, a Service's too; or a pod of this node as above
        to: String,
        /// The port of a Service; its first one unless given
        #[arg(long)]
        port: Option<u16>,
        /// The protocol of that port
        #[arg(long)]
        proto: Option<Protocol>,
        /// Send marked packets as well, over UDP, and say on which links they were seen
        #[arg(long)]
        live: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make two pods, send packets between them, this node and every peer, and remove them
    Check {
        /// An address with a TCP port, out of the cluster, that pods have to reach
        #[arg(long, value_name = "ADDRESS:PORT")]
        to: Vec<std::net::SocketAddr>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what pods that have gone have left on this node
    Gc {
        /// Only say what is left over
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an archive with everything that a maintainer asks for, without secrets
    Report {
        /// The directory that it is written into
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
    /// Take back what was granted to a node that is gone for good
    Forget {
        /// The node's name
        node: String,
    },
    /// Remove all that the daemon made on this node
    Cleanup,
    /// Put the CNI plugins where this machine's runtimes look for them, or take them away again
    Install(install::Install),
    /// Print the completions for a shell, for example into /etc/bash_completion.d/heddle
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages into a directory, for example /usr/local/share/man/man1
    Man {
        /// The directory, which has to be there
        directory: PathBuf,
    },
    /// Look at the configuration without doing anything
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check it, and show what it comes to
    Check,
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> ExitCode {
        let config = match self.command {
            // Before there is anything to configure.
            Command::Install(_) | Command::Completion { .. } | Command::Man { .. } => {
                Ok(Config::default())
            }
            _ => Config::load(&self.settings.config, &self.settings),
        };
        let config = match config {
            Ok(config) => config,
            // The socket is where it always is, also for those who may not read the configuration.
            Err(_) if self.command.asks() && !self.settings.config.exists() => {
                let mut config = Config::default();
                config.run_dir = self.settings.run_dir.unwrap_or(config.run_dir);
                config
            }
            Err(error) => return failed(&error.to_string(), EX_CONFIG),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.command.run(config)),
            Err(error) => failed(&format!("cannot start: {error}"), 1),
        }
    }
}

impl Command {
    /// Whether it only asks the daemon.
    fn asks(&self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::Peers { .. }
                | Self::Events { .. }
                | Self::Doctor { .. }
                | Self::Trace { .. }
                | Self::Forget { .. }
        )
    }

    async fn run(self, config: Config) -> ExitCode {
        match self {
            Self::Daemon => run_daemon(config).await,
            Self::Status { json } => {
                show(&config, json, screen::status, |status| status.ready).await
            }
            Self::Peers { json } => {
                let all = |status: &Status| {
                    status
                        .peers
                        .values()
                        .all(|peer| peer.state == "established")
                };
                show(&config, json, screen::peers, all).await
            }
            Self::Events { json } => events::run(&config, json).await,
            Self::Doctor { fix, json } => doctor::run(&config, fix, json).await,
            Self::Trace {
                from,
                to,
                port,
                proto: protocol,
                live,
                json,
            } => {
                let packet = Packet { port, protocol };
                trace::run(&config, [&from, &to], packet, live, json).await
            }
            Self::Check { to, json } => check::run(&config, &to, json).await,
            Self::Gc { dry_run, json } => gc::run(&config, dry_run, json),
            Self::Report { directory } => {
                let (status, events) = (status_of(&config).await, events_of(&config).await);
                match heddle::report::report(&config, status, events, &directory) {
                    Ok(path) => say(&path.display().to_string()),
                    Err(why) => failed(&why, 1),
                }
            }
            Self::Forget { node } => forget(&config, &node).await,
            Self::Cleanup => match heddle::cleanup::cleanup(&config) {
                Ok(removed) if removed.is_empty() => say("nothing of Heddle's is here"),
                Ok(removed) => say(&format!("removed: {}", removed.join(", "))),
                Err(why) => failed(&why, 1),
            },
            Self::Install(asked) => asked.run(),
            Self::Completion { shell } => completion(shell),
            Self::Man { directory } => manual(&directory),
            Self::Config(ConfigCommand::Check) => match toml::to_string(&config) {
                Ok(text) => say(text.trim_end()),
                Err(error) => failed(&error.to_string(), 1),
            },
        }
    }
}

async fn run_daemon(config: Config) -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("HEDDLE_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match daemon::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(why)) => failed(&why, EX_CONFIG),
        Err(Failure::Host(why)) => failed(&why, EX_UNAVAILABLE),
    }
}

async fn show(
    config: &Config,
    json: bool,
    screen: fn(&Status) -> String,
    good: impl Fn(&Status) -> bool,
) -> ExitCode {
    let status = match status_of(config).await {
        Ok(status) => status,
        Err(why) => return failed(&why, EX_UNAVAILABLE),
    };
    match json {
        true => say_json(&status),
        false => say(screen(&status).trim_end()),
    };
    match good(&status) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

async fn status_of(config: &Config) -> Result<Status, String> {
    document(config, "/status").await
}

async fn events_of(config: &Config) -> Result<Vec<Event>, String> {
    document(config, "/events").await
}

async fn document<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T, String> {
    let (_, body) = ask(&config.run_dir, Method::GET, path).await?;
    serde_json::from_slice(&body)
        .map_err(|error| format!("the daemon speaks another version: {error}"))
}

async fn forget(config: &Config, node: &str) -> ExitCode {
    match ask(&config.run_dir, Method::POST, &format!("/forget/{node}")).await {
        Ok((StatusCode::ACCEPTED, _)) => say(&format!(
            "{node} is forgotten; its CIDRs may be given to others now"
        )),
        Ok((status, _)) => failed(
            &format!(
                "the daemon cannot forget {node}: {status}; with \"static\" membership, edit the file"
            ),
            1,
        ),
        Err(why) => failed(&why, EX_UNAVAILABLE),
    }
}

fn completion(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "heddle", &mut text);
    say(String::from_utf8_lossy(&text).trim_end())
}

fn manual(directory: &Path) -> ExitCode {
    match clap_mangen::generate_to(Cli::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(
            &format!(
                "cannot write into {}: {error}: make the directory first",
                directory.display()
            ),
            1,
        ),
    }
}

#[allow(clippy::print_stdout, reason = "this is what was asked for")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

fn say_json(value: &impl Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => failed(&error.to_string(), 1),
    }
}

fn failed(why: &str, code: u8) -> ExitCode {
    eprintln!("heddle: {why}");
    ExitCode::from(code)
}
