//! The page as a real browser has it: what stands in it, that nothing goes wrong in it, and that names are only names.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::overlay::{Cluster, Member};
use lab::{Fabric, Node, Output, Result};
use serde_json::{Value, json};

/// Where the daemon has its page, and where the made-up one is.
const REAL: &str = "127.0.0.1:9946";
const MADE_UP: &str = "127.0.0.1:9947";
/// Names that would do harm where they were taken for HTML, or for a property that every object has.
const EVIL: [&str; 4] = [
    "<img src=x onerror=\"window.owned=1\">",
    "\"><script>window.owned=1</script>",
    "__proto__",
    "constructor",
];
const PEERS: usize = 200;

/// Runs the browser on a node for some (virtual) seconds of a page.
fn chromium(node: &Node, url: &str, size: &str, last: &str) -> Result<Output> {
    let mut command = node.command("chromium");
    let words = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --enable-logging=stderr \
                 --user-data-dir=/run/chromium --virtual-time-budget=15000";
    command.args(words.split_whitespace());
    command.args([&format!("--window-size={size}"), last, url]);
    command.env("HOME", "/run/chromium");
    command.deadline(Duration::from_secs(120)).output()
}

/// The DOM of a page, in `stdout`.
fn dump(node: &Node, url: &str, size: &str) -> Result<Output> {
    let dump = chromium(node, url, size, "--dump-dom")?;
    ensure!(dump.stdout.contains("</html>"), "{dump:?}");
    Ok(dump)
}

/// Opens a page on a node, and returns its DOM; a picture of it goes to `target/tmp/NAME.png`. Whatever the browser has to
/// complain of is an error.
fn open(node: &Node, url: &str, name: &str, size: &str) -> Result<String> {
    let picture = chromium(node, url, size, "--screenshot=/run/page.png")?;
    let bytes = node.run(|| fs::read("/run/page.png"));
    let bytes = bytes.with_context(|| format!("no screenshot: {picture:?}"))?;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    fs::write(file, bytes)?;
    let dump = dump(node, url, size)?;
    for output in [&picture, &dump] {
        let said = output.stderr.lines();
        let complaints: Vec<_> = said.filter(|line| line.contains(":CONSOLE")).collect();
        ensure!(complaints.is_empty(), "{complaints:#?}");
    }
    Ok(dump.stdout)
}

/// The opening tag of the element that an attribute belongs to.
fn tag<'a>(dom: &'a str, attribute: &str) -> Result<&'a str> {
    let at = dom
        .find(attribute)
        .with_context(|| format!("no {attribute} in {dom}"))?;
    let begin = dom[..at].rfind('<').unwrap_or_default();
    let end = dom[at..].find('>').map_or(dom.len(), |end| at + end);
    Ok(&dom[begin..end])
}

pub fn three_nodes() -> Result {
    let cluster = Cluster::fixed(&format!("http = \"{REAL}\""))?;
    let member = &cluster.members[0];
    let url = format!("http://{REAL}/#node=n3");
    let dom = open(&member.node, &url, "page-3", "1280,1000")?;
    ensure!(dom.contains("<title>n1 – heddle</title>"), "{dom}");
    ensure!(
        tag(&dom, "id=\"ready\"")?.contains("class=\"fast\""),
        "{dom}"
    );
    ensure!(tag(&dom, "id=\"stale\"")?.contains("hidden"), "{dom}");
    ensure!(
        tag(&dom, "data-name=\"n1\"")?.contains("n1: this node, ready"),
        "{dom}"
    );
    for (name, path) in [("n2", "direct"), ("n3", "vxlan")] {
        let node = tag(&dom, &format!("data-name=\"{name}\""))?;
        ensure!(node.contains("data-state=\"established\""), "{node}");
        let said = format!("aria-label=\"{name}: established, path {path}, RTT ");
        let rest = node
            .split(&said)
            .nth(1)
            .with_context(|| format!("no {said} in {node}"))?;
        ensure!(rest.starts_with(|c: char| c.is_ascii_digit()), "{node}");
        ensure!(rest.contains("0 % lost, MTU 1450"), "{node}");
        // The line says the same without a pointer, a voice or a colour.
        ensure!(
            dom.contains(&format!(">{path} · ")),
            "no label of {path} in {dom}"
        );
        let way = dom
            .split(&format!("data-way=\"{name}\""))
            .nth(1)
            .unwrap_or_default();
        let way = way.split("data-way").next().unwrap_or_default();
        ensure!(
            way.split("</g>")
                .next()
                .unwrap_or_default()
                .contains("way tube")
                == (path == "vxlan"),
            "{way}"
        );
    }
    // The node that the address names is shown whole.
    ensure!(dom.contains("<h2 id=\"detail-title\">n3</h2>"), "{dom}");
    ensure!(
        dom.contains("<dd>10.32.3.0/24, fd32:0:0:3::/64</dd>"),
        "{dom}"
    );
    ensure!(
        dom.contains("<b>n2</b>: established"),
        "no event of n2 in {dom}"
    );
    open(&member.node, &url, "page-3-narrow", "640,1200").map(drop)
}

/// One node's daemon gives the page with its headers, the test what the page asks for.
pub fn many_nodes() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let config = format!("membership = \"static\"\nhttp = \"{REAL}\"");
    let mut member = Member::new(&fabric, "n1", 1, 11, &config)?;
    let own =
        "[[node]]\nname = \"n1\"\nendpoints = [\"192.0.1.11\"]\npod_cidrs = [\"10.32.1.0/24\"]\n";
    member
        .node
        .run(|| fs::write("/etc/heddle/nodes.toml", own))?;
    member.start()?;
    member.wait_ready(0)?;
    let page = member.node.run(page)?;
    ensure!(
        page.contains("content-security-policy: default-src 'none'; script-src 'sha256-"),
        "{page}"
    );
    member.stop(true)?;
    let listener = member.node.run(|| TcpListener::bind(MADE_UP))?;
    let server = member.node.spawn(move || serve(&listener, &page));

    let dom = open(
        &member.node,
        &format!("http://{MADE_UP}/"),
        "page-200",
        "1280,2400",
    )?;
    ensure!(dom.matches("role=\"button\"").count() == PEERS + 1, "{dom}");
    for name in EVIL {
        let name = name.replace('<', "&lt;").replace('>', "&gt;");
        ensure!(
            dom.contains(&format!("<b>{name}</b>")),
            "no event of {name} in {dom}"
        );
        ensure!(
            dom.contains(&format!(">{name}</button>")),
            "no row of {name} in {dom}"
        );
    }
    ensure!(!dom.contains("<img"), "{dom}");
    ensure!(dom.matches("<script").count() == 1, "{dom}");
    open(
        &member.node,
        &format!("http://{MADE_UP}/"),
        "page-200-narrow",
        "640,2400",
    )?;

    let dom = dump(
        &member.node,
        &format!("http://{MADE_UP}/driven"),
        "1280,1000",
    )?
    .stdout;
    let found = dom.split("<pre id=\"driven\">").nth(1);
    let found = found.and_then(|rest| rest.split("</pre>").next());
    let found = found.with_context(|| format!("the script ended early: {dom}"))?;
    let found: Value = serde_json::from_str(found)?;
    let wanted = json!({
        "owned": false, "images": 0, "scripts": 2, "tiles": PEERS + 1,
        "byKey": "w002", "byClick": "w150", "byRow": "w001", "evil": "__proto__",
        "filtered": 10, "star": true, "byState": true, "stale": true,
    });
    ensure!(found == wanted, "{found:#} instead of {wanted:#}");
    drop(
        member
            .node
            .run(|| TcpStream::connect(MADE_UP)?.write_all(b"GET /end\r\n\r\n")),
    );
    server.join().ok().context("the server")
}

/// The daemon's answer to `GET /`, headers and all.
fn page() -> Result<String> {
    let mut stream = TcpStream::connect(REAL)?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: heddle\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Serves the daemon's page with a made-up status and events, one request at a time, until it is asked for `/end`.
fn serve(listener: &TcpListener, page: &str) {
    let (status, events) = (status().to_string(), events().to_string());
    let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // A script of the test's own is not in the policy, so this one goes without.
    let driven = body.replace("</body>", &format!("<script>{DRIVER}</script></body>"));
    let mut is_broken = false;
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut request = String::new();
        let mut lines = BufReader::new(&stream);
        while lines.read_line(&mut request).is_ok_and(|length| length > 2) {}
        let json = |text: &str| answer("200 OK", "application/json", text);
        let answer = match request.split(' ').nth(1).map(str::trim_end) {
            Some("/") => page.to_owned(),
            Some("/driven") => answer("200 OK", "text/html", &driven),
            Some("/status") if is_broken => answer("500 Internal Server Error", "text/plain", ""),
            Some("/status") => json(&status),
            Some("/events") => json(&events),
            Some("/break") => {
                is_broken = true;
                json("{}")
            }
            Some("/end") => return,
            _ => answer("404 Not Found", "text/plain", ""),
        };
        // A browser that has gone away is not missed.
        stream.write_all(answer.as_bytes()).ok();
    }
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A node that sees 200 peers in every state, four of them with names of the worst kind.
fn status() -> Value {
    let states = [
        "unreachable",
        "failed",
        "suspect",
        "down",
        "waiting",
        "probing",
    ];
    let names = (0..PEERS - EVIL.len()).map(|n| format!("w{n:03}"));
    let names = names.chain(EVIL.map(str::to_owned));
    let peers = names.enumerate().map(|(n, name)| {
        let state = if n % 20 == 7 {
            states[n / 20 % states.len()]
        } else {
            "established"
        };
        let is_reached = state == "established";
        let path = match state {
            "failed" | "waiting" => "none",
            _ => ["vxlan", "direct", "direct+vxlan"][n % 3],
        };
        let peer = json!({
            "state": state,
            "path": path,
            "endpoint": format!("192.0.2.{n}"),
            "pod_cidrs": [format!("10.32.{n}.0/24")],
            "mtu": is_reached.then_some(1450),
            "rtt_us": is_reached.then_some([240, 900, 3_100, 45_000][n % 4]),
            "loss_percent": if !is_reached { 100 } else if n % 17 == 0 { 20 } else { 0 },
            "reason": (!is_reached).then_some(EVIL[0]),
            "next_probe_s": 1,
        });
        (name, peer)
    });
    json!({
        "node": "n1", "version": "0.1.0", "ready": false, "problems": EVIL, "notes": EVIL,
        "pod_cidrs": ["10.32.1.0/24"], "underlay": "eth0", "endpoints": ["192.0.2.250"], "mtu": 1450,
        "conflist": null, "peers": peers.collect::<serde_json::Map<_, _>>(), "passes": 7, "writes": 600,
        "changes": {"route": 200},
    })
}

fn events() -> Value {
    let event = |name: &&str| {
        json!({
            "at": "2026-01-02T03:04:05Z", "count": 2, "kind": "peer_state", "verdict": "bad",
            "object": name, "text": format!("unreachable: {name}"), "remedy": name,
        })
    };
    EVIL.iter().map(event).collect()
}

/// What a person does with keys and a mouse, and what comes of it.
const DRIVER: &str = include_str!("page_driver.js");
