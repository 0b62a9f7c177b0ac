//! An API server of nothing but Nodes, as many and as large as one likes: what a large cluster is to a daemon.
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::server;
use crate::{Result, Space};

/// What is served, and what was asked for.
#[derive(Debug)]
struct Served {
    nodes: usize,
    size: usize,
    lists: AtomicUsize,
    pages: AtomicUsize,
    watches: AtomicUsize,
    writes: AtomicUsize,
}

/// The server. It ends with the process.
#[derive(Clone, Debug)]
pub struct ManyNodes {
    served: Arc<Served>,
}

impl ManyNodes {
    /// Serves `nodes` Nodes of `size` bytes each by HTTP at an address of a place. Lists are paged as the client wants
    /// them, watches stay silent, patches are taken and forgotten.
    pub fn start(
        space: &Space,
        address: SocketAddr,
        nodes: usize,
        size: usize,
    ) -> Result<ManyNodes> {
        let served = Arc::new(Served {
            nodes,
            size,
            lists: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        });
        let routes = Router::new()
            .route("/api/v1/nodes", get(list))
            .route("/api/v1/nodes/{name}", patch(write))
            .route("/api/v1/nodes/{name}/status", patch(write))
            .with_state(Arc::clone(&served));
        server::start(space, address, routes)?;
        Ok(ManyNodes { served })
    }

    /// The name of a Node.
    pub fn name(number: usize) -> String {
        format!("node-{number:04}")
    }

    /// How many whole lists were begun, and of how many pages they were.
    pub fn lists(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.served.lists), count(&self.served.pages))
    }

    /// How many watches were begun.
    pub fn watches(&self) -> usize {
        self.served.watches.load(Ordering::Relaxed)
    }

    /// How many patches came.
    pub fn writes(&self) -> usize {
        self.served.writes.load(Ordering::Relaxed)
    }
}

async fn list(
    State(served): State<Arc<Served>>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    if asked
        .get("watch")
        .is_some_and(|watch| watch == "true" || watch == "1")
    {
        served.watches.fetch_add(1, Ordering::Relaxed);
        let silence = futures_util::stream::pending::<std::result::Result<Bytes, Infallible>>();
        return Body::from_stream(silence).into_response();
    }
    let number = |key: &str| asked.get(key).and_then(|text| text.parse::<usize>().ok());
    let (first, limit) = (number("continue"), number("limit").unwrap_or(served.nodes));
    if first.is_none() {
        served.lists.fetch_add(1, Ordering::Relaxed);
    }
    served.pages.fetch_add(1, Ordering::Relaxed);
    let first = first.unwrap_or_default();
    let end = served.nodes.min(first.saturating_add(limit));
    let items: Vec<Value> = (first..end)
        .map(|number| node(number, served.size))
        .collect();
    let mut metadata = json!({"resourceVersion": "1000"});
    if end < served.nodes {
        metadata["continue"] = end.to_string().into();
    }
    Json(json!({"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": items}))
        .into_response()
}

async fn write(State(served): State<Arc<Served>>, Path(name): Path<String>) -> Json<Value> {
    served.writes.fetch_add(1, Ordering::Relaxed);
    let number = name.rsplit('-').next().and_then(|text| text.parse().ok());
    Json(node(number.unwrap_or_default(), served.size))
}

/// A Node as kubelet and a daemon would have it: a /29 of 10.32.0.0/16, somewhere behind the router, and images that make
/// up for the size.
fn node(number: usize, size: usize) -> Value {
    let share = u32::from_be_bytes([10, 32, 0, 0]) + u32::try_from(number * 8).unwrap_or_default();
    let cidr = format!("{}/29", std::net::Ipv4Addr::from(share));
    let endpoint = format!("198.18.{}.{}", number >> 8, number & 0xff);
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": ManyNodes::name(number),
            "uid": format!("00000000-0000-0000-0000-{number:012}"),
            "resourceVersion": "900", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": ManyNodes::name(number)},
            "annotations": {"heddle.dev/endpoints": endpoint, "heddle.dev/capabilities": "vni=1,vxlan-port=8472"},
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": endpoint}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [],
        },
    });
    let mut length = node.to_string().len();
    let mut images = Vec::new();
    while length < size {
        let image = json!({
            "names": [format!("registry.example/team/image-{}@sha256:{:064x}", images.len(), number)],
            "sizeBytes": 123_456_789,
        });
        length += image.to_string().len() + 1;
        images.push(image);
    }
    node["status"]["images"] = images.into();
    node
}
