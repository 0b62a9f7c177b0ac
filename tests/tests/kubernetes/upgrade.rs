//! A new version of the daemon, node by node, while pods talk; and the condition that says whether they can.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::kubernetes::Kubectl;
use lab::probe::{LossMeter, TcpEcho, UdpEcho, exchange};
use lab::{Result, wait};

use crate::shared::{self, Lab, NEXT, NODES, PATIENCE, Pod, condition};

/// Measures what gets lost from `from` to each of `to` while `body` runs: of a datagram every millisecond, and of
/// connections made one after the other.
pub fn without_loss(from: &Pod, to: &[&Pod], body: impl FnOnce() -> Result) -> Result {
    let udp = to
        .iter()
        .map(|pod| UdpEcho::start(&pod.space, SocketAddr::new(pod.ip, 7001)));
    let udp: Vec<UdpEcho> = udp.collect::<Result<_>>()?;
    let tcp = to
        .iter()
        .map(|pod| TcpEcho::start(&pod.space, SocketAddr::new(pod.ip, 7002)));
    let tcp: Vec<TcpEcho> = tcp.collect::<Result<_>>()?;
    let meters = udp
        .iter()
        .map(|echo| LossMeter::start(&from.space, echo.address()));
    let meters: Vec<LossMeter> = meters.collect::<Result<_>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = tcp.iter().map(|echo| {
        let (space, to, stop) = (from.space.clone(), echo.address(), Arc::clone(&stop));
        thread::spawn(move || {
            let (mut made, mut failed) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                made += 1;
                failed.extend(
                    exchange(&space, to, b"hello")
                        .err()
                        .map(|error| format!("{error:#}")),
                );
                thread::sleep(Duration::from_millis(10));
            }
            (made, failed)
        })
    });
    let callers: Vec<_> = callers.collect();
    let done = body();
    stop.store(true, Ordering::Relaxed);
    for (to, (meter, caller)) in to.iter().zip(meters.into_iter().zip(callers)) {
        let loss = meter.stop()?;
        let (made, failed) = caller.join().ok().context("the caller panicked")?;
        println!(
            "{} -> {}: {} of {} datagrams lost, longest gap {:.1} ms; {} of {made} connections failed",
            from.node,
            to.node,
            loss.lost.len(),
            loss.sent,
            loss.longest_gap.as_secs_f64() * 1e3,
            failed.len()
        );
        ensure!(loss.lost.is_empty(), "{loss:?}");
        ensure!(failed.is_empty(), "{failed:?}");
    }
    done
}

/// The DaemonSet rolled to another version and back.
pub fn rolled() -> Result {
    shared::with(|lab| {
        let pods = lab.pods("app=web", NODES.len())?;
        without_loss(&pods[0], &[&pods[1], &pods[2]], || {
            for image in [NEXT, lab::oci::HEDDLE] {
                let start = Instant::now();
                roll(lab, image)?;
                println!(
                    "rolled to {image} in {:.1} s",
                    start.elapsed().as_secs_f64()
                );
            }
            Ok(())
        })
    })
}

fn roll(lab: &Lab, image: &str) -> Result {
    let kubectl = lab.kubectl();
    kubectl.run(&format!(
        "-n heddle set image daemonset heddle heddle={image} install={image}"
    ))?;
    let mut status = kubectl.command("-n heddle rollout status daemonset heddle --timeout=300s");
    status.deadline(PATIENCE * 4).ok().map(drop)
}

/// The Node's condition is True while another has the VXLAN port, and False again when it has not.
pub fn condition_is_true() -> Result {
    shared::with(|lab| {
        let network = |wanted: &str| {
            Kubectl::until(
                Duration::from_secs(30),
                &format!("NetworkUnavailable={wanted}"),
                || {
                    let node = lab.kubectl().get("node n3")?;
                    let is = condition(&node, "NetworkUnavailable").to_owned();
                    ensure!(is == wanted, "it is {is}: {}", node["status"]["conditions"]);
                    Ok(())
                },
            )
        };
        let node = lab.cluster.worker("n3").node().space();
        network("False")?;
        // The other device can only be up when ours is not, and then the other way round.
        let batch =
            "link delete vxlan.heddle\\nlink add foreign up type vxlan id 1 dstport 8472\\n";
        let taken = wait::until(Duration::from_secs(5), "the port for another", || {
            sh(node, &format!("printf '{batch}' | ip -batch -"))
        });
        let told = taken.and_then(|_| network("True"));
        sh(node, "ip link delete foreign")?;
        told?;
        network("False")?;
        lab.wait_ready()
    })
}
