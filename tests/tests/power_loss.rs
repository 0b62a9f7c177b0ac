//! The power goes while an address is given out or taken back. What a call writes to the lease store is recorded with
//! strace; then each state is made that a file system may show after the next boot, where any write that nobody waited for
//! can be there, missing, or a name without content, in any combination, with directories that look untouched or not. On
//! each of them the plugin has to go on.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::{Case, Need, Node, Plugins, Result};
use serde_json::{Value, json};

const STORE: &str = "/var/lib/cni/networks";
const LEASES: &str = "/var/lib/cni/networks/lab";
const INDEX: &str = "/var/lib/cni/networks/.heddle/lab";
/// How many addresses the range has for pods: .2 to .6.
const ROOM: usize = 5;

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("strace")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case("while_addresses_are_given_out", || {
            while_calling("ADD", "y")
        }),
        case("while_addresses_are_taken_back", || {
            while_calling("DEL", "x")
        }),
    ])
}

/// What there is under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
}

/// A change of one name: what is there afterwards.
type Change = (PathBuf, Option<Entry>);

/// How much of a change has reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Nothing,
    NameOnly,
    All,
}

struct Machine {
    node: Node,
    plugins: Plugins,
    boots: std::cell::Cell<u32>,
}

impl Machine {
    fn new() -> Result<Machine> {
        let node = Node::new("node")?;
        sh(
            node.space(),
            "echo 00000000-0000-4000-8000-000000000000 > /run/boot\n\
             mount --bind /run/boot /proc/sys/kernel/random/boot_id",
        )?;
        Ok(Machine {
            plugins: Plugins::heddle(&node)?,
            node,
            boots: Default::default(),
        })
    }

    /// The kernel's id of this boot is another.
    fn boot(&self) -> Result {
        self.boots.set(self.boots.get() + 1);
        let id = format!("{:08x}-0000-4000-8000-000000000000\n", self.boots.get());
        Ok(self.node.run(|| fs::write("/run/boot", id))?)
    }

    fn call(&self, verb: &str, container: &str, keys: Value) -> lab::Call {
        let conf = json!({"cniVersion": "1.1.0", "name": "lab", "type": "host-local", "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.88.0.0/29"}], [{"subnet": "fd88::/125"}]]}});
        let conf = lab::conf::with(conf, keys);
        let call = self.plugins.call(verb, &conf);
        call.id(container).ifname("eth0").netns("/run/netns/gone")
    }

    fn add(&self, container: &str) -> Result<Value> {
        let reply = self.call("ADD", container, json!({})).send()?;
        reply
            .result()
            .with_context(|| format!("ADD of {container}"))
    }

    fn del(&self, container: &str) -> Result {
        let reply = self.call("DEL", container, json!({})).send()?;
        reply.done().with_context(|| format!("DEL of {container}"))
    }

    /// The addresses that have a file.
    fn leases(&self) -> Result<Vec<String>> {
        self.node.run(|| {
            let names = fs::read_dir(LEASES)?
                .map(|file| Ok(file?.file_name().into_string().unwrap_or_default()));
            let names: Vec<String> = names.collect::<std::io::Result<_>>()?;
            Ok(names
                .into_iter()
                .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
                .collect())
        })
    }

    /// Gives out addresses until there are none, which has to be said by code 11; none of them twice.
    fn fill(&self, names: &str) -> Result<usize> {
        let mut given = BTreeSet::new();
        loop {
            let name = format!("{names}{}", given.len());
            let reply = self.call("ADD", &name, json!({})).send()?;
            if !reply.is_success() {
                let (code, message) = reply.failure()?;
                ensure!(code == 11, "{code}: {message}");
                return Ok(given.len());
            }
            let address = reply.result()?["ips"][0]["address"].to_string();
            ensure!(
                given.insert(address.clone()),
                "{address} was given out twice"
            );
        }
    }
}

fn while_calling(verb: &str, container: &str) -> Result {
    let machine = Machine::new()?;
    machine.add("x")?;
    let before = machine.node.run(tree)?;
    let sealed = machine.node.run(|| fs::metadata(LEASES)?.modified())?;
    let changes = record(&machine, verb, container)?;
    let mut states = 0;
    for state in states_of(&changes) {
        for looks_untouched in [true, false] {
            states += 1;
            let what = || {
                format!(
                    "{verb}, on the disk is {state:?} of {changes:?}, untouched: {looks_untouched}"
                )
            };
            let restore = || restore(&machine, &before, &changes, &state, sealed, looks_untouched);
            restore()?;
            the_runtime_deletes_all(&machine).with_context(what)?;
            restore()?;
            nobody_deletes(&machine).with_context(what)?;
        }
    }
    ensure!(states > 15, "only {states} states");
    lab::soak::say(&format!(
        "power loss in {verb}: {} writes, {states} states, no address twice, none lost",
        changes.len()
    ));
    Ok(())
}

/// New pods come, then the late DELs of those that the power loss has killed: each frees its own addresses.
fn the_runtime_deletes_all(machine: &Machine) -> Result {
    machine.boot()?;
    let new = [machine.add("new1")?, machine.add("new2")?];
    ensure!(new[0]["ips"] != new[1]["ips"], "given out twice");
    machine.del("x")?;
    machine.del("y")?;
    for (name, result) in ["new1", "new2"].iter().zip(&new) {
        let check = machine.call("CHECK", name, json!({"prevResult": result}));
        check
            .send()?
            .done()
            .with_context(|| format!("CHECK of {name}"))?;
        machine.del(name)?;
    }
    // A name without content is nobody's: GC takes it, or an ADD that finds no other address.
    let owned = machine.leases()?.into_iter().filter(|address| {
        let file = Path::new(LEASES).join(address);
        machine
            .node
            .run(|| fs::metadata(file))
            .is_ok_and(|file| file.len() > 0)
    });
    let owned: Vec<_> = owned.collect();
    ensure!(owned.is_empty(), "lost: {owned:?}");
    let gc = machine.call("GC", "", json!({"cni.dev/valid-attachments": []}));
    gc.send()?.done()?;
    ensure!(
        machine.leases()?.is_empty(),
        "GC leaves {:?}",
        machine.leases()?
    );
    Ok(())
}

/// No runtime remembers the dead. What of theirs is not known to be of an earlier boot is so by the next one.
fn nobody_deletes(machine: &Machine) -> Result {
    machine.boot()?;
    let first = machine.fill("first")?;
    ensure!(first + 1 >= ROOM, "only {first} of {ROOM} addresses");
    machine.boot()?;
    let second = machine.fill("second")?;
    ensure!(
        second == ROOM,
        "only {second} of {ROOM} addresses after one more boot"
    );
    Ok(())
}

/// The changes that the call makes, in its order, with what they make of each name.
fn record(machine: &Machine, verb: &str, container: &str) -> Result<Vec<Change>> {
    let reply = machine.call(verb, container, json!({})).traced().send()?;
    reply.done()?;
    let after = machine.node.run(tree)?;
    let mut changes: Vec<Change> = Vec::new();
    for line in reply.trace.lines() {
        let name = line
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start();
        let changes_names = ["linkat(", "symlink(", "unlink(", "rename("]
            .iter()
            .any(|call| name.starts_with(call))
            || name.starts_with("open") && name.contains("O_TRUNC");
        ensure!(
            !name.contains("sync("),
            "the model knows of no barriers: {line}"
        );
        // The name that is changed is the last.
        let path = name.rsplit('"').nth(1).map(PathBuf::from);
        if let Some(path) = path.filter(|path| changes_names && path.starts_with(STORE))
            && !line.contains(" = -1 ")
            && !changes.iter().any(|(known, _)| *known == path)
        {
            let now = after.iter().find(|(name, _)| *name == path);
            changes.push((path, now.map(|(_, entry)| entry.clone())));
        }
    }
    ensure!(changes.len() >= 3, "{changes:?}");
    Ok(changes)
}

/// Every combination; in the short version what the hint which address came last says is left to chance of the order.
fn states_of(changes: &[Change]) -> Vec<Vec<Reached>> {
    let mut states = vec![Vec::new()];
    for (path, becomes) in changes {
        let is_hint = path.to_string_lossy().contains("last_reserved_ip");
        let possible: &[Reached] = match becomes {
            Some(Entry::File(_)) if is_hint && !lab::soak::is_on() => &[Reached::NameOnly],
            Some(Entry::File(_)) => &[Reached::Nothing, Reached::NameOnly, Reached::All],
            _ => &[Reached::Nothing, Reached::All],
        };
        let longer = |state: Vec<Reached>| {
            possible.iter().map(move |reached| {
                let mut longer = state.clone();
                longer.push(*reached);
                longer
            })
        };
        states = states.into_iter().flat_map(longer).collect();
    }
    states
}

/// Every file and link of the store.
fn tree() -> Result<Vec<(PathBuf, Entry)>> {
    let mut found = Vec::new();
    for dir in [LEASES, INDEX] {
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            let entry = match fs::read_link(&path) {
                Ok(target) => Entry::Link(target),
                Err(_) => Entry::File(fs::read(&path)?),
            };
            found.push((path, entry));
        }
    }
    Ok(found)
}

/// Makes the disk what it was, with so much of the changes; `looks_untouched` gives both directories the time that they
/// had when the store was last in order.
fn restore(
    machine: &Machine,
    before: &[(PathBuf, Entry)],
    changes: &[Change],
    state: &[Reached],
    sealed: SystemTime,
    looks_untouched: bool,
) -> Result {
    machine.node.run(|| -> Result {
        for (path, _) in tree()? {
            fs::remove_file(path)?;
        }
        for (path, entry) in before {
            put(path, entry)?;
        }
        for ((path, becomes), reached) in changes.iter().zip(state) {
            if *reached != Reached::Nothing && fs::symlink_metadata(path).is_ok() {
                fs::remove_file(path)?;
            }
            match (reached, becomes) {
                (Reached::All, Some(entry)) => put(path, entry)?,
                (Reached::NameOnly, Some(_)) => put(path, &Entry::File(Vec::new()))?,
                _ => {}
            }
        }
        let at = if looks_untouched {
            sealed
        } else {
            SystemTime::now()
        };
        for dir in [LEASES, INDEX] {
            File::open(dir)?.set_modified(at)?;
        }
        Ok(())
    })
}

fn put(path: &Path, entry: &Entry) -> Result {
    match entry {
        Entry::File(content) => fs::write(path, content)?,
        Entry::Link(target) => symlink(target, path)?,
    }
    Ok(())
}
