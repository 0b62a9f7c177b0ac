//! What the daemon answers on its socket and, where configured, on a TCP port: the page at `/`, `/status`, `/events`,
//! `/healthz`, `/readyz`, `/metrics`, and `POST /forget/NODE` on the socket only.

mod connections;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::extract::{self, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

use self::connections::for_this_host;
use crate::calls::Calls;
use crate::config::Config;
use crate::drops::Drops;
use crate::events::{Event, Events};
use crate::fast_path;
use crate::gc;
use crate::membership::{Command, Membership};
use crate::metrics;
use crate::page;
use crate::probe::Probes;
use crate::reconciler::Report;
use crate::status::{Sources, Status};

/// Name of the socket in the run directory.
pub const SOCKET: &str = "heddle.sock";

/// Where the answers come from.
#[derive(Clone, Debug)]
pub struct Shared {
    /// This node's name.
    pub node: String,
    /// What the membership source knows.
    pub membership: watch::Receiver<Membership>,
    /// What came of it in the kernel.
    pub report: watch::Receiver<Report>,
    /// How the overlay carries packets.
    pub probes: watch::Receiver<Probes>,
    /// Path of the conflist, or why it is not in place.
    pub conflist: watch::Receiver<Result<String, String>>,
    /// How the fast path stands, where it is wanted.
    pub fast_path: watch::Receiver<Option<fast_path::State>>,
    /// The plugins' calls.
    pub calls: Calls,
    /// What the host drops.
    pub drops: watch::Receiver<Drops>,
    /// What has happened.
    pub events: Events,
    /// What people ask for.
    pub commands: mpsc::Sender<Command>,
}

impl Shared {
    /// What the node says of itself at the moment.
    pub fn status(&self) -> Status {
        let sources = Sources {
            node: &self.node,
            membership: &self.membership.borrow(),
            report: &self.report.borrow(),
            probes: &self.probes.borrow(),
            conflist: &self.conflist.borrow(),
            fast_path: &self.fast_path.borrow(),
            drops: &self.drops.borrow(),
        };
        sources.status()
    }
}

/// Serves for ever. Only root may connect to the socket. On the port whoever reaches it may read; on a loopback address that
/// is nobody from elsewhere, nor a browser that is made to ask by a name of somebody else's.
///
/// # Errors
/// When the socket or the port cannot be had.
pub async fn serve(config: &Config, shared: Shared) -> Result<(), String> {
    let socket = listen(&config.run_dir.join(SOCKET))?;
    let on_socket = connections::serve(socket, for_root(shared.clone()));
    let Some(address) = config.http else {
        match on_socket.await {}
    };
    let port = TcpListener::bind(address).await.map_err(|error| {
        format!("\"http\": cannot listen on {address}: {error}: end what has the port, or choose another")
    })?;
    let mut open = for_readers().with_state(shared);
    if address.ip().is_loopback() {
        open = for_this_host(open);
    }
    let on_port = connections::serve(port, open);
    tokio::select! {
        never = on_socket => match never {},
        never = on_port => match never {},
    }
}

/// What whoever reaches the port may read.
fn for_readers() -> Router<Shared> {
    Router::new()
        .route("/", get(page::page))
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// What stands on the socket.
fn for_root(shared: Shared) -> Router {
    let all = for_readers().route("/forget/{node}", post(forget));
    for_this_host(all.with_state(shared))
}

/// Answers one connection as the socket does.
#[cfg(any(test, fuzzing))]
pub(crate) async fn answer(stream: tokio::net::UnixStream, shared: Shared) {
    connections::answer(stream, for_root(shared)).await;
}

/// The socket takes its name when nobody but root may use it any more. The lock is ours, so one that is still there is of a
/// daemon that is not.
fn listen(path: &Path) -> Result<UnixListener, String> {
    let said = |error: std::io::Error| format!("cannot listen on {}: {error}", path.display());
    let fresh = path.with_extension("new");
    std::fs::remove_file(&fresh).ok();
    let socket = UnixListener::bind(&fresh).map_err(said)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(said)?;
    std::fs::rename(&fresh, path).map_err(said)?;
    Ok(socket)
}

async fn status(State(shared): State<Shared>) -> Json<Status> {
    Json(shared.status())
}

async fn events(State(shared): State<Shared>) -> Json<Vec<Event>> {
    Json(shared.events.recent())
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    let status = shared.status();
    match status.ready {
        true => (StatusCode::OK, "ready".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, status.problems.join("\n")),
    }
}

async fn metrics(State(shared): State<Shared>) -> String {
    metrics::text(&metrics::Sources {
        status: &shared.status(),
        report: &shared.report.borrow(),
        probes: &shared.probes.borrow(),
        calls: &shared.calls,
        events: &shared.events,
        drops: &shared.drops.borrow(),
        leases: &gc::leases().unwrap_or_default(),
    })
}

/// Browsers say where a POST comes from: a page of somebody else's must not use a socket that is forwarded to a port.
async fn forget(
    State(shared): State<Shared>,
    headers: HeaderMap,
    extract::Path(node): extract::Path<String>,
) -> StatusCode {
    if headers.contains_key(header::ORIGIN) {
        return StatusCode::FORBIDDEN;
    }
    match shared.commands.send(Command::Forget(node)).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::NOT_IMPLEMENTED,
    }
}
