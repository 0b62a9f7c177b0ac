//! What `heddle-cni` must never become: large, dynamic, slow to start, chatty with the kernel, or dearer with every
//! lease. All of it is counted, nothing is timed.
use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::{Case, Need, Node, Plugins, Result, Trace, conf, find};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let traced = [Need::HeddleCni, Need::Program("strace")];
    lab::main([
        Case::new("small_and_static", small_and_static).needs([Need::HeddleCni]),
        Case::new("what_an_add_calls_lies_together", order).needs([Need::HeddleCni]),
        Case::new("version_is_a_handful_of_calls", version).needs(traced),
        Case::new("add_and_del_start_nothing", starts_nothing).needs(traced),
        Case::new("add_costs_the_same_beside_many_leases", leases).needs(traced),
    ])
}

fn small_and_static() -> Result {
    let program = fs::read(find::heddle_cni()?)?;
    ensure!(program.len() < 2_000_000, "{} bytes", program.len());
    let interpreter = program_headers(&program)?.contains(&PT_INTERP);
    ensure!(!interpreter, "the executable asks for a dynamic linker");
    Ok(())
}

/// `PT_INTERP` of elf(5): the path of a dynamic linker.
const PT_INTERP: u32 = 3;

/// The types of the program headers of a 64-bit ELF file, elf(5).
fn program_headers(elf: &[u8]) -> Result<BTreeSet<u32>> {
    let field = |at: usize, length: usize| elf.get(at..at + length).context("a short ELF file");
    let offset = u64::from_ne_bytes(field(32, 8)?.try_into()?) as usize;
    let size = u16::from_ne_bytes(field(54, 2)?.try_into()?) as usize;
    let count = u16::from_ne_bytes(field(56, 2)?.try_into()?) as usize;
    (0..count)
        .map(|header| {
            Ok(u32::from_ne_bytes(
                field(offset + header * size, 4)?.try_into()?,
            ))
        })
        .collect()
}

/// `plugins/order.ld` still knows the names of the functions: 600 KB when this was written, 60 of them musl's. Where it does
/// not, `plugins/order.sh` makes it anew.
fn order() -> Result {
    let program = fs::read(find::heddle_cni()?)?;
    let size = section(&program, ".text.start")?;
    // The list is for programs of musl: these do not say what they run on.
    let is_musl = section(&program, ".note.ABI-tag")? == 0;
    ensure!(size > 300_000 || !is_musl, "{size} bytes");
    Ok(())
}

/// The size of a section of a 64-bit ELF file, elf(5).
fn section(elf: &[u8], name: &str) -> Result<usize> {
    let number = |at: usize, length: usize| -> Result<usize> {
        let bytes = elf.get(at..at + length).context("a short ELF file")?;
        let digits = bytes.iter().rev();
        Ok(digits.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (table, size, count) = (number(40, 8)?, number(58, 2)?, number(60, 2)?);
    let header = |index: usize| table + index * size;
    let names = number(header(number(62, 2)?) + 24, 8)?;
    let name = [name.as_bytes(), &[0]].concat();
    for header in (0..count).map(header) {
        let start = names + number(header, 4)?;
        if elf.get(start..start + name.len()) == Some(&name) {
            return number(header + 32, 8);
        }
    }
    Ok(0)
}

/// 22 calls when this was written, most of them the language's own start.
fn version() -> Result {
    let node = Node::new("version")?;
    let conf = json!({"cniVersion": "1.1.0", "type": "bridge"});
    let reply = Plugins::heddle(&node)?
        .call("VERSION", &conf)
        .traced()
        .send()?;
    reply.done()?;
    let calls = reply.trace.names().count();
    ensure!(
        calls < 40,
        "{calls} system calls: {:#?}",
        reply.trace.lines()
    );
    Ok(())
}

/// Everything on, both families.
fn everything() -> Value {
    conf::bridge(json!({
        "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true,
        "ipam": conf::dual_stack(),
    }))
}

fn starts_nothing() -> Result {
    let node = Node::new("starts")?;
    let plugins = Plugins::heddle(&node)?;
    for verb in ["ADD", "DEL"] {
        let pod = node.pod(verb)?;
        if verb == "DEL" {
            plugins.add(&everything(), &pod)?.done()?;
        }
        let reply = plugins
            .call(verb, &everything())
            .pod(&pod)
            .traced()
            .send()?;
        reply.done()?;
        ensure!(
            (reply.trace.programs(), reply.trace.forks()) == (0, 0),
            "{verb} started something: {:#?}",
            reply.trace.lines()
        );
    }
    Ok(())
}

/// The second ADD of a node, traced: the first one makes the bridge and reads what is on the disk.
fn second_add(leases: u32) -> Result<Trace> {
    let node = Node::new("leases")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = conf::bridge(json!({
        "isDefaultGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]]},
    }));
    lab::leases::fill(&node, leases)?;
    plugins.add(&conf, &node.pod("first")?)?.done()?;
    let pod = node.pod("second")?;
    let reply = plugins.call("ADD", &conf).pod(&pod).traced().send()?;
    reply.done()?;
    Ok(reply.trace)
}

fn leases() -> Result {
    // Waiting for the port's carrier is the one thing that differs from call to call.
    let cost = |trace: &Trace| {
        let files = ["open", "read", "readlink", "stat", "getdents64", "linkat"];
        (trace.count(&files), trace.names().count())
    };
    let (few, many) = (second_add(10)?, second_add(5_000)?);
    let ((few_files, few_all), (many_files, many_all)) = (cost(&few), cost(&many));
    ensure!(
        few_files == many_files,
        "{few_files} calls about files with 10 leases, {many_files} with 5000"
    );
    ensure!(
        few_all.abs_diff(many_all) < 30,
        "{few_all} calls with 10 leases, {many_all} with 5000"
    );
    Ok(())
}
