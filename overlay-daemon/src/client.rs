//! The other end of the daemon's socket: what the command line asks.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::http::SOCKET;

/// A daemon that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the daemon of a run directory, and returns what it says.
///
/// # Errors
/// A sentence that says why there is no answer.
pub async fn ask(
    run_dir: &Path,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), String> {
    match timeout(PATIENCE, answer(run_dir, method, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "the daemon at {} has not answered for {} seconds: restart it",
            run_dir.join(SOCKET).display(),
            PATIENCE.as_secs()
        )),
    }
}

async fn answer(run_dir: &Path, method: Method, path: &str) -> Result<(StatusCode, Bytes), String> {
    let socket = run_dir.join(SOCKET);
    let stream = UnixStream::connect(&socket).await.map_err(|error| {
        format!(
            "no daemon answers at {}: {error}: does `heddle daemon` run?",
            socket.display()
        )
    })?;
    let said =
        |error: hyper::Error| format!("the daemon at {} broke off: {error}", socket.display());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "heddle")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(said)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(said)?;
    Ok((status, body.to_bytes()))
}
