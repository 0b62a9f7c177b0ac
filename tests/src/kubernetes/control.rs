//! The control plane: etcd, the API server, the controller manager and the scheduler, on a node of their own.
use std::fs;
use std::time::Duration;

use super::certificates::{Certificates, kubeconfig, tokens};
use super::{API_SERVER, DIR, Programs};
use crate::{Daemon, Disk, Fabric, Node, Result, wait};

/// What every API server takes; certificates are below [`DIR`].
const API_FLAGS: [&str; 17] = [
    "--etcd-servers=http://127.0.0.1:2379",
    "--bind-address=0.0.0.0",
    "--secure-port=6443",
    "--insecure-port=0",
    "--tls-cert-file=/etc/kubernetes/server.crt",
    "--tls-private-key-file=/etc/kubernetes/server.key",
    "--token-auth-file=/etc/kubernetes/tokens.csv",
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-account-signing-key-file=/etc/kubernetes/accounts.key",
    "--service-account-key-file=/etc/kubernetes/accounts.pub",
    "--allow-privileged=true",
    "--endpoint-reconciler-type=lease",
    // Names of nodes mean nothing here: exec and logs go to their addresses.
    "--kubelet-preferred-address-types=InternalIP",
    "--event-ttl=10m",
];

const MANAGER_FLAGS: [&str; 10] = [
    "--allocate-node-cidrs",
    "--cluster-cidr=10.244.0.0/16",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--service-account-private-key-file=/etc/kubernetes/accounts.key",
    "--root-ca-file=/etc/kubernetes/ca.crt",
    "--use-service-account-credentials",
    "--leader-elect=false",
    "--node-monitor-period=2s",
    "--node-monitor-grace-period=20s",
    "--concurrent-gc-syncs=4",
];

/// The running control plane.
#[derive(Debug)]
pub struct Control {
    node: Node,
    programs: Programs,
    etcd: Daemon,
    api: Option<Daemon>,
    others: Vec<Daemon>,
}

impl Control {
    /// Starts it as host 10 of switch 1, for nodes with these names.
    pub(super) fn start(fabric: &Fabric, programs: &Programs, workers: &[&str]) -> Result<Control> {
        let node = Node::on_disk("control", &Disk::new()?)?;
        fabric.join(&node, 1, 10)?;
        let certificates = Certificates::new()?;
        let users = users(workers);
        node.run(|| write(&certificates, &users))?;
        let etcd = Daemon::start(
            node.space(),
            &["etcd", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync"],
        )?;
        let mut control = Control {
            node,
            programs: programs.clone(),
            etcd,
            api: None,
            others: Vec::new(),
        };
        control.start_api()?;
        for (program, user, flags) in [
            (
                "kube-controller-manager",
                "system:kube-controller-manager",
                &MANAGER_FLAGS[..],
            ),
            (
                "kube-scheduler",
                "system:kube-scheduler",
                &["--leader-elect=false"],
            ),
        ] {
            let client = ["", "authentication-", "authorization-"];
            let client = client.map(|kind| format!("--{kind}kubeconfig={DIR}/{user}.kubeconfig"));
            let flags = client
                .iter()
                .map(String::as_str)
                .chain(flags.iter().copied());
            let words = programs.words(program, flags);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let daemon = Daemon::start(control.node.space(), &words)?;
            control.others.push(daemon);
        }
        Ok(control)
    }

    /// The node that it runs on, where kubectl runs too.
    pub fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where the authority's certificate is for those who make a node.
    pub fn authority(&self) -> Result<String> {
        Ok(self
            .node
            .run(|| fs::read_to_string(format!("{DIR}/ca.crt")))?)
    }

    /// Starts the API server and waits until it answers.
    pub fn start_api(&mut self) -> Result {
        let advertised = format!("--advertise-address={API_SERVER}");
        let flags = API_FLAGS.into_iter().chain([advertised.as_str()]);
        let words = self.programs.words("kube-apiserver", flags);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.api = Some(Daemon::start(self.node.space(), &words)?);
        let kubectl = super::Kubectl::new(&self.node, &self.programs);
        wait::until(Duration::from_secs(60), "API server", || {
            kubectl.run("get --raw /readyz")
        })
        .map(drop)
        .map_err(|error| error.context(self.log()))
    }

    /// Kills the API server; etcd keeps what it knew.
    pub fn kill_api(&mut self) {
        self.api = None;
    }

    /// The end of each program's log.
    pub fn log(&self) -> String {
        let all = [&self.etcd]
            .into_iter()
            .chain(&self.api)
            .chain(&self.others);
        all.map(|daemon| super::tail(daemon, 3)).collect()
    }
}

/// Everyone who may ask the API server, with the group.
fn users(workers: &[&str]) -> Vec<(String, &'static str)> {
    let all = [
        ("admin", "system:masters"),
        ("system:kube-controller-manager", ""),
        ("system:kube-scheduler", ""),
        ("system:kube-proxy", ""),
        // As the DaemonSet's pods, for a daemon that is started by hand.
        ("system:serviceaccount:heddle:heddle", ""),
    ];
    let nodes = workers
        .iter()
        .map(|name| (format!("system:node:{name}"), "system:nodes"));
    all.into_iter()
        .map(|(user, group)| (user.to_owned(), group))
        .chain(nodes)
        .collect()
}

/// Writes what the programs read below [`DIR`].
fn write(certificates: &Certificates, users: &[(String, &str)]) -> Result {
    fs::create_dir_all(DIR)?;
    for (file, text) in [
        ("ca.crt", &certificates.authority),
        ("server.crt", &certificates.server),
        ("server.key", &certificates.server_key),
        ("accounts.key", &certificates.accounts_key),
        ("accounts.pub", &certificates.accounts_public),
        ("tokens.csv", &tokens(users)),
    ] {
        fs::write(format!("{DIR}/{file}"), text)?;
    }
    for (user, _) in users {
        fs::write(format!("{DIR}/{user}.kubeconfig"), kubeconfig(user))?;
    }
    Ok(())
}
