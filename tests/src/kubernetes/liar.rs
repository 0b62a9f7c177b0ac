//! An API server of nothing but Nodes that answers as it is told to: with the truth, with nonsense, or not at all.
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::server;
use crate::overlay::Member;
use crate::{Fabric, Result, Space};

/// How the server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With these Nodes, by name.
    Nodes(BTreeMap<String, Value>),
    /// With this text instead of a list, and as each event of a watch.
    Text(String),
    /// With this status and no Nodes.
    Refusal(u16),
    /// Never.
    Silence,
}

#[derive(Debug)]
struct Served {
    answer: Answer,
    version: u64,
    /// Lists that were asked for since the answer is what it is.
    lists: usize,
    watches: Vec<UnboundedSender<Bytes>>,
}

/// The server. It ends with the process.
#[derive(Clone, Debug)]
pub struct Liar(Arc<Mutex<Served>>);

/// `410 Gone`, as a watch says it: the list has to be read anew.
const GONE: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;

/// A Node as kubelet, Kubernetes and a daemon have written it.
pub fn node(name: &str, endpoint: &str, cidr: &str) -> (String, Value) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name, "resourceVersion": "900", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"heddle.dev/endpoints": endpoint, "heddle.dev/capabilities": "vni=1,vxlan-port=8472"},
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {},
    });
    (name.to_owned(), node)
}

impl Liar {
    /// Serves at the router of a fabric's switch 1, beside a member that will ask it, host `host` there.
    pub fn with_member(
        fabric: &Fabric,
        name: &str,
        host: u8,
        answer: Answer,
    ) -> Result<(Liar, Member)> {
        // A port for each that asks.
        let server = SocketAddr::new([192, 0, 1, 1].into(), 8000 + u16::from(host));
        let liar = Self::start(fabric.space(), server, answer)?;
        let config = "membership = \"kubernetes\"\nkubeconfig = \"/etc/heddle/kubeconfig\"";
        let member = Member::new(fabric, name, 1, host, config)?;
        let client = Self::kubeconfig(server);
        member
            .node
            .run(|| std::fs::write("/etc/heddle/kubeconfig", client))?;
        Ok((liar, member))
    }

    /// What a client of the server at an address reads.
    pub fn kubeconfig(server: SocketAddr) -> String {
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: c, cluster: {{server: \"http://{server}\"}}}}]\n\
             users: [{{name: u, user: {{token: any}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
             current-context: x\n"
        )
    }

    /// Serves by HTTP at an address of a place.
    pub fn start(space: &Space, address: SocketAddr, answer: Answer) -> Result<Liar> {
        let liar = Liar(Arc::new(Mutex::new(Served {
            answer,
            version: 1000,
            lists: 0,
            watches: Vec::new(),
        })));
        let written = || async { Json(json!({"metadata": {"name": "any"}})) };
        let routes = Router::new()
            .route("/api/v1/nodes", get(nodes))
            .route("/api/v1/nodes/{name}", get(one_node).patch(written))
            .route("/api/v1/nodes/{name}/status", patch(written))
            .with_state(liar.clone());
        server::start(space, address, routes)?;
        Ok(liar)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Served) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers like this from now on; every watch hears that it is too old, and ends.
    pub fn answer(&self, answer: Answer) {
        self.with(|served| {
            served.answer = answer;
            served.version += 1;
            served.lists = 0;
            for watch in served.watches.drain(..) {
                drop(watch.send(Bytes::from(format!("{GONE}\n"))));
            }
        });
    }

    /// Tells every watch that these Nodes are so now, without a list; they are the truth from then on.
    pub fn modify(&self, changed: Vec<(String, Value)>) {
        self.with(|served| {
            let mut events = String::new();
            for (name, mut node) in changed {
                served.version += 1;
                node["metadata"]["resourceVersion"] = served.version.to_string().into();
                events += &format!("{}\n", json!({"type": "MODIFIED", "object": node}));
                if let Answer::Nodes(nodes) = &mut served.answer {
                    nodes.insert(name, node);
                }
            }
            let events = Bytes::from(events);
            served
                .watches
                .retain(|watch| watch.send(events.clone()).is_ok());
        });
    }

    /// How many lists were asked for since it answers as it does.
    pub fn lists(&self) -> usize {
        self.with(|served| served.lists)
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.with(|served| {
            served.watches.retain(|watch| !watch.is_closed());
            served.watches.len()
        })
    }
}

async fn one_node(State(liar): State<Liar>, Path(name): Path<String>) -> Response {
    let node = liar.with(|served| match &served.answer {
        Answer::Nodes(nodes) => nodes.get(&name).cloned(),
        _ => None,
    });
    let node = node.map(Json).ok_or(StatusCode::NOT_FOUND);
    node.into_response()
}

async fn nodes(State(liar): State<Liar>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let is_watch = asked.contains_key("watch");
    let (answer, version) = liar.with(|served| {
        served.lists += usize::from(!is_watch);
        (served.answer.clone(), served.version)
    });
    match answer {
        Answer::Silence => std::future::pending().await,
        Answer::Refusal(code) => StatusCode::from_u16(code)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Nodes(_) if is_watch => {
            let (sender, receiver) = unbounded_channel();
            liar.with(|served| served.watches.push(sender));
            let events = futures_util::stream::unfold(receiver, |mut receiver| async {
                let bytes = receiver.recv().await?;
                Some((Ok::<_, Infallible>(bytes), receiver))
            });
            Body::from_stream(events).into_response()
        }
        Answer::Nodes(nodes) => {
            let items: Vec<&Value> = nodes.values().collect();
            Json(json!({
                "kind": "NodeList", "apiVersion": "v1",
                "metadata": {"resourceVersion": version.to_string()}, "items": items,
            }))
            .into_response()
        }
    }
}
