//! The connections of one listener: so many at once, none for ever, and only those that speak to this host.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

/// A request's head has to be there within this time, and after an answer the next one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once. One more, and the oldest has to go: however many come, a new one is heard.
const MOST: usize = 64;
/// After an accept that failed, as it does when there are no descriptors left.
const AGAIN: Duration = Duration::from_millis(200);

/// Where connections come from.
pub(super) trait Listener {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next of them.
    async fn next(&self) -> std::io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&self) -> std::io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn next(&self) -> std::io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers by `routes` whoever connects, for ever.
pub(super) async fn serve(listener: impl Listener, routes: Router) -> Infallible {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.next().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!("cannot accept a connection: {error}");
                // What is open holds what is missing.
                if let Some(oldest) = open.pop_front() {
                    oldest.abort();
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MOST
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(answer(stream, routes.clone()));
        open.push_back(task.abort_handle());
    }
}

/// Answers one connection until it ends. What goes wrong on it concerns nobody else.
pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
) {
    let answers = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    drop(answers.await);
}

/// Answers only those that ask for this host by a name that nobody else can give it. A page of somebody else's, whose own
/// name suddenly resolves to this host's address (DNS rebinding), must not read what stands here.
pub(super) fn for_this_host(routes: Router) -> Router {
    routes.layer(from_fn(check_host))
}

async fn check_host(request: Request, next: Next) -> Response {
    match is_this_host(request.headers()) {
        true => next.run(request).await,
        false => (
            StatusCode::MISDIRECTED_REQUEST,
            "ask by this host's address, or as localhost\n",
        )
            .into_response(),
    }
}

/// Whether `Host` is an address, `localhost`, or `heddle`, as our own command line says. Programs may leave it out, browsers
/// never do.
fn is_this_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true;
    };
    let host = host.to_str().unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok()
        || ["localhost", "heddle"].contains(&name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anybody_can_give_is_not_this_host() {
        let of = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_this_host(&headers)
        };
        for good in [
            "localhost",
            "localhost:9946",
            "127.0.0.1:9946",
            "10.0.0.7",
            "[::1]:9946",
            "[::1]",
            "heddle",
        ] {
            assert!(of(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:9946",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9946",
            "localhost@evil.example",
        ] {
            assert!(!of(bad), "{bad}");
        }
        assert!(is_this_host(&HeaderMap::new()));
    }
}
