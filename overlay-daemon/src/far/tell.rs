//! The daemon's side of a question: who may ask, and how many at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, watch};
use tokio::task;

use super::{Question, is_a_nodes, look};
use crate::config::Config;
use crate::reconciler::Report;

/// Looks at the same time, each of them a thread for a millisecond.
const AT_ONCE: usize = 4;

/// Answers other nodes' questions.
#[derive(Debug)]
pub struct Teller {
    config: Config,
    report: watch::Receiver<Report>,
    places: Arc<Semaphore>,
}

impl Teller {
    /// `report` says who the other nodes are.
    pub fn new(config: Config, report: watch::Receiver<Report>) -> Self {
        Self {
            config,
            report,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Looks, and answers by the same socket. What comes when too many look already is not answered.
    pub fn tell(&self, bytes: &[u8], from: SocketAddr, socket: Arc<UdpSocket>) {
        let Some((number, question)) = Question::decode(bytes) else {
            return;
        };
        if !is_a_nodes(&self.report.borrow(), from.ip()) {
            return;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return;
        };
        let (config, report) = (self.config.clone(), self.report.borrow().clone());
        tokio::spawn(async move {
            let looking = task::spawn_blocking(move || look::look(&config, &report, &question));
            if let Ok(Some(told)) = looking.await {
                // What cannot be sent is not answered either.
                let _ = socket.send_to(&told.encode(number), from).await;
            }
            drop(place);
        });
    }
}
