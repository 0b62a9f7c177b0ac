//! Memory runs out: the daemon dies and is started again, as by systemd, and no row of the kernel is wrong meanwhile.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member, Placed};
use lab::probe::ping;
use lab::{Result, wait};

/// Peers that nobody had counted on.
const MANY: usize = 2_000;
/// `RestartSec` of the unit.
const RESTART: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// The address space may not grow: allocations fail, and threads cannot be started (`RLIMIT_AS` of getrlimit(2)).
pub fn limited() -> Result {
    let mut scene = Scene::new()?;
    let size = scene.kilobytes("VmSize:")?;
    let words = format!("prlimit --as={} --", (size + 2_000) * 1024);
    scene.under(&words.split(' ').collect::<Vec<_>>(), |_| Ok(()))
}

/// The kernel kills what needs more than its cgroup has, version 2 or 1.
pub fn in_a_cgroup() -> Result {
    let Some(cgroup) = Cgroup::new() else {
        println!("skipped: no cgroup with a limit of memory can be made here");
        return Ok(());
    };
    let mut scene = Scene::new()?;
    let anonymous = scene.kilobytes("RssAnon:")?;
    cgroup.limit((anonymous + 2_000) * 1024)?;
    scene.under(&[], |member| cgroup.take(member))
}

struct Scene {
    cluster: Cluster,
    pods: Vec<Placed>,
    known: String,
}

impl Scene {
    fn new() -> Result<Scene> {
        let cluster = Cluster::fixed("")?;
        let nodes = || fs::read_to_string("/etc/heddle/nodes.toml");
        Ok(Scene {
            pods: cluster.pods()?,
            known: cluster.members[0].node.run(nodes)?,
            cluster,
        })
    }

    /// Of the first node's daemon, as proc_pid_status(5) has it.
    fn kilobytes(&self, key: &str) -> Result<usize> {
        let pid = self.cluster.members[0].pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context(key.to_owned())?.parse()?)
    }

    /// Starts the first node's daemon anew by way of `before`, and again whenever it dies, while its file of nodes grows.
    fn under(&mut self, before: &[&str], started: impl Fn(&Member) -> Result) -> Result {
        let rows = Rows::of(&self.cluster.members[0])?;
        self.cluster.members[0].stop(false)?;
        self.cluster.members[0].start_by(before)?;
        started(&self.cluster.members[0])?;
        self.cluster.members[0].wait_ready(2)?;
        let many: String = (0..MANY).map(peer).collect();
        self.write(&format!("{}{many}", self.known))?;
        let allowed = rows.with_many();
        let (start, mut deaths) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(super::seconds(4)) {
            std::thread::sleep(RESTART);
            let first = &mut self.cluster.members[0];
            if first.pid().is_err() {
                deaths += 1;
                // There is nobody left to be told.
                drop(first.stop(true));
                first.start_by(before)?;
                // It may be dead again.
                drop(started(first));
            }
            let now = Rows::of(first)?;
            ensure!(
                rows.0.is_subset(&now.0),
                "lost: {:?}",
                rows.0.difference(&now.0)
            );
            ensure!(
                now.0.is_subset(&allowed.0),
                "wrong: {:?}",
                now.0.difference(&allowed.0)
            );
            ping(self.pods[0].pod.space(), self.pods[2].addresses[0])?;
        }
        ensure!(deaths > 0, "there was memory enough");
        // Room again: as when somebody has raised the limit.
        let healed = Instant::now();
        let first = &mut self.cluster.members[0];
        drop(first.stop(true));
        first.start()?;
        wait::until(PATIENCE, "all rows", || {
            let (now, wanted) = (Rows::of(&self.cluster.members[0])?.0.len(), allowed.0.len());
            ensure!(now == wanted, "{now} of {wanted}");
            Ok(())
        })?;
        println!(
            "{deaths} deaths for want of memory in {} s, no row lost or wrong; with room all {MANY} peers after {:.1} s",
            super::seconds(4),
            healed.elapsed().as_secs_f64()
        );
        ensure!(
            Rows::of(&self.cluster.members[0])?.0 == allowed.0,
            "other rows"
        );
        Ok(())
    }

    fn write(&self, text: &str) -> Result {
        self.cluster.members[0].node.run(|| -> Result {
            fs::write("/etc/heddle/nodes.new", text)?;
            Ok(fs::rename(
                "/etc/heddle/nodes.new",
                "/etc/heddle/nodes.toml",
            )?)
        })
    }
}

fn place(number: usize) -> (String, String) {
    let (share, high, low) = (number * 4, number >> 8, number & 255);
    (
        format!("10.32.{}.{}/30", 64 + (share >> 8), share & 255),
        format!("198.18.{high}.{low}"),
    )
}

fn peer(number: usize) -> String {
    let (share, endpoint) = place(number);
    format!(
        "[[node]]\nname = \"p{number}\"\nendpoints = [\"{endpoint}\"]\npod_cidrs = [\"{share}\"]\n"
    )
}

/// Our routes and forwarding entries, by their destination.
struct Rows(BTreeSet<String>);

impl Rows {
    fn of(member: &Member) -> Result<Rows> {
        let text = sh(
            member.node.space(),
            "ip route show protocol 176; ip -6 route show protocol 176; bridge fdb show dev vxlan.heddle",
        )?;
        let rows = text.lines().map(|line| match line.split_once(" dst ") {
            Some((_, to)) => format!("to {}", to.split(' ').next().unwrap_or_default()),
            None => line.split(' ').next().unwrap_or_default().to_owned(),
        });
        Ok(Rows(rows.collect()))
    }

    /// With those that the peers nobody had counted on bring.
    fn with_many(&self) -> Rows {
        let many = (0..MANY).map(place);
        let many = many.flat_map(|(share, endpoint)| [share, format!("to {endpoint}")]);
        Rows(self.0.iter().cloned().chain(many).collect())
    }
}

/// A group of the machine's cgroups that limits memory; it goes with this.
struct Cgroup(PathBuf);

impl Cgroup {
    /// In the hierarchy that has a controller for memory, where there is one to be had.
    fn new() -> Option<Cgroup> {
        let name = format!("heddle-lab-{}-memory", std::process::id());
        ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
            .iter()
            .map(|hierarchy| Cgroup(Path::new(hierarchy).join(&name)))
            .find(|cgroup| fs::create_dir(&cgroup.0).is_ok() && cgroup.file().is_some())
    }

    fn file(&self) -> Option<PathBuf> {
        let files = ["memory.max", "memory.limit_in_bytes"].iter();
        files
            .map(|file| self.0.join(file))
            .find(|file| file.exists())
    }

    fn limit(&self, bytes: usize) -> Result {
        let file = self.file().context("no limit")?;
        fs::write(&file, bytes.to_string()).with_context(|| file.display().to_string())
    }

    fn take(&self, member: &Member) -> Result {
        Ok(fs::write(
            self.0.join("cgroup.procs"),
            member.pid()?.to_string(),
        )?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}
