//! `heddle daemon`: the tasks and what flows between them.
//!
//! ```text
//! membership ──▶ reconciler (a thread of its own) ──▶ report ──▶ conflist, probes, status
//!     ▲                                                  │
//!     └───────────── addresses on the underlay ──────────┘
//! ```

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use cni::files;
use netlink::{Handle, RouteFilter};
use nix::fcntl::OFlag;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::calls;
use crate::config::Config;
use crate::conflist::Conflist;
use crate::doctor::Verdict;
use crate::drops::{self, Drops};
use crate::events::{self, Events, Kind, News};
use crate::fast_path;
use crate::health::{Health, Judge, StatusFile};
use crate::http::{self, Shared};
use crate::local::Local;
use crate::membership::{self, Inputs, Membership};
use crate::names::{PROTOCOL, vtep_mac};
use crate::node::Node;
use crate::probe::{self, Probes};
use crate::reconciler::{Input, Reconciler, Report};
use crate::ticks;
use crate::view::View;

/// How often it is looked whether the conflist is still in place.
const LOOK: Duration = Duration::from_secs(1);

/// Why the daemon cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration does not go with this host.
    #[error("{0}")]
    Configuration(String),
    /// Rights, ports, kernel, disk.
    #[error("{0}")]
    Host(String),
}

/// Runs until SIGTERM or SIGINT. The data path, the conflist and the claim stay when it ends.
///
/// # Errors
/// What keeps it from running.
pub async fn run(config: Config) -> Result<(), Failure> {
    check_directories(&config)?;
    let _lock = lock(&config)?;
    check_host(&config)?;
    let (reconciler, report) = Reconciler::start(config.clone()).map_err(Failure::Host)?;
    let fast_path = fast_path::start(&config).map_err(Failure::Host)?;
    let (endpoints, endpoints_seen) = watch::channel(Vec::new());
    let (out, membership) = watch::channel(Membership::default());
    let (probes_out, probes) = watch::channel(Probes::default());
    let (conflist_out, conflist) = watch::channel(Err(
        "the conflist is not written yet: no pass over the kernel so far".to_owned(),
    ));
    let (health_out, health) = watch::channel(Health::default());
    let (commands, command_seen) = mpsc::channel(8);
    let calls = calls::none();
    let counting = calls::run(&config, calls.clone());
    let (drops_out, drops) = watch::channel(Drops::default());
    let reading = drops::run(drops_out);
    let events = Events::default();
    let shared = Shared {
        calls,
        drops,
        events: events.clone(),
        node: config.node_name.clone(),
        membership: membership.clone(),
        report: report.clone(),
        probes,
        conflist,
        fast_path,
        commands,
    };
    // Without an input the reconciler looks at nothing, and then nobody would know the underlay.
    reconciler.send(input(&config, &membership.borrow(), None));
    let source = membership::run(Inputs {
        config: config.clone(),
        endpoints: endpoints_seen,
        health,
        commands: command_seen,
        out,
    });
    let probing = probe::run(config.clone(), report.clone(), probes_out);
    let telling = events::run(shared.clone());
    let serving = http::serve(&config, shared);
    let flow = flow(
        &config,
        &reconciler,
        (membership, report),
        Tellers {
            endpoints,
            conflist: conflist_out,
            health: health_out,
            events: events.clone(),
        },
    );
    events.tell(News {
        kind: Kind::Daemon,
        verdict: Verdict::Good,
        object: config.node_name.clone(),
        text: format!("heddle {} has started", env!("CARGO_PKG_VERSION")),
        remedy: None,
    });
    if let Some(file) = &config.exposed {
        events.tell(News {
            kind: Kind::Daemon,
            verdict: Verdict::Bad,
            object: file.display().to_string(),
            text: "others than root may read or change the secrets in it".into(),
            remedy: Some(format!(
                "chown root {0} && chmod 600 {0}, and replace \"keys\" if others use this host",
                file.display()
            )),
        });
    }
    tokio::select! {
        ended = source => ended.map_err(Failure::Host),
        ended = probing => ended.map_err(Failure::Host),
        ended = serving => ended.map_err(Failure::Host),
        () = flow => Ok(()),
        () = counting => Ok(()),
        () = reading => Ok(()),
        () = telling => Ok(()),
        signal = stopped() => {
            tracing::info!("{} received: the data path stays", signal?);
            Ok(())
        }
    }
}

async fn stopped() -> Result<&'static str, Failure> {
    let said = |error: std::io::Error| Failure::Host(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(said)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(said)?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Nothing is written where another user's link leads.
fn check_directories(config: &Config) -> Result<(), Failure> {
    let directories = [
        ("run_dir", &config.run_dir),
        ("state_dir", &config.state_dir),
        ("cni_conf_dir", &config.cni_conf_dir),
    ];
    directories.iter().try_for_each(|(key, directory)| {
        files::check_way(directory).map_err(|error| Failure::Host(format!("\"{key}\": {error}")))
    })
}

/// One daemon for each run directory.
fn lock(config: &Config) -> Result<File, Failure> {
    let path = config.run_dir.join("lock");
    let said = |error: std::io::Error| {
        Failure::Host(format!(
            "cannot use {}: {error}: run as root, or set \"run_dir\"",
            path.display()
        ))
    };
    fs::create_dir_all(&config.run_dir).map_err(said)?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(said)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Host(format!(
            "another heddle daemon runs already: it holds {}",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(said(error)),
    }
}

/// Ranges that lie across what the host reaches by other means would cut it off: that is not begun at all.
fn check_host(config: &Config) -> Result<(), Failure> {
    let said = |error: netlink::Error| Failure::Host(error.to_string());
    let mut handle = Handle::new().map_err(said)?;
    let endpoints = Local::find(&mut handle, config)
        .map(|local| local.endpoints)
        .unwrap_or_default();
    let bridge = handle
        .link(&config.bridge)
        .map_err(said)?
        .map(|link| link.index);
    let main = RouteFilter {
        table: Some(netlink::route::MAIN_TABLE),
        ..RouteFilter::default()
    };
    let routes = handle.routes(main).map_err(said)?;
    let others = routes.iter().filter(|route| {
        route.protocol != Some(PROTOCOL) && (route.dev.is_none() || route.dev != bridge)
    });
    let others: Vec<_> = others.map(|route| route.dst).collect();
    config
        .check_against(&endpoints, &others)
        .map_err(Failure::Configuration)
}

/// What follows from the membership, given the view that followed from it before.
fn input(config: &Config, membership: &Membership, before: Option<&View>) -> Input {
    let own = Node {
        name: config.node_name.clone(),
        endpoints: Vec::new(),
        vtep_mac: vtep_mac(&config.node_name),
        pod_cidrs: membership.own_cidrs.clone(),
    };
    Input {
        own,
        view: membership
            .is_known
            .then(|| Arc::new(View::follow(before, &membership.nodes, config))),
        is_settled: membership.is_settled,
    }
}

/// Where [`flow`] says what follows.
struct Tellers {
    endpoints: watch::Sender<Vec<std::net::IpAddr>>,
    conflist: watch::Sender<Result<String, String>>,
    health: watch::Sender<Health>,
    events: Events,
}

/// Passes on what one task says to those who need it.
async fn flow(
    config: &Config,
    reconciler: &Reconciler,
    (mut membership, mut report): (watch::Receiver<Membership>, watch::Receiver<Report>),
    tell: Tellers,
) {
    let conflist = Conflist::new(config);
    let status_file = StatusFile::new(config);
    let mut judge = Judge::default();
    let mut look = ticks::every(LOOK);
    let (mut view, mut trouble) = (None, None);
    loop {
        tokio::select! {
            Ok(()) = membership.changed() => {
                let input = input(config, &membership.borrow_and_update(), view.as_deref());
                view.clone_from(&input.view);
                reconciler.send(input);
            }
            Ok(()) = report.changed() => {
                let local = report.borrow_and_update().local.clone();
                tell.endpoints.send_if_modified(|known| {
                    let now = local.map(|local| local.endpoints).unwrap_or_default();
                    // An address that is away for a moment is no news: nobody could be told of it.
                    let new = !now.is_empty() && *known != now;
                    if new {
                        *known = now;
                    }
                    new
                });
            }
            _ = look.tick() => {}
        }
        let state = keep(
            &conflist,
            &membership.borrow(),
            &report.borrow(),
            &tell.events,
        );
        let health = judge.judge(&membership.borrow(), &report.borrow(), &state);
        // Before anyone hears of it: whoever then asks the plugin gets the same answer.
        if *tell.health.borrow() != health || trouble.is_some() || !status_file.path().is_file() {
            let now = status_file.write(&health).err();
            if now != trouble {
                tell.events.tell(unwritten(&status_file, now.as_deref()));
                trouble = now;
            }
        }
        tell.conflist
            .send_if_modified(|known| std::mem::replace(known, state.clone()) != state);
        tell.health
            .send_if_modified(|known| std::mem::replace(known, health.clone()) != health);
    }
}

/// The news that the plugin does not hear how the node is, or hears it again.
fn unwritten(file: &StatusFile, why: Option<&str>) -> News {
    let (verdict, text) = match why {
        Some(why) => (
            Verdict::Bad,
            format!("{why}: STATUS of the plugin goes by what it said before"),
        ),
        None => (Verdict::Good, "written again".to_owned()),
    };
    News {
        kind: Kind::Problem,
        verdict,
        object: file.path().display().to_string(),
        text,
        remedy: why.map(|_| "make room in \"run_dir\"".to_owned()),
    }
}

/// Puts the conflist where it belongs, or says why it is not there.
fn keep(
    conflist: &Conflist,
    membership: &Membership,
    report: &Report,
    events: &Events,
) -> Result<String, String> {
    let tell = |verdict, text: &str, remedy: Option<&str>| {
        events.tell(News {
            kind: Kind::Conflist,
            verdict,
            object: conflist.path().display().to_string(),
            text: text.to_owned(),
            remedy: remedy.map(str::to_owned),
        });
    };
    if membership.own_cidrs.is_empty() {
        return Err("the conflist waits for this node's pod CIDR".to_owned());
    }
    if !membership.may_hand_out {
        if conflist.fence()? {
            tell(
                Verdict::Bad,
                "taken from the runtime: the node may give no addresses away",
                Some(
                    "`heddle status` says what its claim lacks; it is put back when that is there",
                ),
            );
        }
        return Err(
            "the conflist is taken from the runtime, because this node may give no addresses away"
                .to_owned(),
        );
    }
    let carries =
        report.problems.is_empty() && report.carries.as_ref() == Some(&membership.own_cidrs);
    let Some(local) = report.local.as_ref().filter(|_| carries) else {
        // Once written it stays: pods that live go on living, and DEL needs it.
        return match conflist.is_there() {
            true => Ok(conflist.path().display().to_string()),
            false => Err("the conflist waits for the data path".to_owned()),
        };
    };
    if conflist.write(&membership.own_cidrs, local.overlay_mtu())? {
        tell(Verdict::Good, "written", None);
    }
    Ok(conflist.path().display().to_string())
}
