//! What serves by HTTP as an API server does, for as long as the test runs.
use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use axum::Router;

use crate::{Result, Space};

/// Serves at an address of a place, in a thread of its own.
pub(super) fn start(space: &Space, address: SocketAddr, routes: Router) -> Result {
    let listener = space
        .run(|| TcpListener::bind(address))
        .with_context(|| format!("listening on {address} in {}", space.name()))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, routes).await
        })
    });
    Ok(())
}
